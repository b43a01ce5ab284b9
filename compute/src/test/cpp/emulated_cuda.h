// CUDA C for g++: included before each .cu file. What it declares is defined in libcuda.cpp.
//
// The .cu files are compiled with -fsanitize=thread, which puts a call before each access to memory that other threads may see;
// libcuda.cpp answers these calls and checks the accesses. Functions whose results a GPU rounds otherwise than the CPU (rsqrtf,
// __expf, ...) are left out on purpose.
#pragma once

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#define __global__ __attribute__((noinline, used))
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __constant__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
// In a section of their own, so that their range is known.
#define __shared__ static __attribute__((section("emulated_shared"), aligned(16)))

struct dim3 {
  unsigned x, y, z;
};

// Constant for the thread that reads them; as they are declared const, reads of them cost no check.
#define EMULATED_POSITION(name, symbol) \
  extern "C" __attribute__((visibility("hidden"))) const dim3 name __asm__(symbol)
EMULATED_POSITION(threadIdx, "emulated_thread");
EMULATED_POSITION(blockIdx, "emulated_block");
EMULATED_POSITION(blockDim, "emulated_block_size");
EMULATED_POSITION(gridDim, "emulated_grid_size");
static const int warpSize = 32;

struct __align__(8) float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};
struct __align__(8) int2 {
  int x, y;
};
struct __align__(16) int4 {
  int x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

// ---- Barriers and exchange within a warp. A thread waits for the others at the same line only.

extern "C" void emulated_barrier(int line);
extern "C" void emulated_warp_wait(unsigned mask, int line);
enum EmulatedExchange { EMULATED_INDEX, EMULATED_UP, EMULATED_DOWN, EMULATED_XOR };
extern "C" unsigned long long emulated_shuffle(
    EmulatedExchange kind, unsigned mask, unsigned long long value, int argument, int width, int line);
extern "C" unsigned emulated_ballot(unsigned mask, int predicate, int line);

#define __syncthreads() emulated_barrier(__LINE__)
static inline void emulated_syncwarp(int line, unsigned mask = 0xffffffffu) { emulated_warp_wait(mask, line); }
#define __syncwarp(...) emulated_syncwarp(__LINE__ __VA_OPT__(,) __VA_ARGS__)

template <class T>
static inline T emulated_shuffle_value(
    EmulatedExchange kind, int line, unsigned mask, T value, int argument, int width = 32) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles take values of 4 or 8 bytes");
  unsigned long long bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  bits = emulated_shuffle(kind, mask, bits, argument, width, line);
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}
#define __shfl_sync(...) emulated_shuffle_value(EMULATED_INDEX, __LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) emulated_shuffle_value(EMULATED_UP, __LINE__, __VA_ARGS__)
#define __shfl_down_sync(...) emulated_shuffle_value(EMULATED_DOWN, __LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) emulated_shuffle_value(EMULATED_XOR, __LINE__, __VA_ARGS__)
#define __ballot_sync(mask, predicate) emulated_ballot(mask, (predicate) != 0, __LINE__)
#define __any_sync(mask, predicate) (emulated_ballot(mask, (predicate) != 0, __LINE__) != 0)
#define __all_sync(mask, predicate) (emulated_ballot(mask, (predicate) == 0, __LINE__) == 0)
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// ---- Atomics: checked as one access, not as a read and a write.

int atomicAdd(int *, int);
unsigned atomicAdd(unsigned *, unsigned);
unsigned long long atomicAdd(unsigned long long *, unsigned long long);
float atomicAdd(float *, float);
double atomicAdd(double *, double);
int atomicMin(int *, int);
unsigned atomicMin(unsigned *, unsigned);
unsigned long long atomicMin(unsigned long long *, unsigned long long);
int atomicMax(int *, int);
unsigned atomicMax(unsigned *, unsigned);
unsigned long long atomicMax(unsigned long long *, unsigned long long);
int atomicExch(int *, int);
unsigned atomicExch(unsigned *, unsigned);
unsigned long long atomicExch(unsigned long long *, unsigned long long);
float atomicExch(float *, float);
int atomicCAS(int *, int, int);
unsigned atomicCAS(unsigned *, unsigned, unsigned);
unsigned long long atomicCAS(unsigned long long *, unsigned long long, unsigned long long);
int atomicOr(int *, int);
unsigned atomicOr(unsigned *, unsigned);
unsigned long long atomicOr(unsigned long long *, unsigned long long);
int atomicAnd(int *, int);
unsigned atomicAnd(unsigned *, unsigned);
unsigned long long atomicAnd(unsigned long long *, unsigned long long);

// ---- Arithmetic.

extern "C" unsigned short emulated_float_to_half(float value);
extern "C" float emulated_half_to_float(unsigned short bits);

static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }

template <class To, class From>
static inline To emulated_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}
static inline int __float_as_int(float a) { return emulated_bits<int>(a); }
static inline unsigned __float_as_uint(float a) { return emulated_bits<unsigned>(a); }
static inline float __int_as_float(int a) { return emulated_bits<float>(a); }
static inline float __uint_as_float(unsigned a) { return emulated_bits<float>(a); }
static inline long long __double_as_longlong(double a) { return emulated_bits<long long>(a); }
static inline double __longlong_as_double(long long a) { return emulated_bits<double>(a); }

// As on a GPU: NaN becomes 0, what does not fit becomes the nearest number that does.
static inline int emulated_to_int(double a) {
  return a != a ? 0 : a >= 2147483647.0 ? INT_MAX : a <= -2147483648.0 ? INT_MIN : (int)a;
}
static inline int __float2int_rn(float a) { return emulated_to_int(__builtin_rintf(a)); }
static inline int __float2int_rz(float a) { return emulated_to_int(__builtin_truncf(a)); }
static inline int __float2int_rd(float a) { return emulated_to_int(__builtin_floorf(a)); }
static inline int __float2int_ru(float a) { return emulated_to_int(__builtin_ceilf(a)); }
static inline float __int2float_rn(int a) { return (float)a; }

template <class T>
static inline T __ldg(const T *from) { return *from; }
static inline int __popc(unsigned a) { return __builtin_popcount(a); }
static inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
static inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz((unsigned)a); }
static inline int __clzll(long long a) { return a == 0 ? 64 : __builtin_clzll((unsigned long long)a); }
static inline int __ffs(int a) { return __builtin_ffs(a); }

#define EMULATED_MIN_MAX(type)                                         \
  static inline type min(type a, type b) { return b < a ? b : a; }     \
  static inline type max(type a, type b) { return a < b ? b : a; }
EMULATED_MIN_MAX(int)
EMULATED_MIN_MAX(unsigned)
EMULATED_MIN_MAX(long)
EMULATED_MIN_MAX(unsigned long)
EMULATED_MIN_MAX(long long)
EMULATED_MIN_MAX(unsigned long long)
static inline float min(float a, float b) { return __builtin_fminf(a, b); }
static inline float max(float a, float b) { return __builtin_fmaxf(a, b); }
static inline double min(double a, double b) { return __builtin_fmin(a, b); }
static inline double max(double a, double b) { return __builtin_fmax(a, b); }

// The compiler's own calls of these are not checked, so kernels get others.
static inline void *emulated_memcpy(void *to, const void *from, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}
static inline void *emulated_memset(void *to, int value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) ((char *)to)[i] = (char)value;
  return to;
}
#define memcpy emulated_memcpy
#define memset emulated_memset

// ---- The registry: the build appends EMULATED_KERNEL for each kernel to its .cu file.

struct EmulatedParameter {
  unsigned size, alignment;
};
struct EmulatedKernel {
  const char *name;
  void (*run)(const unsigned char *parameters);
  const EmulatedParameter *parameters;
  unsigned count;
  // The most threads that a block may have.
  unsigned threads;
};
extern "C" void emulated_register(const EmulatedKernel *kernel);

template <auto Kernel>
struct EmulatedCall;
template <class... A, void (*Kernel)(A...)>
struct EmulatedCall<Kernel> {
  static constexpr unsigned count = sizeof...(A);
  static constexpr EmulatedParameter parameters[count + 1] = {{sizeof(A), alignof(A)}..., {0, 1}};

  template <class T>
  __attribute__((no_sanitize_thread)) static T next(const unsigned char *from, unsigned &offset) {
    offset = (offset + alignof(T) - 1) / alignof(T) * alignof(T);
    T value;
    __builtin_memcpy(&value, from + offset, sizeof(T));
    offset += sizeof(T);
    return value;
  }

  // In braces, arguments are evaluated from left to right.
  struct Caller {
    __attribute__((no_sanitize_thread)) Caller(A... arguments) { Kernel(arguments...); }
  };
  __attribute__((no_sanitize_thread)) static void run(const unsigned char *from) {
    [[maybe_unused]] unsigned offset = 0;
    Caller{next<A>(from, offset)...};
  }
};

#define EMULATED_KERNEL(kernel, threads)                                                                         \
  static const EmulatedKernel emulated_entry_##kernel = {                                                        \
      #kernel, EmulatedCall<kernel>::run, EmulatedCall<kernel>::parameters, EmulatedCall<kernel>::count, threads}; \
  __attribute__((constructor)) static void emulated_register_##kernel() { emulated_register(&emulated_entry_##kernel); }
