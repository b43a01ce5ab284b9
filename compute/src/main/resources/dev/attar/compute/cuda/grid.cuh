// Grids of quantization, with the same bits as on the CPU: QuantizationGrid, LaneGrid and LaneKernel. Matrices have a
// column per row of the weights; a thread works on one row.
#pragma once
#include "common.cuh"

// Columns of a block: QuantizationGrid.LONGEST_BLOCK.
#define BLOCK 256

// Rows of the weights that a block of threads takes: one warp, so that few rows still reach many multiprocessors.
#define LANES 32

// Parameters of a kernel that works with a grid; CudaQuantization has the arguments in this order.
#define GRID_PARAMETERS                                                                                        \
  float *d, float *dmin, float *scale, float *minimum, const float *pruned, const float *levelValues,          \
      int levelCount, int wholeLevels, int groupLength, int blockLength, int leastScale, int mostScale,        \
      int leastMinimum, int mostMinimum

// The grid as a row sees it, from these parameters.
#define GRID_OF_ROW(row, rows)                                                                                 \
  {                                                                                                            \
    d + row, dmin + row, scale + row, minimum + row, pruned == 0 ? pruned : pruned + row, rows, levelValues,   \
        levelCount, wholeLevels, levelValues[0], levelValues[levelCount - 1], groupLength, blockLength,        \
        leastScale, mostScale, leastMinimum, mostMinimum                                                                              \
  }

// What multiplies levels, and what is added then.
struct Line {
  float step, offset;

  __device__ __forceinline__ float value(float level) const {
    return step * level + offset;
  }
};

// A point of the grid.
struct Point {
  float level, value;
};

static __device__ __forceinline__ bool isFinite(float x) {
  return fabsf(x) <= 3.402823466e38f;
}

// As Math.clamp: NaN stays.
static __device__ __forceinline__ float clamp(float x, float least, float most) {
  float y = x <= least ? least : x;
  return y > most ? most : y;
}

static __device__ __forceinline__ double clamp(double x, double least, double most) {
  double y = x <= least ? least : x;
  return y > most ? most : y;
}

struct Grid {
  float *d, *dmin, *scale, *minimum;
  // Where it is 0, a weight can only be 0; null for nowhere.
  const float *pruned;
  int rows;
  // In ascending order; after them the middles between neighbours.
  const float *levels;
  int levelCount;
  // Whether the levels are consecutive whole numbers.
  int whole;
  float leastLevel, mostLevel;
  int groupLength, blockLength, leastScale, mostScale, leastMinimum, mostMinimum;

  __device__ __forceinline__ float &ofBlock(float *matrix, int column) const {
    return matrix[(long long) (column / blockLength) * rows];
  }

  __device__ __forceinline__ float &ofGroup(float *matrix, int column) const {
    return matrix[(long long) (column / groupLength) * rows];
  }

  __device__ __forceinline__ Line line(int column) const {
    float step = ofBlock(d, column) * ofGroup(scale, column);
    float offset = -(ofBlock(dmin, column) * ofGroup(minimum, column));
    return {step, offset};
  }

  __device__ __forceinline__ bool hasScales() const {
    return leastScale < mostScale;
  }

  // The nearest point; the upper of two that are equally near.
  __device__ __forceinline__ Point nearest(float target, Line line) const {
    float y = line.step == 0 ? 0 : (target - line.offset) / line.step;
    float level;
    if (whole) {
      level = clamp(floorf(y + 0.5f), leastLevel, mostLevel);
    } else {
      const float *bounds = levels + levelCount;
      int nearest = 0;
      for (int i = 0; i < levelCount - 1; i++) {
        nearest = y >= bounds[i] ? i + 1 : nearest;
      }
      level = levels[nearest];
    }
    return {level, line.value(level)};
  }

  // What the weight in a column can become that is nearest.
  __device__ __forceinline__ Point nearestOf(int column, float target, Line line) const {
    if (pruned != 0 && pruned[(long long) column * rows] == 0) {
      return {0, 0};
    }
    return nearest(target, line);
  }
};
