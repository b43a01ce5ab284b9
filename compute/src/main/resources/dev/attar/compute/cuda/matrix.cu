#include "common.cuh"

// Copies and checks of whole matrices.

// to (columns, rows) = from' (rows, columns). Blocks of 32 x 8 threads, each for a tile of 32 x 32.
extern "C" __global__ void transpose(const float* from, float* to, int rows, int columns) {
  __shared__ float tile[32][33]; // one more, so that a column's numbers lie in different banks
  int column = blockIdx.x * 32 + threadIdx.x;
  for (int i = threadIdx.y; i < 32; i += 8) {
    int row = blockIdx.y * 32 + i;
    if (row < rows && column < columns) {
      tile[i][threadIdx.x] = from[(long long) row * columns + column];
    }
  }
  __syncthreads();
  int row = blockIdx.y * 32 + threadIdx.x;
  for (int i = threadIdx.y; i < 32; i += 8) {
    int newRow = blockIdx.x * 32 + i;
    if (newRow < columns && row < rows) {
      to[(long long) newRow * rows + row] = tile[threadIdx.x][i];
    }
  }
}

// to += alpha a, of count numbers.
extern "C" __global__ void add(float alpha, const float* a, float* to, long long count) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    to[i] = to[i] + alpha * a[i];
  }
}
