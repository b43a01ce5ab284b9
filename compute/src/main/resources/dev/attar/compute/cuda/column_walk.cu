#include "grid.cuh"

// GPTQ's walk through the columns, and the factor by which it feeds errors back.

// lower's triangle = that of gram + ridge I (n, n), rows and columns in a given order. A thread for each number of
// the matrix.
extern "C" __global__ void permuteLower(const float *gram, float ridge, const int *columns, int n, float *lower) {
  long long at = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  int i = (int) (at / n);
  int j = (int) (at % n);
  if (i < n && j <= i) {
    float value = gram[(long long) columns[i] * n + columns[j]];
    lower[at] = i == j ? value + ridge : value;
  }
}

// roots = the diagonal of a, (n, n).
extern "C" __global__ void diagonalOf(const float *a, int n, float *roots) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    roots[i] = a[(long long) i * n + i];
  }
}

// From L of the Cholesky decomposition, whose diagonal is roots, the M of L L' = M D M', with D on its diagonal, and
// zeros above it. A thread for each number of the matrix.
extern "C" __global__ void unitLower(float *lower, const float *roots, int n) {
  long long at = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  int i = (int) (at / n);
  int j = (int) (at % n);
  if (i >= n) {
    return;
  }
  if (j < i) {
    lower[at] *= 1 / roots[j];
  } else {
    lower[at] = j == i ? roots[i] * roots[i] : 0;
  }
}

// Columns of the factor that are in shared memory at a time.
#define TILE 16

// A block of columns on its way, as one thread sees it. Position i of the block is column[i] of the weights; the walk
// goes from the last position to the first. Matrices begin at the block and at the thread's row.
struct Walk {
  const float *factor; // at the block's diagonal, (n, n)
  int n;
  int width;
  const int *column;
  const float *weights;
  const float *left; // what the errors of earlier blocks add, or null
  long long rows;
  float (*error)[LANES]; // at the thread's lane
  float (*tile)[TILE];

  __device__ __forceinline__ float weight(int i) const {
    return weights[column[i] * rows];
  }

  // What the column was to become when the walk came to the block.
  __device__ __forceinline__ float target(int i, float weight) const {
    return left == 0 ? weight : left[i * rows] + weight;
  }

  // Has all threads take columns of the factor to shared memory: tile[k][c] = factor[k][first + c], zeros before the
  // block.
  __device__ __forceinline__ void load(int first) const {
    __syncthreads();
    int c = threadIdx.x % TILE;
    bool within = first + c >= 0;
    const float *from = factor + first + c;
#pragma unroll 16
    for (int k = max(first, 0) + threadIdx.x / TILE; k < width; k += LANES / TILE) {
      tile[k][c] = within ? from[(long long) k * n] : 0;
    }
    __syncthreads();
  }

  // The targets of the loaded columns from begin on, as they are after all columns from end on; what is between does
  // not count.
  __device__ __forceinline__ void targets(int first, int begin, int end, float *targets) const {
    float x[TILE];
#pragma unroll
    for (int c = 0; c < TILE; c++) {
      x[c] = first + c >= begin ? target(first + c, weight(first + c)) : 0;
    }
#pragma unroll 2
    for (int k = end; k < width; k++) {
      float e = error[k][0];
#pragma unroll
      for (int c = 0; c < TILE; c++) {
        x[c] = fmaf(tile[k][c], e, x[c]);
      }
    }
#pragma unroll
    for (int c = 0; c < TILE; c++) {
      if (first + c >= begin) {
        targets[(first + c - begin) * rows] = x[c];
      }
    }
  }
};

// Candidates of d are so far from each other: ScaleSearch.STEP.
#define STEP 0.03f

// Chooses the scales of the group of columns at positions begin to end and writes them to the grid: ScaleSearch on
// the CPU. targets, weights: (end - begin, rows), at the thread's row; the errors at these positions are scratch.
static __device__ __forceinline__ void chooseScales(
    const Grid &grid, const Walk &walk, int reach, int begin, int end, const float *targets, const float *weights) {
  int column = walk.column[begin];
  float d = grid.ofBlock(grid.d, column);
  float dmin = grid.ofBlock(grid.dmin, column);
  float scale = grid.ofGroup(grid.scale, column);
  float minimum = grid.ofGroup(grid.minimum, column);
  bool hasScales = grid.hasScales();
  int down = hasScales ? reach : 4 * reach;
  int up = hasScales ? reach : 2 * reach;
  int minimums = hasScales && grid.mostMinimum > grid.leastMinimum ? (2 * reach + 1) / 3 : 0;
  int across = 2 * minimums + 1;
  int asItIs = down * across + minimums;
  float least = INFINITY;
  float bestD = d;
  float bestScale = scale;
  float bestMinimum = minimum;
  // What is there first, so that it stays if nothing is better.
  for (int t = -1; t < (down + 1 + up) * across; t++) {
    if (t == asItIs) {
      continue;
    }
    int candidate = t < 0 ? asItIs : t;
    int byScale = candidate / across - down;
    int byMinimum = candidate % across - minimums;
    float newD = d;
    float newScale = scale;
    float newMinimum = minimum;
    if (hasScales) {
      newScale = clamp(scale + byScale, (float) grid.leastScale, (float) grid.mostScale);
      newMinimum = clamp(minimum + byMinimum, (float) grid.leastMinimum, (float) grid.mostMinimum);
    } else {
      float rounded = half(d * (1 + byScale * STEP));
      newD = isFinite(rounded) ? rounded : d;
    }
    Line line = {newD * newScale, -(dmin * newMinimum)};
    float cost = 0;
    for (int j = end - 1; j >= begin; j--) {
      float x = targets[(j - begin) * walk.rows];
      const float *fed = walk.factor + j;
#pragma unroll 4
      for (int k = j + 1; k < end; k++) {
        x = fmaf(fed[(long long) k * walk.n], walk.error[k][0], x);
      }
      float value = grid.nearestOf(walk.column[j], x, line).value;
      float missed = x - value;
      cost += fed[(long long) j * walk.n] * missed * missed;
      walk.error[j][0] = weights[(j - begin) * walk.rows] - value;
    }
    if (cost < least) {
      least = cost;
      bestD = newD;
      bestScale = newScale;
      bestMinimum = newMinimum;
    }
  }
  if (hasScales) {
    grid.ofGroup(grid.scale, column) = bestScale;
    grid.ofGroup(grid.minimum, column) = bestMinimum;
  } else {
    grid.ofBlock(grid.d, column) = bestD;
  }
}

// Walks through a block of columns, positions begin to begin + width: ColumnWalk on the CPU.
// factor (n, n); columns (n) by position; left (width, rows): what the errors of the positions after the block add,
// null if there are none; search (2 groupLength, rows): scratch, null if reach is 0; errors (n, rows) by position;
// costs (rows).
extern "C" __global__ void columnWalk(
    const float *weights, const float *factor, float ridge, const int *columns, int n, int rows, int begin, int width,
    const float *left, GRID_PARAMETERS, int reach, float *search, float *levels, float *errors, double *costs) {
  __shared__ float error[BLOCK][LANES];
  __shared__ __align__(16) float tile[BLOCK][TILE];
  int row = blockIdx.x * LANES + threadIdx.x;
  bool inside = row < rows; // the others only help to load
  Grid grid = GRID_OF_ROW(row, rows);
  Walk walk = {
      factor + (long long) begin * n + begin,
      n,
      width,
      columns + begin,
      weights + row,
      left == 0 ? left : left + row,
      rows,
      (float(*)[LANES]) & error[0][threadIdx.x],
      tile};
  levels += row;
  errors += (long long) begin * rows + row;
  float *targets = search + row;
  float *groupWeights = targets + (long long) groupLength * rows;
  float cost = 0;
  int step = reach > 0 ? groupLength : TILE;
  for (int end = width; end > 0; end -= step) {
    int from = max(end - step, 0);
    if (reach > 0) {
      for (int tileEnd = end; tileEnd > from; tileEnd -= TILE) {
        walk.load(tileEnd - TILE);
        if (inside) {
          walk.targets(tileEnd - TILE, from, end, targets);
        }
      }
      if (inside) {
        for (int i = from; i < end; i++) {
          groupWeights[(long long) (i - from) * rows] = walk.weight(i);
        }
        chooseScales(grid, walk, reach, from, end, targets, groupWeights);
      }
    }
    for (int tileEnd = end; tileEnd > from; tileEnd -= TILE) {
      int first = tileEnd - TILE;
      if (reach == 0 || step > TILE) {
        walk.load(first);
      }
      for (int i = tileEnd - 1; inside && i >= max(first, from); i--) {
        int column = walk.column[i];
        float weight = walk.weight(i);
        float x = walk.target(i, weight);
        Line line = grid.line(column);
#pragma unroll 8
        for (int k = i + 1; k < width; k++) {
          x = fmaf(tile[k][i - first], error[k][threadIdx.x], x);
        }
        Point point = grid.nearestOf(column, x, line);
        float e = weight - point.value;
        error[i][threadIdx.x] = e;
        errors[(long long) i * rows] = e;
        levels[(long long) column * rows] = point.level;
        // By the decomposition, e (gram + ridge I) e' is the sum of D (x - value)^2 over the columns.
        float missed = x - point.value;
        cost += tile[i][i - first] * missed * missed - ridge * e * e;
      }
    }
  }
  if (inside) {
    costs[row] += cost;
  }
}
