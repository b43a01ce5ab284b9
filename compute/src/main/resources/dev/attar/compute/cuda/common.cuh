// What several files of kernels use.
#pragma once

// The bits of the half-precision number nearest to x, ties to even.
static __device__ __forceinline__ unsigned short halfBits(float x) {
#ifdef __CUDACC__
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
  return bits;
#else
  return emulated_float_to_half(x);
#endif
}

// The half-precision number with these bits.
static __device__ __forceinline__ float halfValue(unsigned short bits) {
#ifdef __CUDACC__
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
#else
  return emulated_half_to_float(bits);
#endif
}

// x rounded to half precision.
static __device__ __forceinline__ float half(float x) {
  return halfValue(halfBits(x));
}
