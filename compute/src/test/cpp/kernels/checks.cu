// Kernels for the tests of the emulated CUDA: correct ones, and one that violates each check.
#include "common.cuh"

extern "C" __global__ void test_add(const float *a, const float *b, float *c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

extern "C" __global__ void test_out_of_bounds(const float *a, float *c, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i <= n) c[i] = a[0];
}

/** Takes what it is given for an address. */
extern "C" __global__ void test_peek(float *from, float *to) { to[0] = from[0]; }

extern "C" __global__ void test_poke(float *to) { to[0] = 1.0f; }

/** Reads a pair at an address for single numbers. */
extern "C" __global__ void test_misaligned(const float *from, float *to, int offset) {
  double pair = *(const double *)(from + offset);
  to[0] = (float)pair;
}

extern "C" __global__ void test_reverse(const float *from, float *to) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[i] = from[blockIdx.x * 64 + i];
  __syncthreads();
  to[blockIdx.x * 64 + i] = tile[63 - i];
}

extern "C" __global__ void test_missing_barrier(const float *from, float *to) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  tile[i] = from[blockIdx.x * 64 + i];
  to[blockIdx.x * 64 + i] = tile[63 - i];
}

/** Writes the tile again while others may still read it. */
extern "C" __global__ void test_missing_second_barrier(const float *from, float *to) {
  __shared__ float tile[64];
  int i = threadIdx.x;
  for (int k = 0; k < 2; k++) {
    tile[i] = from[k * 64 + i];
    __syncthreads();
    to[k * 64 + i] = tile[63 - i];
  }
}

extern "C" __global__ void test_divergent_barrier(float *a) {
  if (threadIdx.x < 40) {
    __syncthreads();
  }
  a[threadIdx.x] = 1.0f;
}

extern "C" __global__ void test_different_barriers(float *a) {
  if (threadIdx.x < 40) {
    __syncthreads();
    a[threadIdx.x] = 2.0f;
  } else {
    __syncthreads();
    a[threadIdx.x] = 1.0f;
  }
}

/** Only block 0 writes all of its tile. */
extern "C" __global__ void test_shared_unwritten(float *to) {
  __shared__ float tile[32];
  if (threadIdx.x != 5 || blockIdx.x == 0) tile[threadIdx.x] = 1.0f;
  __syncthreads();
  to[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x];
}

extern "C" __global__ void test_shared_out_of_bounds(float *to, int n) {
  __shared__ float tile[33];
  for (int i = threadIdx.x; i < n; i += 32) tile[i] = 1.0f;
  __syncthreads();
  to[threadIdx.x] = tile[threadIdx.x];
}

/** All threads write to the same place, all the same. */
extern "C" __global__ void test_race(float *to) { to[0] = 1.0f; }

/** Each block reads what the one before it writes. */
extern "C" __global__ void test_race_between_blocks(float *a) { a[blockIdx.x + 1] = a[blockIdx.x] + 1.0f; }

/** Neighbouring bytes and halves, each written by a thread of its own. */
extern "C" __global__ void test_bytes(unsigned char *bytes, unsigned short *halves) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  bytes[i] = (unsigned char)i;
  halves[i] = (unsigned short)(3 * i);
}

extern "C" __global__ void test_byte_race(unsigned char *bytes) { bytes[threadIdx.x / 2] = 1; }

extern "C" __global__ void test_float_sum(const float *a, float *sum) {
  atomicAdd(sum, a[blockIdx.x * blockDim.x + threadIdx.x]);
}

extern "C" __global__ void test_count(const float *a, int *count) {
  if (a[blockIdx.x * blockDim.x + threadIdx.x] > 0.0f) atomicAdd(count, 1);
}

/** Sums by shuffles, 64 numbers per block. */
extern "C" __global__ void test_warp_sum(const float *a, float *sums) {
  __shared__ float warps[2];
  float sum = a[blockIdx.x * 64 + threadIdx.x];
  for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xffffffff, sum, offset);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) sums[blockIdx.x] = warps[0] + warps[1];
}

/** A warp's threads exchange by memory. */
extern "C" __global__ void test_warp_exchange(float *a, int barrier) {
  float mine = a[threadIdx.x ^ 1];
  if (barrier) __syncwarp();
  a[threadIdx.x] = mine;
}

extern "C" __global__ void test_partial_shuffle(float *a) {
  float mine = a[threadIdx.x];
  if (threadIdx.x < 16) mine = __shfl_xor_sync(0xffffffff, mine, 1);
  a[threadIdx.x] = mine;
}

extern "C" __global__ void test_votes(unsigned *to, int limit) {
  int below = (int)threadIdx.x < limit;
  unsigned votes = __ballot_sync(0xffffffff, below);
  int any = __any_sync(0xffffffff, below), all = __all_sync(0xffffffff, below);
  if (threadIdx.x == 0) {
    to[0] = votes;
    to[1] = any;
    to[2] = all;
  }
}

extern "C" __global__ void test_halves(const float *from, unsigned short *bits, float *back, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    bits[i] = halfBits(from[i]);
    back[i] = halfValue(bits[i]);
  }
}

__constant__ int primes[4] = {2, 3, 5, 7};
__constant__ float halves[1] = {0.5f};

extern "C" __global__ void test_constants(float *to) { to[threadIdx.x] = primes[threadIdx.x] + halves[threadIdx.x / 4]; }

extern "C" __global__ void __launch_bounds__(128) test_bounded(float *to) { to[threadIdx.x] = 1.0f; }

/** Parameters of all kinds. */
extern "C" __global__ void test_parameters(double *to, int a, long long b, float c, double d, unsigned char e, short f) {
  to[0] = a;
  to[1] = (double)b;
  to[2] = c;
  to[3] = d;
  to[4] = e;
  to[5] = f;
}
