#include "grid.cuh"

// Coordinate descent on levels and scales, and the errors that levels leave: Refinement on the CPU.

// errors = weights - the values of levels, all (n, rows). A thread for each number.
extern "C" __global__ void residual(
    const float *weights, GRID_PARAMETERS, const float *levels, int n, int rows, float *errors) {
  long long at = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  int column = (int) (at / rows);
  int row = (int) (at % rows);
  if (column < n) {
    Grid grid = GRID_OF_ROW(row, rows);
    errors[at] = weights[at] - grid.line(column).value(levels[at]);
  }
}

// sums += the sums of the columns of a * b, both (count, rows). A thread for each column.
extern "C" __global__ void addColumnProducts(const float *a, const float *b, int count, int rows, double *sums) {
  int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < rows) {
    double sum = sums[row];
#pragma unroll 8
    for (long long i = 0; i < count; i++) {
      sum += (double) a[i * rows + row] * b[i * rows + row];
    }
    sums[row] = sum;
  }
}

// Rows of the Gram matrix that are in shared memory at a time.
#define TILE 16

// Rows of it by which a vector is multiplied together.
#define CHUNK 8

// How the error changes when values move by a u + b v: it falls by 2 (a u'g + b v'g) - a^2 u'Hu - 2ab u'Hv - b^2
// v'Hv, where g is the gradient H e.
struct Quadratic {
  double ug, vg, uu, uv, vv;
  bool second;

  // Adds a column: u, the gradient and Hu there, v and Hv.
  __device__ __forceinline__ void add(float u, float g, float hu, float v, float hv) {
    ug += (double) u * g;
    uu += (double) u * hu;
    vg += (double) v * g;
    uv += (double) v * hu;
    vv += (double) v * hv;
  }

  // The best a, with the best b beside it.
  __device__ __forceinline__ double first() const {
    if (second && vv > 0) {
      double determinant = uu * vv - uv * uv;
      if (determinant > 1e-6 * uu * vv) {
        return (ug * vv - vg * uv) / determinant;
      }
    }
    return uu > 0 ? ug / uu : 0;
  }

  // The best b beside this a.
  __device__ __forceinline__ double secondGiven(double a) const {
    return vv > 0 ? (vg - a * uv) / vv : 0;
  }

  __device__ __forceinline__ double gain(double a, double b) const {
    return 2 * (a * ug + b * vg) - a * a * uu - 2 * a * b * uv - b * b * vv;
  }

  // The least gain that is not rounding noise.
  __device__ __forceinline__ double least() const {
    return 1e-9 * uu;
  }
};

// A block of columns, as one thread sees it. Matrices begin at the block's first column and the thread's row. The
// methods that load have to be called by all threads; those that are not inside the matrices do nothing else.
struct Refinement {
  const float *gram; // at the block's diagonal, (n, n)
  float ridge;
  int n;
  int begin;
  int width;
  long long rows;
  bool inside;
  Grid grid;
  const float *weights;
  float *levels;
  float *gradient; // H e when the block was entered
  float (*change)[LANES]; // of the values since then, at the thread's lane
  float (*tile)[BLOCK];

  __device__ __forceinline__ Line line(int i) const {
    return grid.line(begin + i);
  }

  __device__ __forceinline__ float level(int i) const {
    return levels[i * rows];
  }

  // Has all threads take rows of H to shared memory: tile[r][k] = H[first + r][k], zeros after the block.
  __device__ __forceinline__ void load(int first) const {
    __syncthreads();
    for (int r = 0; r < TILE; r++) {
      int i = first + r;
      const float *from = gram + (long long) i * n;
#pragma unroll
      for (int k = threadIdx.x; k < BLOCK; k += LANES) {
        float value = i < width && k < width ? from[k] : 0;
        tile[r][k] = i == k && i < width ? value + ridge : value;
      }
    }
    __syncthreads();
  }

  // The gradient of CHUNK loaded columns now, from tile row r on, column i.
  __device__ __forceinline__ void slopes(int r, int i, float *slope) const {
    float sum[CHUNK] = {0};
#pragma unroll 4
    for (int k = 0; k < width; k++) {
      float moved = change[k][0];
#pragma unroll
      for (int c = 0; c < CHUNK; c++) {
        sum[c] = fmaf(tile[r + c][k], moved, sum[c]);
      }
    }
#pragma unroll
    for (int c = 0; c < CHUNK; c++) {
      slope[c] = i + c < width ? gradient[(i + c) * rows] - sum[c] : 0;
    }
  }

  __device__ __forceinline__ void enter() const {
    for (int i = 0; inside && i < width; i++) {
      // The ridge is not in the product that gave the gradient.
      gradient[i * rows] += ridge * (weights[i * rows] - line(i).value(level(i)));
      change[i][0] = 0;
    }
  }

  // Gives each column in turn the level that is best while the others stay. The first time nothing has changed yet
  // from the column on.
  __device__ __forceinline__ void descend(bool firstTime) const {
    for (int first = 0; first < width; first += TILE) {
      load(first);
      for (int i = first; inside && i < min(first + TILE, width); i++) {
        const float *row = tile[i - first];
        float step = 1 / row[i];
        if (!isFinite(step)) {
          continue; // of a dead input without ridge
        }
        Line scales = line(i);
        float value = scales.value(level(i));
        float before = gradient[i * rows];
        float sum = 0;
        int count = firstTime ? i : width;
#pragma unroll 8
        for (int k = 0; k < count; k++) {
          sum = fmaf(row[k], change[k][0], sum);
        }
        Point point = grid.nearestOf(begin + i, value + step * (before - sum), scales);
        change[i][0] += point.value - value;
        levels[i * rows] = point.level;
      }
    }
  }

  // Follows the values of some columns whose scales change.
  __device__ __forceinline__ void move(int from, int count, Line before, Line after) const {
    for (int i = from; i < from + count; i++) {
      float chosen = level(i);
      change[i][0] += after.value(chosen) - before.value(chosen);
    }
  }

  // Fits the scale and the minimum of a group, whole numbers.
  __device__ __forceinline__ void refitGroup(int from) const {
    int end = from + grid.groupLength;
    // Changing the scale moves the values along the levels, changing the minimum moves them all alike.
    Quadratic quadratic = {0, 0, 0, 0, 0, grid.mostMinimum > grid.leastMinimum};
    for (int first = from; first < end; first += TILE) {
      load(first);
      for (int r = 0; inside && r < TILE && first + r < end; r += CHUNK) {
        float slope[CHUNK];
        slopes(r, first + r, slope);
        float product[CHUNK] = {0};
        float sum[CHUNK] = {0};
        for (int k = from; k < end; k++) {
          float along = level(k);
#pragma unroll
          for (int c = 0; c < CHUNK; c++) {
            float h = tile[r + c][k];
            product[c] = fmaf(h, along, product[c]);
            sum[c] += h;
          }
        }
#pragma unroll
        for (int c = 0; c < CHUNK; c++) {
          if (first + r + c < end) {
            quadratic.add(level(first + r + c), slope[c], product[c], 1, sum[c]);
          }
        }
      }
    }
    if (inside) {
      fitGroup(quadratic, from);
    }
  }

  __device__ __forceinline__ void fitGroup(const Quadratic &quadratic, int from) const {
    float &scaleOfGroup = grid.ofGroup(grid.scale, begin + from);
    float &minimumOfGroup = grid.ofGroup(grid.minimum, begin + from);
    float s = scaleOfGroup;
    float m = minimumOfGroup;
    double step = grid.ofBlock(grid.d, begin + from);
    double minimum = grid.ofBlock(grid.dmin, begin + from);
    double bestGain = quadratic.least();
    float bestS = s;
    float bestM = m;
    if (step != 0) {
      double wanted = s + quadratic.first() / step;
      for (int up = 0; up <= 1; up++) {
        float newS = (float) clamp(floor(wanted) + up, (double) grid.leastScale, (double) grid.mostScale);
        double a = (newS - s) * step;
        float newM = m;
        if (quadratic.second && minimum != 0) {
          double wantedM = m - quadratic.secondGiven(a) / minimum;
          newM = (float) clamp(rint(wantedM), (double) grid.leastMinimum, (double) grid.mostMinimum);
        }
        double b = -(newM - m) * minimum;
        double gain = quadratic.gain(a, b);
        if (gain > bestGain) {
          bestGain = gain;
          bestS = newS;
          bestM = newM;
        }
      }
    }
    Line before = line(from);
    scaleOfGroup = bestS;
    minimumOfGroup = bestM;
    move(from, grid.groupLength, before, line(from));
  }

  // Fits d and dmin of a block of the grid, half-precision numbers.
  __device__ __forceinline__ void refitBlock(int from) const {
    int end = from + grid.blockLength;
    // Along d the values move by scale * level, along dmin by -minimum.
    Quadratic quadratic = {0, 0, 0, 0, 0, grid.mostMinimum > 0};
    for (int first = from; first < end; first += TILE) {
      load(first);
      for (int r = 0; inside && r < TILE && first + r < end; r += CHUNK) {
        float slope[CHUNK];
        slopes(r, first + r, slope);
        float product[CHUNK] = {0};
        float minimums[CHUNK] = {0};
        for (int group = from; group < end; group += grid.groupLength) {
          float s = grid.ofGroup(grid.scale, begin + group);
          float m = grid.ofGroup(grid.minimum, begin + group);
          for (int k = group; k < group + grid.groupLength; k++) {
            float along = s * level(k);
#pragma unroll
            for (int c = 0; c < CHUNK; c++) {
              float h = tile[r + c][k];
              product[c] = fmaf(h, along, product[c]);
              minimums[c] = fmaf(h, m, minimums[c]);
            }
          }
        }
#pragma unroll
        for (int c = 0; c < CHUNK; c++) {
          int i = first + r + c;
          if (i < end) {
            float along = grid.ofGroup(grid.scale, begin + i) * level(i);
            float minimum = quadratic.second ? grid.ofGroup(grid.minimum, begin + i) : 1;
            quadratic.add(along, slope[c], product[c], minimum, quadratic.second ? minimums[c] : 0);
          }
        }
      }
    }
    if (inside) {
      fitBlock(quadratic, from);
    }
  }

  __device__ __forceinline__ void fitBlock(const Quadratic &quadratic, int from) const {
    float &dOfBlock = grid.ofBlock(grid.d, begin + from);
    float &dminOfBlock = grid.ofBlock(grid.dmin, begin + from);
    float d = dOfBlock;
    float dmin = dminOfBlock;
    float newD = half((float) (d + quadratic.first()));
    double a = (double) newD - d;
    float newMin = dmin;
    if (quadratic.second) {
      newMin = half((float) (dmin - quadratic.secondGiven(a)));
    }
    double b = -((double) newMin - dmin);
    if (!(quadratic.gain(a, b) > quadratic.least()) || !isFinite(newD) || !isFinite(newMin)) {
      return;
    }
    dOfBlock = newD;
    dminOfBlock = newMin;
    for (int i = from; i < from + grid.blockLength; i += grid.groupLength) {
      float s = grid.ofGroup(grid.scale, begin + i);
      float m = grid.ofGroup(grid.minimum, begin + i);
      Line before = {d * s, -(dmin * m)};
      Line after = {newD * s, -(newMin * m)};
      move(i, grid.groupLength, before, after);
    }
  }

  // Fits scales to the levels.
  __device__ __forceinline__ void refit() const {
    for (int from = 0; from < width; from += grid.blockLength) {
      for (int i = from; grid.hasScales() && i < from + grid.blockLength; i += grid.groupLength) {
        refitGroup(i);
      }
      refitBlock(from);
    }
  }

  // Writes what is left of the weights. With a change c of the values, the error changes by -c (g + h), where g is
  // the gradient before and h the one after; returns this without the ridge's part.
  __device__ __forceinline__ float leave(float *errors) const {
    float fall = 0;
    for (int first = 0; first < width; first += TILE) {
      load(first);
      for (int r = 0; inside && r < TILE && first + r < width; r += CHUNK) {
        float slope[CHUNK];
        slopes(r, first + r, slope);
#pragma unroll
        for (int c = 0; c < CHUNK; c++) {
          int i = first + r + c;
          if (i < width) {
            float left = weights[i * rows] - line(i).value(level(i));
            float moved = change[i][0];
            fall -= moved * (gradient[i * rows] + slope[c] - ridge * (2 * left + moved));
            errors[i * rows] = left;
          }
        }
      }
    }
    return fall;
  }
};

// Refines a block of columns, begin to begin + width. gram (n, n); gradient (width, rows): gram times the errors,
// scratch afterwards; errors (n, rows): what the levels leave of the weights; costs (rows) follow.
extern "C" __global__ void refine(
    const float *weights, const float *gram, float ridge, int n, int rows, int begin, int width, float *gradient,
    GRID_PARAMETERS, int scales, float *levels, float *errors, double *costs) {
  __shared__ float change[BLOCK][LANES];
  __shared__ __align__(16) float tile[TILE][BLOCK];
  int row = blockIdx.x * LANES + threadIdx.x;
  long long at = (long long) begin * rows + row;
  Refinement refinement = {
      gram + (long long) begin * n + begin,
      ridge,
      n,
      begin,
      width,
      rows,
      row < rows,
      GRID_OF_ROW(row, rows),
      weights + at,
      levels + at,
      gradient + row,
      (float(*)[LANES]) & change[0][threadIdx.x],
      tile};
  refinement.enter();
  refinement.descend(true);
  if (scales) {
    refinement.refit();
    refinement.descend(false);
  }
  float fall = refinement.leave(errors + at);
  if (row < rows) {
    costs[row] += fall;
  }
}
