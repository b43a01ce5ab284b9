// Sums and maxima over the threads of a warp or a block, in an order that does not depend on anything. Blocks are whole warps in x.
#pragma once

// The sum of a number of each thread of the warp, in each of them: x + y is y + x, so all come to the same bits.
template <class T>
static __device__ __forceinline__ T sumOfWarp(T x) {
  for (int step = 16; step > 0; step /= 2) {
    x += __shfl_xor_sync(0xffffffffu, x, step);
  }
  return x;
}

// The same over a block, which all its threads call. The scratch is 32 numbers in shared memory.
template <class T>
static __device__ __forceinline__ T sumOfBlock(T x, T *scratch) {
  x = sumOfWarp(x);
  __syncthreads(); // the scratch may still be read from another call
  if (threadIdx.x % 32 == 0) {
    scratch[threadIdx.x / 32] = x;
  }
  __syncthreads();
  T sum = scratch[0];
  for (int i = 1; i < (int) blockDim.x / 32; i++) {
    sum += scratch[i];
  }
  return sum;
}

// The greatest number of a block's threads, NaN aside.
static __device__ __forceinline__ float maxOfBlock(float x, float *scratch) {
  for (int step = 16; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    scratch[threadIdx.x / 32] = x;
  }
  __syncthreads();
  float greatest = scratch[0];
  for (int i = 1; i < (int) blockDim.x / 32; i++) {
    greatest = fmaxf(greatest, scratch[i]);
  }
  return greatest;
}
