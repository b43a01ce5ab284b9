// The emulated GPU: its memory and what runs on it. The driver's functions (libcuda.cpp) and the two libraries are built on it.
#pragma once

#include <cstddef>
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

// Status codes of the driver, as cuda.h numbers them.
enum Status {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  INVALID_DEVICE = 101,
  INVALID_CONTEXT = 201,
  INVALID_PTX = 218,
  UNSUPPORTED_PTX_VERSION = 222,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_OUT_OF_RESOURCES = 701,
  CONTEXT_IS_DESTROYED = 709,
  MISALIGNED_ADDRESS = 716,
  LAUNCH_FAILED = 719,
};

struct EmulatedKernel;

struct Size3 {
  unsigned x, y, z;
  uint64_t count() const { return (uint64_t)x * y * z; }
};

/** Keeps a message and prints it, as one line. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *lastReport();
void forgetReport();

// ---- Device memory.

/** Null if there is no room. */
void *allocate(size_t bytes);
/** Whether there was such an allocation. */
bool release(void *start);
void releaseAll();
size_t liveBytes();
size_t liveAllocations();
size_t memoryLimit();
void setMemoryLimit(size_t bytes);

/**
 * Checks that device memory may be read (all of it was written), or written, and marks what is written as such.
 *
 * @return SUCCESS, or ILLEGAL_ADDRESS with a report
 */
Status checkRange(const void *start, size_t bytes, bool write, const char *who);
/** The same, without a look at what was written. */
Status checkAllocated(const void *start, size_t bytes, const char *who);
/** Makes memory as if nothing had been written there. */
void forgetRange(void *start, size_t bytes);

// ---- Kernels.

const EmulatedKernel *findKernel(const char *name);
/** Bytes of the kernel's shared variables. */
size_t sharedBytes(const char *kernel);
/** Runs a kernel; not SUCCESS with a report. */
Status launch(const EmulatedKernel *kernel, Size3 grid, Size3 block, const unsigned char *parameters);
/** Whether each launch runs a second time in the reverse order. */
void setOrderCheck(bool on);
/** Begins the sequence of orders anew, and the check of orders as the environment says. */
void resetLaunches();
