#include "common.cuh"

// Copies and checks of whole matrices. Blocks in x go along a row; those in y take every gridDim.y-th row, or tile of rows.

// to (columns, rows) = from' (rows, columns). Blocks of 32 x 8 threads, each for tiles of 32 x 32.
extern "C" __global__ void transpose(const float* from, float* to, int rows, int columns) {
  __shared__ float tile[32][33]; // one more, so that a column's numbers lie in different banks
  int column = blockIdx.x * 32 + threadIdx.x;
  for (long long start = blockIdx.y * 32LL; start < rows; start += gridDim.y * 32LL) {
    for (int i = threadIdx.y; i < 32; i += 8) {
      long long row = start + i;
      if (row < rows && column < columns) {
        tile[i][threadIdx.x] = from[row * columns + column];
      }
    }
    __syncthreads();
    long long row = start + threadIdx.x;
    for (int i = threadIdx.y; i < 32; i += 8) {
      int newRow = blockIdx.x * 32 + i;
      if (newRow < columns && row < rows) {
        to[(long long) newRow * rows + row] = tile[threadIdx.x][i];
      }
    }
    __syncthreads();
  }
}

// The upper triangle of a (n, n) to the lower one. Blocks of 32 x 8 threads, each for a tile of 32 x 32.
extern "C" __global__ void mirror(float* a, int n) {
  __shared__ float tile[32][33];
  if (blockIdx.x < blockIdx.y) {
    return;
  }
  int column = blockIdx.x * 32 + threadIdx.x;
  for (int i = threadIdx.y; i < 32; i += 8) {
    int row = blockIdx.y * 32 + i;
    if (row < column && column < n) {
      tile[i][threadIdx.x] = a[(long long) row * n + column];
    }
  }
  __syncthreads();
  int newColumn = blockIdx.y * 32 + threadIdx.x;
  for (int i = threadIdx.y; i < 32; i += 8) {
    int newRow = blockIdx.x * 32 + i;
    if (newColumn < newRow && newRow < n) {
      a[(long long) newRow * n + newColumn] = tile[threadIdx.x][i];
    }
  }
}

// to (n, n) = the lower triangle of from, or the upper one; 0 in the other.
extern "C" __global__ void widenTriangle(const float* from, double* to, int n, int upper) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= n) {
    return;
  }
  for (long long row = blockIdx.y; row < n; row += gridDim.y) {
    long long i = row * n + column;
    to[i] = (upper ? column >= row : column <= row) ? from[i] : 0.0;
  }
}

extern "C" __global__ void widen(const float* from, double* to, long long count) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    to[i] = from[i];
  }
}

extern "C" __global__ void narrow(const double* from, float* to, long long count) {
  long long i = (long long) blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) {
    to[i] = (float) from[i];
  }
}

// The lower triangle of from (rows, columns) to that of to, whose rows are toStride numbers apart. Above it, to gets 0 or stays.
extern "C" __global__ void narrowLower(
  const double* from,
  float* to,
  int rows,
  int columns,
  int toStride,
  int zeroAbove
) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) {
    return;
  }
  for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
    if (column <= row) {
      to[row * toStride + column] = (float) from[row * columns + column];
    } else if (zeroAbove) {
      to[row * toStride + column] = 0;
    }
  }
}

// Ones on the diagonal of a (rows, columns), 0 elsewhere.
extern "C" __global__ void identity(double* a, int rows, int columns) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) {
    return;
  }
  for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
    a[row * columns + column] = row == column;
  }
}

// Lowers first to the least row * columns + column of a number that is not finite. Of a (rows, columns), all numbers count (part 0),
// those from the diagonal on (1), or those up to it (2).
extern "C" __global__ void firstNotFinite(
  const float* a,
  int rows,
  int columns,
  int part,
  unsigned long long* first
) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) {
    return;
  }
  for (long long row = blockIdx.y; row < rows; row += gridDim.y) {
    bool counts = part == 0 || (part == 1 ? column >= row : column <= row);
    long long i = row * columns + column;
    if (counts && (__float_as_uint(a[i]) & 0x7f800000) == 0x7f800000) {
      atomicMin(first, (unsigned long long) i);
    }
  }
}

// Lowers first to the least row of a (n, n) with 0 on the diagonal.
extern "C" __global__ void firstZeroPivot(const float* a, int n, unsigned long long* first) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n && a[(long long) i * n + i] == 0) {
    atomicMin(first, (unsigned long long) i);
  }
}

// Lowers first to the least of the first n rows of a, stride numbers apart, whose number on the diagonal is not positive and finite.
extern "C" __global__ void firstBadPivot(const float* a, int n, int stride, unsigned long long* first) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    float pivot = a[(long long) i * stride + i];
    if (!(pivot > 0) || (__float_as_uint(pivot) & 0x7f800000) == 0x7f800000) {
      atomicMin(first, (unsigned long long) i);
    }
  }
}

// The same in double precision.
extern "C" __global__ void firstBadPivotDouble(const double* a, int n, int stride, unsigned long long* first) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    double pivot = a[(long long) i * stride + i];
    if (!(pivot > 0) || (__double_as_longlong(pivot) & 0x7ff0000000000000LL) == 0x7ff0000000000000LL) {
      atomicMin(first, (unsigned long long) i);
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
