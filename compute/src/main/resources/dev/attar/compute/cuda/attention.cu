// Causal attention with grouped queries and its derivative, without a matrix of positions by positions in memory (Dao et al., 2022).
//
// Queries, keys and values are matrices with a row per token, sequences of `length` after each other, and `heads` or `groups` parts of
// `size` numbers in a row. A block of THREADS threads works on a tile of TILE rows of one head, against one tile of the other side after
// the other. A product of two heads is summed up in pieces of TILE numbers, so that any size fits shared memory. A thread keeps ROWS x 2
// numbers of a tile in registers, and as many of each piece of its rows' results: those of up to SLICE columns, so that larger heads have
// several blocks in y, each of which computes the weights anew.

#define THREADS 256
#define TILE 32
#define ROWS 2
#define SLICE 128
#define PIECES (SLICE / TILE)

// A number more, so that a column's numbers lie in different banks.
typedef float Tile[TILE][TILE + 1];

#define SHAPE_PARAMETERS int length, int heads, int groups, int size, float scale, int window

// What a thread has of a tile: rows from ROWS * (thread / 16) on, columns thread % 16 and 16 more.
#define FIRST_ROW ((int) threadIdx.x / 16 * ROWS)
#define FIRST_COLUMN ((int) threadIdx.x % 16)

// Whether a query sees a key.
static __device__ __forceinline__ bool sees(int query, int key, int window) {
  return key <= query && (window == 0 || query - key < window);
}

// A tile of so many rows and columns of a matrix, zeros beyond them.
static __device__ __forceinline__ void load(const float *from, int stride, int rows, int columns, Tile &to) {
  int column = threadIdx.x % TILE;
  for (int row = threadIdx.x / TILE; row < TILE; row += THREADS / TILE) {
    to[row][column] = row < rows && column < columns ? from[(long long) row * stride + column] : 0;
  }
}

// sums += a b'.
static __device__ __forceinline__ void addDots(const Tile &a, const Tile &b, float (&sums)[ROWS][2]) {
#pragma unroll 8
  for (int k = 0; k < TILE; k++) {
    float first = b[FIRST_COLUMN][k];
    float second = b[FIRST_COLUMN + 16][k];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      float x = a[FIRST_ROW + i][k];
      sums[i][0] = fmaf(x, first, sums[i][0]);
      sums[i][1] = fmaf(x, second, sums[i][1]);
    }
  }
}

// sums += a b.
static __device__ __forceinline__ void addProduct(const Tile &a, const Tile &b, float (&sums)[ROWS][2]) {
#pragma unroll 8
  for (int k = 0; k < TILE; k++) {
    float first = b[k][FIRST_COLUMN];
    float second = b[k][FIRST_COLUMN + 16];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      float x = a[FIRST_ROW + i][k];
      sums[i][0] = fmaf(x, first, sums[i][0]);
      sums[i][1] = fmaf(x, second, sums[i][1]);
    }
  }
}

// sums += a' b.
static __device__ __forceinline__ void addTransposedProduct(const Tile &a, const Tile &b, float (&sums)[ROWS][2]) {
#pragma unroll 8
  for (int k = 0; k < TILE; k++) {
    float first = b[k][FIRST_COLUMN];
    float second = b[k][FIRST_COLUMN + 16];
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      float x = a[k][FIRST_ROW + i];
      sums[i][0] = fmaf(x, first, sums[i][0]);
      sums[i][1] = fmaf(x, second, sums[i][1]);
    }
  }
}

// Writes a thread's numbers of a tile's rows, those of a slice: factors[i] * sums[.][i][.].
static __device__ __forceinline__ void store(
    const float (&sums)[PIECES][ROWS][2], const float (&factors)[ROWS], int stride, int rows, int columns, float *to) {
#pragma unroll
  for (int piece = 0; piece < PIECES; piece++) {
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        int row = FIRST_ROW + i;
        int column = piece * TILE + FIRST_COLUMN + 16 * j;
        if (row < rows && column < columns) {
          to[(long long) row * stride + column] = factors[i] * sums[piece][i][j];
        }
      }
    }
  }
}

// The greatest of the numbers, or their sum, of the 16 threads that share rows.
static __device__ __forceinline__ float maxOfRow(float x) {
  for (int step = 8; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  }
  return x;
}

static __device__ __forceinline__ float sumOfRow(float x) {
  for (int step = 8; step > 0; step /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, step);
  }
  return x;
}

// The tile of a block, of `of` heads: blockIdx.x counts tiles, then heads, then sequences.
struct Place {
  int first, count; // positions of its rows
  int head;
  long long start; // the row of its sequence

  __device__ __forceinline__ Place(int length, int of) {
    int tiles = (length + TILE - 1) / TILE;
    first = blockIdx.x % tiles * TILE;
    count = min(TILE, length - first);
    head = blockIdx.x / tiles % of;
    start = (long long) (blockIdx.x / tiles / of) * length;
  }
};

// A block for each tile of queries and head, and in y for each slice of the result.
extern "C" __global__ void attend(
    const float *q, const float *k, const float *v, SHAPE_PARAMETERS, float *out, float *logSums) {
  __shared__ Tile queries, keys, weights;
  Place at(length, heads);
  int qStride = heads * size;
  int kStride = groups * size;
  int slice = blockIdx.y * SLICE;
  int columns = min(SLICE, size - slice);
  q += (at.start + at.first) * qStride + at.head * size;
  k += at.start * kStride + at.head / (heads / groups) * size;
  v += at.start * kStride + at.head / (heads / groups) * size + slice;
  float results[PIECES][ROWS][2] = {};
  float greatest[ROWS];
  float sums[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    greatest[i] = -INFINITY;
    sums[i] = 0;
  }
  int begin = window == 0 ? 0 : max(0, at.first - window + 1);
  int end = at.first + at.count;
  for (int first = begin; first < end; first += TILE) {
    int count = min(TILE, end - first);
    float products[ROWS][2] = {};
    for (int c = 0; c < size; c += TILE) {
      __syncthreads();
      load(q + c, qStride, at.count, size - c, queries);
      load(k + (long long) first * kStride + c, kStride, count, size - c, keys);
      __syncthreads();
      addDots(queries, keys, products);
    }
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
      int query = at.first + FIRST_ROW + i;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        bool seen = sees(query, first + FIRST_COLUMN + 16 * j, window);
        products[i][j] = seen ? scale * products[i][j] : -INFINITY;
      }
      // All is in relation to the greatest product so far. Before a row's first key there is none.
      float before = greatest[i];
      greatest[i] = fmaxf(before, maxOfRow(fmaxf(products[i][0], products[i][1])));
      float factor = before == -INFINITY ? 0 : expf(before - greatest[i]);
      sums[i] *= factor;
#pragma unroll
      for (int piece = 0; piece < PIECES; piece++) {
        results[piece][i][0] *= factor;
        results[piece][i][1] *= factor;
      }
#pragma unroll
      for (int j = 0; j < 2; j++) {
        float weight = products[i][j] == -INFINITY ? 0 : expf(products[i][j] - greatest[i]);
        sums[i] += weight;
        weights[FIRST_ROW + i][FIRST_COLUMN + 16 * j] = weight;
      }
    }
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
      if (piece * TILE < columns) {
        __syncthreads();
        load(v + (long long) first * kStride + piece * TILE, kStride, count, columns - piece * TILE, keys);
        __syncthreads();
        addProduct(weights, keys, results[piece]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    float sum = sumOfRow(sums[i]);
    int row = FIRST_ROW + i;
    if (blockIdx.y == 0 && FIRST_COLUMN == 0 && row < at.count) {
      logSums[(at.start + at.first + row) * heads + at.head] = greatest[i] + logf(sum);
    }
    sums[i] = 1 / sum;
  }
  store(results, sums, qStride, at.count, columns, out + (at.start + at.first) * qStride + at.head * size + slice);
}

// dots (n, heads) = out * outGradient summed over each head. A warp for each.
extern "C" __global__ void attendDots(const float *out, const float *outGradient, long long count, int size, float *dots) {
  long long i = ((long long) blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (i >= count) {
    return;
  }
  float sum = 0;
  for (int c = threadIdx.x % 32; c < size; c += 32) {
    sum = fmaf(out[i * size + c], outGradient[i * size + c], sum);
  }
  for (int step = 16; step > 0; step /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, step);
  }
  if (threadIdx.x % 32 == 0) {
    dots[i] = sum;
  }
}

// What the two kernels below have of a tile of queries and one of keys: the products of queries and keys, and those of the gradient
// and values. Pointers are to the first number of each tile.
static __device__ __forceinline__ void products(
    const float *q,
    const float *outGradient,
    int qStride,
    int qCount,
    const float *k,
    const float *v,
    int kStride,
    int kCount,
    int size,
    Tile &queries,
    Tile &gradients,
    Tile &keys,
    Tile &values,
    float (&ofKeys)[ROWS][2],
    float (&ofValues)[ROWS][2]) {
  for (int c = 0; c < size; c += TILE) {
    __syncthreads();
    load(q + c, qStride, qCount, size - c, queries);
    load(outGradient + c, qStride, qCount, size - c, gradients);
    load(k + c, kStride, kCount, size - c, keys);
    load(v + c, kStride, kCount, size - c, values);
    __syncthreads();
    addDots(queries, keys, ofKeys);
    addDots(gradients, values, ofValues);
  }
}

// The gradient of queries: a block for each tile of them and head, and in y for each slice. With P the softmax's weights, dP = outGradient
// v' and D = dots, the gradient of the products is dS = P * (dP - D), and that of queries scale dS k.
extern "C" __global__ void attendQueryGradient(
    const float *q,
    const float *k,
    const float *v,
    SHAPE_PARAMETERS,
    const float *logSums,
    const float *dots,
    const float *outGradient,
    float *qGradient) {
  __shared__ Tile queries, gradients, keys, values, slopes;
  Place at(length, heads);
  int qStride = heads * size;
  int kStride = groups * size;
  int slice = blockIdx.y * SLICE;
  int columns = min(SLICE, size - slice);
  long long origin = (at.start + at.first) * qStride + at.head * size;
  q += origin;
  outGradient += origin;
  qGradient += origin + slice;
  k += at.start * kStride + at.head / (heads / groups) * size;
  v += at.start * kStride + at.head / (heads / groups) * size;
  float results[PIECES][ROWS][2] = {};
  float factors[ROWS];
  float ownLogSums[ROWS];
  float ownDots[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    int row = FIRST_ROW + i;
    long long place = (at.start + at.first + row) * heads + at.head;
    factors[i] = scale;
    ownLogSums[i] = row < at.count ? logSums[place] : 0;
    ownDots[i] = row < at.count ? dots[place] : 0;
  }
  int begin = window == 0 ? 0 : max(0, at.first - window + 1);
  int end = at.first + at.count;
  for (int first = begin; first < end; first += TILE) {
    int count = min(TILE, end - first);
    long long tile = (long long) first * kStride;
    float ofKeys[ROWS][2] = {};
    float ofValues[ROWS][2] = {};
    products(
        q, outGradient, qStride, at.count, k + tile, v + tile, kStride, count, size, queries, gradients, keys, values,
        ofKeys, ofValues);
#pragma unroll
    for (int i = 0; i < ROWS; i++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        int row = FIRST_ROW + i;
        int column = FIRST_COLUMN + 16 * j;
        bool seen = row < at.count && sees(at.first + row, first + column, window);
        float weight = seen ? expf(scale * ofKeys[i][j] - ownLogSums[i]) : 0;
        slopes[row][column] = weight * (ofValues[i][j] - ownDots[i]);
      }
    }
#pragma unroll
    for (int piece = 0; piece < PIECES; piece++) {
      if (piece * TILE < columns) {
        __syncthreads();
        load(k + tile + slice + piece * TILE, kStride, count, columns - piece * TILE, keys);
        __syncthreads();
        addProduct(slopes, keys, results[piece]);
      }
    }
  }
  store(results, factors, qStride, at.count, columns, qGradient);
}

// The gradients of keys and values: a block for each tile of keys and group, and in y for each slice. That of values is P' outGradient,
// that of keys scale dS' q, over all queries that see them, of all heads of the group.
extern "C" __global__ void attendKeyGradient(
    const float *q,
    const float *k,
    const float *v,
    SHAPE_PARAMETERS,
    const float *logSums,
    const float *dots,
    const float *outGradient,
    float *kGradient,
    float *vGradient) {
  __shared__ Tile queries, gradients, keys, values, weights, slopes;
  Place at(length, groups);
  int qStride = heads * size;
  int kStride = groups * size;
  int slice = blockIdx.y * SLICE;
  int columns = min(SLICE, size - slice);
  long long origin = (at.start + at.first) * kStride + at.head * size;
  k += origin;
  v += origin;
  float ofK[PIECES][ROWS][2] = {};
  float ofV[PIECES][ROWS][2] = {};
  int last = at.first + at.count - 1;
  int end = window == 0 || window > length - last ? length : last + window;
  for (int i = 0; i < heads / groups; i++) {
    int head = at.head * (heads / groups) + i;
    for (int first = at.first; first < end; first += TILE) {
      int count = min(TILE, end - first);
      long long tile = (at.start + first) * qStride + head * size;
      float ofKeys[ROWS][2] = {};
      float ofValues[ROWS][2] = {};
      products(
          q + tile, outGradient + tile, qStride, count, k, v, kStride, at.count, size, queries, gradients, keys,
          values, ofKeys, ofValues);
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        int row = FIRST_ROW + i;
        long long place = (at.start + first + row) * heads + head;
        float logSum = row < count ? logSums[place] : 0;
        float dot = row < count ? dots[place] : 0;
#pragma unroll
        for (int j = 0; j < 2; j++) {
          int column = FIRST_COLUMN + 16 * j;
          bool seen = row < count && column < at.count && sees(first + row, at.first + column, window);
          float weight = seen ? expf(scale * ofKeys[i][j] - logSum) : 0;
          weights[row][column] = weight;
          slopes[row][column] = weight * (ofValues[i][j] - dot);
        }
      }
#pragma unroll
      for (int piece = 0; piece < PIECES; piece++) {
        if (piece * TILE < columns) {
          int c = slice + piece * TILE;
          __syncthreads();
          load(q + tile + c, qStride, count, size - c, queries);
          load(outGradient + tile + c, qStride, count, size - c, gradients);
          __syncthreads();
          addTransposedProduct(slopes, queries, ofK[piece]);
          addTransposedProduct(weights, gradients, ofV[piece]);
        }
      }
    }
  }
  float scales[ROWS];
  float ones[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; i++) {
    scales[i] = scale;
    ones[i] = 1;
  }
  store(ofK, scales, kStride, at.count, columns, kGradient + origin + slice);
  store(ofV, ones, kStride, at.count, columns, vGradient + origin + slice);
}
