#include "common.cuh"

// Which weights have the least scores, and SparseGPT's walk through the columns. Matrices have a column per row of the weights.
//
// Scores are not negative, so their bits are in their order. The last score that is removed is searched by its bits, 8 at a time from the
// top: 31 bits in the steps 31 to 23, to 15, to 7, to 0. Of equal scores those in lower columns go first, in the whole matrix then those
// in lower rows. What is removed is described by two numbers per row, the cuts: the bits of the greatest score that is removed, and
// the last column in which that score is removed. All counts are whole numbers, so nothing depends on the order of threads.

// Rows of the weights that a block of threads takes, where it takes them side by side.
#define LANES 32
// Threads that share a row's columns, where they do.
#define SLICES 8
// Values of 8 bits; also threads of a block, where it counts for the whole matrix.
#define BINS 256

// The bits of |value| * factor, or of factor * value².
static __device__ __forceinline__ int keyOf(float value, float factor, int squared) {
  float score = squared ? factor * value * value : fabsf(value) * factor;
  return __float_as_int(score) & 0x7fffffff;
}

// The bits of a key from shift on, below those from above on.
static __device__ __forceinline__ int digitOf(int key, int above, int shift) {
  return (key >> shift) & ((1 << (above - shift)) - 1);
}

static __device__ __forceinline__ bool isRemoved(const int *cuts, int rows, int row, int column, int key) {
  int last = cuts[row];
  return key < last || (key == last && column <= cuts[rows + row]);
}

// The cuts that remove so many weights of each row. Blocks of LANES x SLICES threads: a counter for each digit and row fits shared memory,
// the counters of neighbouring rows lie in different banks, and neighbouring threads read neighbouring numbers.
extern "C" __global__ void cutRows(
    const float *values, const float *factors, int squared, int columns, int rows, int removed, int *cuts) {
  __shared__ int bins[BINS][LANES];
  __shared__ int prefixes[LANES];
  __shared__ int ranks[LANES];
  int lane = threadIdx.x;
  int slice = threadIdx.y;
  int row = blockIdx.x * LANES + lane;
  bool within = row < rows;
  if (slice == 0) {
    prefixes[lane] = 0;
    ranks[lane] = removed;
  }
  for (int above = 31, shift; above > 0; above = shift) {
    shift = max(above - 8, 0);
    for (int i = slice; i < BINS; i += SLICES) {
      bins[i][lane] = 0;
    }
    __syncthreads();
    int prefix = prefixes[lane];
#pragma unroll 4
    for (int j = slice; within && j < columns; j += SLICES) {
      int key = keyOf(values[(long long) j * rows + row], factors[j], squared);
      if (key >> above == prefix) {
        atomicAdd(&bins[digitOf(key, above, shift)][lane], 1);
      }
    }
    __syncthreads();
    if (slice == 0 && within) {
      int rank = ranks[lane];
      int digit = 0;
      while (rank > bins[digit][lane]) {
        rank -= bins[digit++][lane];
      }
      prefixes[lane] = prefix << (above - shift) | digit;
      ranks[lane] = rank;
    }
    __syncthreads();
  }
  // Among the equal ones, a slice's columns follow each other.
  int prefix = prefixes[lane];
  int share = (columns + SLICES - 1) / SLICES;
  int begin = min(slice * share, columns);
  int end = min(begin + share, columns);
  int equal = 0;
  for (int j = begin; within && j < end; j++) {
    equal += keyOf(values[(long long) j * rows + row], factors[j], squared) == prefix ? 1 : 0;
  }
  bins[slice][lane] = equal;
  __syncthreads();
  if (!within) {
    return;
  }
  int rank = ranks[lane];
  for (int i = 0; i < slice; i++) {
    rank -= bins[i][lane];
  }
  if (slice == 0) {
    cuts[row] = prefix;
    if (rank == 0) {
      cuts[rows + row] = -1;
    }
  }
  if (rank > 0 && rank <= equal) {
    for (int j = begin; rank > 0; j++) {
      if (keyOf(values[(long long) j * rows + row], factors[j], squared) == prefix) {
        rank--;
        cuts[rows + row] = j;
      }
    }
  }
}

// The search in the whole matrix. state: the rank within the scores that have the bits found so far, and these bits; both are set in the
// first step.

// Adds how often each digit occurs, to bins. Blocks of BINS threads.
extern "C" __global__ void countDigits(
    const float *values,
    const float *factors,
    int squared,
    int columns,
    int rows,
    int above,
    int shift,
    const long long *state,
    unsigned long long *bins) {
  __shared__ unsigned own[BINS];
  own[threadIdx.x] = 0;
  __syncthreads();
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  int prefix = above == 31 ? 0 : (int) state[1];
  for (int j = blockIdx.y; row < rows && j < columns; j += gridDim.y) {
    int key = keyOf(values[(long long) j * rows + row], factors[j], squared);
    if (key >> above == prefix) {
      atomicAdd(&own[digitOf(key, above, shift)], 1u);
    }
  }
  __syncthreads();
  if (own[threadIdx.x] > 0) {
    atomicAdd(&bins[threadIdx.x], (unsigned long long) own[threadIdx.x]);
  }
}

// Adds the digit of the rank to the bits, and empties the bins. One block of BINS threads.
extern "C" __global__ void chooseDigit(unsigned long long *bins, int above, int shift, long long removed, long long *state) {
  __shared__ long long counts[BINS];
  counts[threadIdx.x] = (long long) bins[threadIdx.x];
  bins[threadIdx.x] = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    long long rank = above == 31 ? removed : state[0];
    long long prefix = above == 31 ? 0 : state[1];
    int digit = 0;
    while (rank > counts[digit]) {
      rank -= counts[digit++];
    }
    state[0] = rank;
    state[1] = prefix << (above - shift) | digit;
  }
}

// equal[column] = how many scores of a column are the one that was found. A block for each column.
extern "C" __global__ void countEqual(
    const float *values, const float *factors, int squared, int rows, const long long *state, int *equal) {
  __shared__ int count;
  if (threadIdx.x == 0) {
    count = 0;
  }
  __syncthreads();
  int column = blockIdx.x;
  int prefix = (int) state[1];
  int own = 0;
  for (int row = threadIdx.x; row < rows; row += blockDim.x) {
    own += keyOf(values[(long long) column * rows + row], factors[column], squared) == prefix ? 1 : 0;
  }
  if (own > 0) {
    atomicAdd(&count, own);
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    equal[column] = count;
  }
}

struct Place {
  int index;
  long long rank; // within what is counted there
};

// Where the sum of n counts reaches a rank of at least 1. By one block of BINS threads; sums and found are in shared memory.
template <class Count>
static __device__ __forceinline__ Place reach(Count count, int n, long long rank, long long *sums, long long *found) {
  int share = (n + BINS - 1) / BINS;
  int begin = min((int) threadIdx.x * share, n);
  int end = min(begin + share, n);
  long long own = 0;
  for (int i = begin; i < end; i++) {
    own += count(i);
  }
  sums[threadIdx.x] = own;
  __syncthreads();
  for (int i = 0; i < (int) threadIdx.x; i++) {
    rank -= sums[i];
  }
  if (rank > 0 && rank <= own) {
    int i = begin;
    while (rank > count(i)) {
      rank -= count(i++);
    }
    found[0] = i;
    found[1] = rank;
  }
  // No barrier after these reads: the next search has one before it writes here.
  __syncthreads();
  return {(int) found[0], found[1]};
}

// The cuts of all rows for what was found. One block of BINS threads.
extern "C" __global__ void cutWhole(
    const float *values,
    const float *factors,
    int squared,
    int columns,
    int rows,
    const long long *state,
    const int *equal,
    int *cuts) {
  __shared__ long long sums[BINS];
  __shared__ long long found[2];
  int prefix = (int) state[1];
  int column = -1;
  int last = rows;
  if (state[0] > 0) {
    Place place = reach([=](int i) { return equal[i]; }, columns, state[0], sums, found);
    column = place.index;
    float factor = factors[column];
    const float *line = values + (long long) column * rows;
    last = reach([=](int i) { return keyOf(line[i], factor, squared) == prefix ? 1 : 0; }, rows, place.rank, sums, found)
               .index;
  }
  // Rows after the last weight that is removed end a column before.
  for (int row = threadIdx.x; row < rows; row += BINS) {
    cuts[row] = prefix;
    cuts[rows + row] = row <= last ? column : column - 1;
  }
}

// Sets what the cuts remove to 0.
extern "C" __global__ void removeWeights(float *weights, const float *factors, int columns, int rows, const int *cuts) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  for (int j = blockIdx.y; row < rows && j < columns; j += gridDim.y) {
    float *weight = weights + (long long) j * rows + row;
    if (isRemoved(cuts, rows, row, j, keyOf(*weight, factors[j], 0))) {
      *weight = 0;
    }
  }
}

// Sets so many of each `of` columns to 0. A thread for some groups of a row.
extern "C" __global__ void removeByPattern(
    float *weights, const float *factors, int columns, int rows, int removed, int of) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  for (int first = blockIdx.y * of; row < rows && first < columns; first += gridDim.y * of) {
    float *group = weights + (long long) first * rows + row;
    unsigned mask = 0;
    for (int i = 0; i < of; i++) {
      int key = keyOf(group[(long long) i * rows], factors[first + i], 0);
      int before = 0;
      for (int j = 0; j < of; j++) {
        int other = keyOf(group[(long long) j * rows], factors[first + j], 0);
        before += other < key || (other == key && j < i) ? 1 : 0;
      }
      mask |= before < removed ? 1u << i : 0;
    }
    for (int i = 0; i < of; i++) {
      if (mask >> i & 1) {
        group[(long long) i * rows] = 0;
      }
    }
  }
}

// Columns that are walked between two matrix products.
#define BLOCK 128
// Columns that are walked together: what the columns before them feed back is added in registers.
#define TILE 32

// sorted[rank] = the factor's diagonal at a block's column of that rank. A thread for each of the block's columns.
extern "C" __global__ void diagonalByRank(
    const float *factor, int n, int begin, int width, const int *ranks, float *sorted) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < width) {
    sorted[ranks[begin + i]] = factor[(long long) (n - 1 - begin - i) * (n + 1)];
  }
}

// SparseGPT's walk through a block of columns, from place begin of the order on: SparseWalk on the CPU. A thread takes a row, blocks of
// LANES threads: a warp has enough to do with so many sums at a time, and few rows still fill the GPU.
//
// In errors, as in the factor, row n - 1 - i belongs to place i of the order; left (width, rows) has what earlier blocks feed back to the
// factor's rows of this block; targets (width, rows) what the columns become if none is removed, by the ranks of columns in the block.
// If freely, the walk removes nothing and writes targets, the errors are scratch. Otherwise it removes what the cuts say of the
// targets, or if of is not 0 so many of each `of` columns.
extern "C" __global__ void sparseWalk(
    const float *weights,
    const float *factor,
    float ridge,
    const int *order,
    const int *ranks,
    int n,
    int rows,
    int begin,
    int width,
    const float *left,
    int freely,
    const int *cuts,
    int removedOfGroup,
    int of,
    float *targets,
    float *errors,
    float *pruned,
    double *sums) {
  // fed[k][c]: by what the block's column k enters its column first + c; the diagonal's number where they are the same.
  __shared__ __align__(16) float fed[BLOCK][TILE];
  __shared__ float target[TILE][LANES];
  __shared__ float freeError[TILE][LANES];
  __shared__ int keys[TILE][LANES];
  int lane = threadIdx.x;
  int row = blockIdx.x * LANES + lane;
  order += begin;
  ranks += begin;
  weights += row;
  long long corner = n - 1 - begin;
  errors += corner * rows + row;
  float cost = 0;
  for (int first = 0; first < width; first += TILE) {
    int count = min(TILE, width - first);
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < first + count; k++) {
      fed[k][lane] = lane < count ? factor[(corner - k) * n + corner - first - lane] : 0;
    }
    __syncthreads();
    if (row >= rows) {
      continue;
    }
    float x[TILE];
#pragma unroll
    for (int c = 0; c < TILE; c++) {
      x[c] = 0;
      if (c < count) {
        float weight = weights[(long long) order[first + c] * rows];
        x[c] = begin > 0 ? left[(long long) (width - 1 - first - c) * rows + row] + weight : weight;
      }
    }
#pragma unroll 4
    for (int k = 0; k < first; k++) {
      float error = errors[-(long long) k * rows];
#pragma unroll
      for (int c = 0; c < TILE; c++) {
        x[c] = fmaf(fed[k][c], error, x[c]);
      }
    }
    unsigned removed = 0;
#pragma unroll
    for (int c = 0; c < TILE; c++) {
      target[c][lane] = x[c];
    }
    for (int c = 0; c < count && !freely && of == 0; c++) {
      int rank = ranks[first + c];
      int key = keyOf(targets[(long long) rank * rows + row], fed[first + c][c], 1);
      removed |= isRemoved(cuts, rows, row, rank, key) ? 1u << c : 0;
    }
    for (int c = 0; c < count; c++) {
      if (of > 0 && c % of == 0) {
        // The scores are those of what the group becomes if none of it is removed.
        for (int i = c; i < c + of; i++) {
          float y = target[i][lane];
          for (int k = c; k < i; k++) {
            y = fmaf(fed[first + k][i], freeError[k][lane], y);
          }
          freeError[i][lane] = weights[(long long) order[first + i] * rows] - y;
          keys[i][lane] = keyOf(y, fed[first + i][i], 1);
        }
        for (int i = c; i < c + of; i++) {
          int before = 0;
          for (int k = c; k < c + of; k++) {
            bool isLower = ranks[first + k] < ranks[first + i];
            before += keys[k][lane] < keys[i][lane] || (keys[k][lane] == keys[i][lane] && isLower) ? 1 : 0;
          }
          removed |= before < removedOfGroup ? 1u << i : 0;
        }
      }
      int column = order[first + c];
      float y = target[c][lane];
      float value = removed >> c & 1 ? 0 : y;
      float error = weights[(long long) column * rows] - value;
      errors[-(long long) (first + c) * rows] = error;
#pragma unroll 4
      for (int i = c + 1; i < count; i++) {
        target[i][lane] = fmaf(fed[first + c][i], error, target[i][lane]);
      }
      if (freely) {
        targets[(long long) ranks[first + c] * rows + row] = y;
      } else {
        // By the decomposition, what the column adds to the error is D (target - value)², less the ridge's part.
        float missed = y - value;
        cost += fed[first + c][c] * missed * missed - ridge * error * error;
        pruned[(long long) column * rows + row] = value;
      }
    }
  }
  if (row < rows && !freely) {
    sums[row] += cost;
  }
}
