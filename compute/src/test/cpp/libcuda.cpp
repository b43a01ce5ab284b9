// Stand-in for libcuda.so.1: the driver's functions that are used, on the emulated GPU of machine.cpp.
//
// Work on streams is done as late as possible: when something waits for it. So host code that forgets to wait reads old data, or has
// what it wanted to send overwritten. Streams that nothing orders are worked off with the last used first.

#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "machine.h"

struct EmulatedParameter {
  unsigned size, alignment;
};
struct EmulatedKernel {
  const char *name;
  void (*run)(const unsigned char *parameters);
  const EmulatedParameter *parameters;
  unsigned count;
  unsigned threads;
};

namespace {

std::recursive_mutex mutex;
bool initialized;
// What ended the context: every call returns it from then on.
Status dead = SUCCESS;

struct Context {
  int device;
  int retained;
};
std::vector<std::unique_ptr<Context>> contexts;
thread_local std::vector<Context *> current;

struct Stream;
struct Moment {
  Stream *stream;
  uint64_t number;
};
struct Work {
  uint64_t number;
  std::function<Status()> run;
  std::vector<Moment> after;
};
struct Stream {
  std::deque<Work> queue;
  uint64_t last = 0;  // number of the last work given to it
  bool nonBlocking = false;
  bool destroyed = false;
};
struct Event {
  Moment moment{nullptr, 0};
  bool timing = true;
  std::chrono::steady_clock::time_point time;
};

uint64_t workNumber;
Stream defaultStream;
std::set<Stream *> streams;
std::set<Event *> events;

struct Module {
  std::set<std::string> entries;
};
struct Function {
  Module *module;
  const EmulatedKernel *kernel;
};
std::set<Module *> modules;
std::map<Function *, std::unique_ptr<Function>> functions;
std::map<void *, size_t> pinned;

Status enter(bool context = true) {
  if (!initialized) return NOT_INITIALIZED;
  if (dead != SUCCESS) return dead;
  if (!context) return SUCCESS;
  if (current.empty() || current.back() == nullptr) return INVALID_CONTEXT;
  return current.back()->retained > 0 ? SUCCESS : CONTEXT_IS_DESTROYED;
}

#define ENTER                                               \
  std::lock_guard<std::recursive_mutex> lock(mutex);        \
  if (Status status = enter(); status != SUCCESS) return status
#define ENTER_WITHOUT_CONTEXT                               \
  std::lock_guard<std::recursive_mutex> lock(mutex);        \
  if (Status status = enter(false); status != SUCCESS) return status
#define NEED(condition, status, ...)                        \
  do {                                                      \
    if (!(condition)) {                                     \
      report(__VA_ARGS__);                                  \
      return status;                                        \
    }                                                       \
  } while (0)

// ---- Streams.

/** Does a stream's work up to a number. */
void advance(Stream &stream, uint64_t number) {
  while (!stream.queue.empty() && stream.queue.front().number <= number) {
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    for (auto &moment : work.after) advance(*moment.stream, moment.number);
    if (dead != SUCCESS) continue;
    dead = work.run();
  }
}

void finish(Stream &stream) { advance(stream, workNumber); }

/** All streams, the last used first. */
std::vector<Stream *> byUse() {
  std::vector<Stream *> all(streams.begin(), streams.end());
  all.push_back(&defaultStream);
  std::sort(all.begin(), all.end(), [](Stream *a, Stream *b) { return a->last > b->last; });
  return all;
}

void finishAll() {
  for (Stream *stream : byUse()) finish(*stream);
}

/** What the default stream waits for. */
void finishBlocking() {
  for (Stream *stream : byUse()) {
    if (!stream->nonBlocking) finish(*stream);
  }
}

Stream *find(void *handle) {
  if (handle == nullptr || handle == (void *)1) return &defaultStream;
  auto *stream = (Stream *)handle;
  return streams.count(stream) && !stream->destroyed ? stream : nullptr;
}

void enqueue(Stream &stream, std::function<Status()> run, std::vector<Moment> after = {}) {
  // The default stream and the others wait for each other, but for those made not to.
  if (&stream == &defaultStream) {
    for (Stream *other : streams) {
      if (!other->nonBlocking) after.push_back({other, other->last});
    }
  } else if (!stream.nonBlocking) {
    after.push_back({&defaultStream, defaultStream.last});
  }
  stream.last = ++workNumber;
  stream.queue.push_back({stream.last, std::move(run), std::move(after)});
}

#define FIND_STREAM(handle)          \
  Stream *stream = find(handle);     \
  NEED(stream != nullptr, INVALID_HANDLE, "%s found an invalid stream %p", __func__, (void *)handle)

// ---- Copies.

enum Way { FROM_HOST, TO_HOST, ON_DEVICE };

/** Copies by the kernel, which refuses addresses that are not there; false then. */
bool copyHost(void *to, const void *from, size_t bytes, bool write) {
  char *t = (char *)to;
  const char *f = (const char *)from;
  while (bytes > 0) {
    size_t part = std::min(bytes, size_t(1) << 30);
    iovec ours{write ? (void *)f : (void *)t, part}, theirs{write ? (void *)t : (void *)f, part};
    ssize_t done = write ? process_vm_writev(getpid(), &ours, 1, &theirs, 1, 0)
                         : process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0);
    if (done < 0 && (errno == EPERM || errno == ENOSYS)) {
      memcpy(t, f, bytes);
      return true;
    }
    if (done <= 0) return false;
    t += done;
    f += done;
    bytes -= (size_t)done;
  }
  return true;
}

Status copy(Way way, void *to, const void *from, size_t bytes, const char *who) {
  if (way != FROM_HOST) {
    if (Status status = checkRange(from, bytes, false, who); status != SUCCESS) return status;
  }
  if (way != TO_HOST) {
    if (Status status = checkRange(to, bytes, true, who); status != SUCCESS) return status;
  }
  if (way == ON_DEVICE) {
    memmove(to, from, bytes);
  } else if (!copyHost(to, from, bytes, way == TO_HOST)) {
    report("%s: found no host memory of %zu bytes at %p", who, bytes, way == FROM_HOST ? from : to);
    return ILLEGAL_ADDRESS;
  }
  return SUCCESS;
}

Status checkArguments(Way way, const void *to, const void *from, size_t bytes, const char *who) {
  if (way != FROM_HOST && checkAllocated(from, bytes, who) != SUCCESS) return INVALID_VALUE;
  if (way != TO_HOST && checkAllocated(to, bytes, who) != SUCCESS) return INVALID_VALUE;
  if (bytes > 0 && (to == nullptr || from == nullptr)) {
    report("%s: found null, expected memory of %zu bytes", who, bytes);
    return INVALID_VALUE;
  }
  return SUCCESS;
}

/** A copy that is complete when it returns; it waits as the default stream does. */
Status copyNow(Way way, void *to, const void *from, size_t bytes, const char *who) {
  if (Status status = checkArguments(way, to, from, bytes, who); status != SUCCESS) return status;
  finishBlocking();
  if (dead == SUCCESS) dead = copy(way, to, from, bytes, who);
  return dead;
}

Status copyLater(Way way, void *to, const void *from, size_t bytes, void *handle, const char *who) {
  Stream *stream = find(handle);
  NEED(stream != nullptr, INVALID_HANDLE, "%s found an invalid stream %p", who, handle);
  if (Status status = checkArguments(way, to, from, bytes, who); status != SUCCESS) return status;
  enqueue(*stream, [=] { return copy(way, to, from, bytes, who); });
  return SUCCESS;
}

Status fillLater(uintptr_t to, uint32_t value, size_t size, size_t count, void *handle, const char *who) {
  Stream *stream = find(handle);
  NEED(stream != nullptr, INVALID_HANDLE, "%s found an invalid stream %p", who, handle);
  NEED(to % size == 0, INVALID_VALUE, "%s found address %#zx, expected a multiple of %zu", who, (size_t)to, size);
  if (checkAllocated((void *)to, size * count, who) != SUCCESS) return INVALID_VALUE;
  enqueue(*stream, [=] {
    if (Status status = checkRange((void *)to, size * count, true, who); status != SUCCESS) return status;
    for (size_t i = 0; i < count; i++) memcpy((char *)to + i * size, &value, size);
    return SUCCESS;
  });
  return SUCCESS;
}

// As cuda.h has it.
struct Copy2D {
  size_t srcXInBytes, srcY;
  int srcMemoryType;
  const void *srcHost;
  uintptr_t srcDevice;
  void *srcArray;
  size_t srcPitch, dstXInBytes, dstY;
  int dstMemoryType;
  void *dstHost;
  uintptr_t dstDevice;
  void *dstArray;
  size_t dstPitch, WidthInBytes, Height;
};
enum { MEMORY_HOST = 1, MEMORY_DEVICE = 2 };

/** A list of copies of rows. */
Status rows(const Copy2D &c, const std::function<Status(Way, void *, const void *, size_t)> &row) {
  const char *who = "cuMemcpy2D";
  NEED((c.srcMemoryType == MEMORY_HOST || c.srcMemoryType == MEMORY_DEVICE) &&
           (c.dstMemoryType == MEMORY_HOST || c.dstMemoryType == MEMORY_DEVICE) &&
           (c.srcMemoryType == MEMORY_DEVICE || c.dstMemoryType == MEMORY_DEVICE),
       INVALID_VALUE, "%s found memory types %d and %d, expected host (1) and device (2)", who, c.srcMemoryType, c.dstMemoryType);
  NEED(c.Height < 2 || (c.srcPitch >= c.srcXInBytes + c.WidthInBytes && c.dstPitch >= c.dstXInBytes + c.WidthInBytes),
       INVALID_VALUE, "%s found pitches of %zu and %zu bytes, expected at least the width of %zu", who, c.srcPitch, c.dstPitch,
       c.WidthInBytes);
  Way way = c.srcMemoryType == MEMORY_HOST ? FROM_HOST : c.dstMemoryType == MEMORY_HOST ? TO_HOST : ON_DEVICE;
  const char *from = c.srcMemoryType == MEMORY_HOST ? (const char *)c.srcHost : (const char *)c.srcDevice;
  char *to = c.dstMemoryType == MEMORY_HOST ? (char *)c.dstHost : (char *)c.dstDevice;
  for (size_t y = 0; y < c.Height; y++) {
    Status status = row(way, to + (c.dstY + y) * c.dstPitch + c.dstXInBytes, from + (c.srcY + y) * c.srcPitch + c.srcXInBytes,
                        c.WidthInBytes);
    if (status != SUCCESS) return status;
  }
  return SUCCESS;
}

Status copy2D(const Copy2D &description, void *handle, bool later) {
  Stream *stream = find(handle);
  NEED(stream != nullptr, INVALID_HANDLE, "cuMemcpy2DAsync_v2 found an invalid stream %p", handle);
  Status status = rows(description, [](Way way, void *to, const void *from, size_t bytes) {
    return checkArguments(way, to, from, bytes, "cuMemcpy2D");
  });
  if (status != SUCCESS) return status;
  auto run = [description] {
    return rows(description, [](Way way, void *to, const void *from, size_t bytes) {
      return copy(way, to, from, bytes, "cuMemcpy2D");
    });
  };
  if (later) {
    enqueue(*stream, run);
    return SUCCESS;
  }
  finishBlocking();
  if (dead == SUCCESS) dead = run();
  return dead;
}

struct Name {
  int status;
  const char *name, *text;
};
const Name NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources requested for launch"},
    {CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
};

int deviceCount() {
  const char *count = getenv("EMULATED_CUDA_DEVICES");
  return count != nullptr ? atoi(count) : 1;
}

}  // namespace

// ---------------------------------------------------------------------------------------------------------------- for the tests

/** What went wrong last, "" if nothing did. */
EXPORT const char *emulated_cuda_error() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  static thread_local std::string copy;
  copy = lastReport();
  return copy.c_str();
}

/** Whether each launch runs a second time in the reverse order (1, as without EMULATED_CUDA_CHECKS=0) or not (0). */
EXPORT void emulated_cuda_checks(int order) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  setOrderCheck(order != 0);
}

/** Bytes of device memory; 0 for what the environment says. */
EXPORT void emulated_cuda_memory(unsigned long long bytes) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  setMemoryLimit(bytes);
}

EXPORT unsigned long long emulated_cuda_live_allocations() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return liveAllocations();
}

EXPORT unsigned long long emulated_cuda_live_bytes() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return liveBytes();
}

/** Allocations of pinned host memory. */
EXPORT unsigned long long emulated_cuda_live_pinned() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return pinned.size();
}

/** As in a process that has just begun; handles and device memory from before are invalid. */
EXPORT void emulated_cuda_reset() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  for (Stream *stream : streams) delete stream;
  streams.clear();
  for (Event *event : events) delete event;
  events.clear();
  for (Module *module : modules) delete module;
  modules.clear();
  functions.clear();
  for (auto &[start, bytes] : pinned) munmap(start, bytes);
  pinned.clear();
  defaultStream = Stream();
  for (auto &context : contexts) context->retained = 0;
  current.clear();
  dead = SUCCESS;
  releaseAll();
  forgetReport();
  setMemoryLimit(0);
  resetLaunches();
}

// ---------------------------------------------------------------------------------------------------------------- for the libraries

/** Checks device memory that a library reads or writes (1), and marks what it writes; a status of the driver. */
EXPORT int emulated_cuda_check(const void *start, size_t bytes, int write, const char *who) {
  return checkRange(start, bytes, write != 0, who);
}

/** Makes device memory as if nothing had been written there. */
EXPORT void emulated_cuda_forget(void *start, size_t bytes) { forgetRange(start, bytes); }

EXPORT void emulated_cuda_report(const char *text) { report("%s", text); }

/** What a library's call would return at once: no context, or a dead one. */
EXPORT int emulated_cuda_ready() {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return enter();
}

/** Gives work to a stream. It returns a status of the driver; anything but 0 ends the context. */
EXPORT int emulated_cuda_enqueue(void *handle, int (*run)(void *), void *data, void (*release)(void *)) {
  std::shared_ptr<void> owner(data, release);
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (Status status = enter(); status != SUCCESS) return status;
  FIND_STREAM(handle);
  enqueue(*stream, [run, owner] { return (Status)run(owner.get()); });
  return SUCCESS;
}

// ---------------------------------------------------------------------------------------------------------------- devices, contexts

EXPORT int cuInit(unsigned flags) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (flags != 0) return INVALID_VALUE;
  if (deviceCount() == 0) return 100;
  initialized = true;
  while ((int)contexts.size() < deviceCount()) contexts.push_back(std::make_unique<Context>(Context{(int)contexts.size(), 0}));
  return SUCCESS;
}

EXPORT int cuDriverGetVersion(int *version) {
  *version = 12060;
  return SUCCESS;
}

EXPORT int cuDeviceGetCount(int *count) {
  ENTER_WITHOUT_CONTEXT;
  *count = deviceCount();
  return SUCCESS;
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
  ENTER_WITHOUT_CONTEXT;
  if (ordinal < 0 || ordinal >= deviceCount()) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

#define CHECK_DEVICE(device) \
  if ((device) < 0 || (device) >= (int)contexts.size()) return INVALID_DEVICE

EXPORT int cuDeviceGetName(char *name, int length, int device) {
  ENTER_WITHOUT_CONTEXT;
  CHECK_DEVICE(device);
  if (length <= 0) return INVALID_VALUE;
  snprintf(name, (size_t)length, "emulated");
  return SUCCESS;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  ENTER_WITHOUT_CONTEXT;
  CHECK_DEVICE(device);
  *bytes = memoryLimit();
  return SUCCESS;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
  ENTER_WITHOUT_CONTEXT;
  CHECK_DEVICE(device);
  // An H100's.
  static const std::map<int, int> VALUES = {
      {1, 1024},       // threads per block
      {2, 1024},       // block x
      {3, 1024},       // block y
      {4, 64},         // block z
      {5, 2147483647}, // grid x
      {6, 65535},      // grid y
      {7, 65535},      // grid z
      {8, 49152},      // shared memory per block
      {9, 65536},      // constant memory
      {10, 32},        // warp
      {12, 65536},     // registers per block
      {13, 1785000},   // kHz
      {14, 512},       // texture alignment
      {15, 1},         // copies while computing
      {16, 132},       // multiprocessors
      {19, 1},         // maps host memory
      {31, 1},         // concurrent kernels
      {33, 0},         // PCI bus
      {36, 2619000},   // kHz of memory
      {37, 5120},      // bits of the memory bus
      {38, 52428800},  // L2
      {39, 2048},      // threads per multiprocessor
      {40, 3},         // copy engines
      {41, 1},         // unified addressing
      {75, 9},         // compute capability
      {76, 0},
      {81, 233472},    // shared memory per multiprocessor
      {82, 65536},     // registers per multiprocessor
      {97, 232448},    // shared memory per block, if asked for
  };
  auto found = VALUES.find(attribute);
  *value = found == VALUES.end() ? 0 : found->second;
  return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
  ENTER_WITHOUT_CONTEXT;
  CHECK_DEVICE(device);
  contexts[device]->retained++;
  *context = contexts[device].get();
  return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (!initialized) return NOT_INITIALIZED;
  CHECK_DEVICE(device);
  if (contexts[device]->retained == 0) return INVALID_CONTEXT;
  finishAll();
  Status status = dead;
  // The next one to retain gets a new context. Memory that was not freed is left for the tests to count, unless it could not be.
  if (--contexts[device]->retained == 0 && dead != SUCCESS) {
    releaseAll();
    dead = SUCCESS;
  }
  return status;
}

static Context *findContext(void *handle) {
  for (auto &context : contexts) {
    if (context.get() == handle) return context.get();
  }
  return nullptr;
}

EXPORT int cuCtxSetCurrent(void *handle) {
  ENTER_WITHOUT_CONTEXT;
  Context *context = findContext(handle);
  if (handle != nullptr && (context == nullptr || context->retained == 0)) return INVALID_CONTEXT;
  if (!current.empty()) current.pop_back();
  if (context != nullptr) current.push_back(context);
  return SUCCESS;
}

EXPORT int cuCtxGetCurrent(void **handle) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (!initialized) return NOT_INITIALIZED;
  *handle = current.empty() ? nullptr : current.back();
  return SUCCESS;
}

EXPORT int cuCtxPushCurrent_v2(void *handle) {
  ENTER_WITHOUT_CONTEXT;
  Context *context = findContext(handle);
  if (context == nullptr || context->retained == 0) return INVALID_CONTEXT;
  current.push_back(context);
  return SUCCESS;
}

EXPORT int cuCtxPopCurrent_v2(void **handle) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (!initialized) return NOT_INITIALIZED;
  if (current.empty()) return INVALID_CONTEXT;
  if (handle != nullptr) *handle = current.back();
  current.pop_back();
  return SUCCESS;
}

EXPORT int cuCtxGetDevice(int *device) {
  ENTER;
  *device = current.back()->device;
  return SUCCESS;
}

EXPORT int cuCtxSynchronize() {
  ENTER;
  finishAll();
  return dead;
}

// ---------------------------------------------------------------------------------------------------------------- memory

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *total) {
  ENTER;
  *total = memoryLimit();
  *free = memoryLimit() - std::min(memoryLimit(), liveBytes());
  return SUCCESS;
}

EXPORT int cuMemAlloc_v2(uintptr_t *address, size_t bytes) {
  ENTER;
  NEED(bytes > 0, INVALID_VALUE, "cuMemAlloc_v2 found 0 bytes, expected at least one");
  void *start = allocate(bytes);
  if (start == nullptr) return OUT_OF_MEMORY;
  *address = (uintptr_t)start;
  return SUCCESS;
}

EXPORT int cuMemFree_v2(uintptr_t address) {
  ENTER;
  // The driver waits for the device too.
  finishAll();
  if (dead != SUCCESS) return dead;
  if (address == 0) return SUCCESS;
  NEED(release((void *)address), INVALID_VALUE, "cuMemFree_v2 found %#zx, expected the start of a live allocation",
       (size_t)address);
  return SUCCESS;
}

EXPORT int cuMemHostAlloc(void **address, size_t bytes, unsigned) {
  ENTER;
  NEED(bytes > 0, INVALID_VALUE, "cuMemHostAlloc found 0 bytes, expected at least one");
  void *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return OUT_OF_MEMORY;
  pinned[start] = bytes;
  *address = start;
  return SUCCESS;
}

EXPORT int cuMemAllocHost_v2(void **address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }

EXPORT int cuMemFreeHost(void *address) {
  ENTER;
  finishAll();
  if (dead != SUCCESS) return dead;
  auto found = pinned.find(address);
  NEED(found != pinned.end(), INVALID_VALUE, "cuMemFreeHost found %p, expected pinned memory", address);
  munmap(found->first, found->second);
  pinned.erase(found);
  return SUCCESS;
}

EXPORT int cuMemcpyHtoD_v2(uintptr_t to, const void *from, size_t bytes) {
  ENTER;
  return copyNow(FROM_HOST, (void *)to, from, bytes, __func__);
}
EXPORT int cuMemcpyDtoH_v2(void *to, uintptr_t from, size_t bytes) {
  ENTER;
  return copyNow(TO_HOST, to, (void *)from, bytes, __func__);
}
EXPORT int cuMemcpyDtoD_v2(uintptr_t to, uintptr_t from, size_t bytes) {
  ENTER;
  return copyLater(ON_DEVICE, (void *)to, (void *)from, bytes, nullptr, __func__);
}
EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *stream) {
  ENTER;
  return copyLater(FROM_HOST, (void *)to, from, bytes, stream, __func__);
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *stream) {
  ENTER;
  return copyLater(TO_HOST, to, (void *)from, bytes, stream, __func__);
}
EXPORT int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void *stream) {
  ENTER;
  return copyLater(ON_DEVICE, (void *)to, (void *)from, bytes, stream, __func__);
}
EXPORT int cuMemcpy2D_v2(const Copy2D *description) {
  ENTER;
  return copy2D(*description, nullptr, false);
}
EXPORT int cuMemcpy2DAsync_v2(const Copy2D *description, void *stream) {
  ENTER;
  return copy2D(*description, stream, true);
}

EXPORT int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t count, void *stream) {
  ENTER;
  return fillLater(to, value, 1, count, stream, __func__);
}
EXPORT int cuMemsetD32Async(uintptr_t to, unsigned value, size_t count, void *stream) {
  ENTER;
  return fillLater(to, value, 4, count, stream, __func__);
}
// These do not wait for the device either.
EXPORT int cuMemsetD8_v2(uintptr_t to, unsigned char value, size_t count) { return cuMemsetD8Async(to, value, count, nullptr); }
EXPORT int cuMemsetD32_v2(uintptr_t to, unsigned value, size_t count) { return cuMemsetD32Async(to, value, count, nullptr); }

// ---------------------------------------------------------------------------------------------------------------- modules

EXPORT int cuModuleLoadData(void **handle, const void *image) {
  ENTER;
  std::string text = (const char *)image, line;
  auto module = std::make_unique<Module>();
  double version = 0;
  for (size_t at = 0; at < text.size(); at += line.size() + 1) {
    line = text.substr(at, text.find('\n', at) - at);
    size_t entry = line.find(".entry ");
    if (line.compare(0, 9, ".version ") == 0) version = atof(line.c_str() + 9);
    if (entry == std::string::npos || line.compare(0, 2, "//") == 0) continue;
    std::string name = line.substr(entry + 7);
    module->entries.insert(name.substr(0, name.find_first_of("( \t\r")));
  }
  NEED(version != 0 && text.find("\n.target ") != std::string::npos, INVALID_PTX,
       "cuModuleLoadData found no lines .version and .target, expected PTX");
  NEED(version <= 8.0, UNSUPPORTED_PTX_VERSION, "cuModuleLoadData found PTX of version %g, expected at most 8.0", version);
  modules.insert(module.get());
  *handle = module.release();
  return SUCCESS;
}

EXPORT int cuModuleLoadDataEx(void **handle, const void *image, unsigned, int *, void **) {
  return cuModuleLoadData(handle, image);
}

EXPORT int cuModuleUnload(void *handle) {
  ENTER;
  auto *module = (Module *)handle;
  NEED(modules.count(module), INVALID_HANDLE, "cuModuleUnload found an invalid module %p", handle);
  finishAll();
  for (auto i = functions.begin(); i != functions.end();) {
    i = i->second->module == module ? functions.erase(i) : std::next(i);
  }
  modules.erase(module);
  delete module;
  return dead;
}

EXPORT int cuModuleGetFunction(void **handle, void *moduleHandle, const char *name) {
  ENTER;
  auto *module = (Module *)moduleHandle;
  NEED(modules.count(module), INVALID_HANDLE, "cuModuleGetFunction found an invalid module %p", moduleHandle);
  NEED(module->entries.count(name), NOT_FOUND, "cuModuleGetFunction: the PTX has no entry '%s'", name);
  const EmulatedKernel *kernel = findKernel(name);
  NEED(kernel != nullptr, NOT_FOUND, "cuModuleGetFunction: no .cu file has a kernel '%s'", name);
  auto function = std::make_unique<Function>(Function{module, kernel});
  *handle = function.get();
  functions[function.get()] = std::move(function);
  return SUCCESS;
}

static Function *findFunction(void *handle) {
  auto found = functions.find((Function *)handle);
  return found == functions.end() ? nullptr : found->second.get();
}

EXPORT int cuFuncGetAttribute(int *value, int attribute, void *handle) {
  ENTER;
  Function *function = findFunction(handle);
  NEED(function != nullptr, INVALID_HANDLE, "cuFuncGetAttribute found an invalid function %p", handle);
  switch (attribute) {
    case 0: *value = (int)function->kernel->threads; break;
    case 1: *value = (int)sharedBytes(function->kernel->name); break;
    case 4: *value = 32; break;  // registers
    case 5: *value = 75; break;  // version of the PTX
    case 6: *value = 90; break;  // version of the code
    default: *value = 0;
  }
  return SUCCESS;
}

EXPORT int cuFuncSetCacheConfig(void *, int) {
  ENTER;
  return SUCCESS;
}

EXPORT int cuLaunchKernel(void *handle, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX, unsigned blockY,
                          unsigned blockZ, unsigned dynamicShared, void *streamHandle, void **arguments, void **extra) {
  ENTER;
  Function *function = findFunction(handle);
  NEED(function != nullptr, INVALID_HANDLE, "cuLaunchKernel found an invalid function %p", handle);
  FIND_STREAM(streamHandle);
  const EmulatedKernel *kernel = function->kernel;
  Size3 grid{gridX, gridY, gridZ}, block{blockX, blockY, blockZ};
  NEED(gridX > 0 && gridY > 0 && gridZ > 0 && gridX <= 2147483647 && gridY <= 65535 && gridZ <= 65535, INVALID_VALUE,
       "cuLaunchKernel of %s found a grid of (%u, %u, %u), expected 1 to (2147483647, 65535, 65535)", kernel->name, gridX, gridY,
       gridZ);
  NEED(blockX > 0 && blockY > 0 && blockZ > 0 && blockX <= 1024 && blockY <= 1024 && blockZ <= 64 && block.count() <= 1024,
       INVALID_VALUE,
       "cuLaunchKernel of %s found a block of (%u, %u, %u), expected 1 to (1024, 1024, 64), together at most 1024 threads",
       kernel->name, blockX, blockY, blockZ);
  NEED(block.count() <= kernel->threads, INVALID_VALUE,
       "cuLaunchKernel of %s found a block of (%u, %u, %u), expected at most the %u threads of its launch bounds", kernel->name,
       blockX, blockY, blockZ, kernel->threads);
  NEED(dynamicShared == 0, INVALID_VALUE, "cuLaunchKernel of %s found %u bytes of dynamic shared memory, expected 0", kernel->name,
       dynamicShared);
  NEED(sharedBytes(kernel->name) <= 49152, LAUNCH_OUT_OF_RESOURCES,
       "cuLaunchKernel of %s found %zu bytes of shared variables, expected at most 49152", kernel->name, sharedBytes(kernel->name));

  size_t size = 0;
  std::vector<size_t> offsets;
  for (unsigned i = 0; i < kernel->count; i++) {
    auto [bytes, alignment] = kernel->parameters[i];
    size = (size + alignment - 1) / alignment * alignment;
    offsets.push_back(size);
    size += bytes;
  }
  auto packed = std::make_shared<std::vector<unsigned char>>(size + 1);
  if (arguments != nullptr || kernel->count == 0) {
    for (unsigned i = 0; i < kernel->count; i++) {
      NEED(arguments[i] != nullptr, INVALID_VALUE, "cuLaunchKernel of %s found null as argument %u", kernel->name, i);
      memcpy(packed->data() + offsets[i], arguments[i], kernel->parameters[i].size);
    }
  } else {
    const void *buffer = nullptr;
    size_t bytes = 0;
    // CU_LAUNCH_PARAM_BUFFER_POINTER and ..._SIZE, up to CU_LAUNCH_PARAM_END.
    for (void **i = extra; i != nullptr && *i != nullptr; i += 2) {
      if (*i == (void *)1) buffer = i[1];
      if (*i == (void *)2) bytes = *(size_t *)i[1];
    }
    NEED(buffer != nullptr && bytes >= size, INVALID_VALUE, "cuLaunchKernel of %s found %zu bytes of arguments, expected %zu",
         kernel->name, bytes, size);
    memcpy(packed->data(), buffer, size);
  }
  enqueue(*stream, [=] { return launch(kernel, grid, block, packed->data()); });
  return SUCCESS;
}

// ---------------------------------------------------------------------------------------------------------------- streams, events

EXPORT int cuStreamCreate(void **handle, unsigned flags) {
  ENTER;
  auto *stream = new Stream();
  stream->nonBlocking = flags == 1;
  streams.insert(stream);
  *handle = stream;
  return SUCCESS;
}

EXPORT int cuStreamDestroy_v2(void *handle) {
  ENTER;
  FIND_STREAM(handle);
  NEED(stream != &defaultStream, INVALID_HANDLE, "cuStreamDestroy_v2 found the default stream");
  // Its work goes on.
  stream->destroyed = true;
  return SUCCESS;
}

EXPORT int cuStreamSynchronize(void *handle) {
  ENTER;
  FIND_STREAM(handle);
  if (stream == &defaultStream) {
    finishBlocking();
  } else {
    finish(*stream);
  }
  return dead;
}

EXPORT int cuStreamQuery(void *handle) {
  ENTER;
  FIND_STREAM(handle);
  if (stream->queue.empty()) return SUCCESS;
  // So that who asks again and again is answered at last.
  advance(*stream, stream->queue.front().number);
  return dead != SUCCESS ? dead : stream->queue.empty() ? SUCCESS : NOT_READY;
}

EXPORT int cuEventCreate(void **handle, unsigned flags) {
  ENTER;
  auto *event = new Event();
  event->timing = (flags & 2) == 0;
  events.insert(event);
  *handle = event;
  return SUCCESS;
}

#define FIND_EVENT(handle)                \
  auto *event = (Event *)handle;          \
  NEED(events.count(event), INVALID_HANDLE, "%s found an invalid event %p", __func__, (void *)handle)

EXPORT int cuEventDestroy_v2(void *handle) {
  ENTER;
  FIND_EVENT(handle);
  events.erase(event);
  delete event;
  return SUCCESS;
}

EXPORT int cuEventRecord(void *handle, void *streamHandle) {
  ENTER;
  FIND_EVENT(handle);
  FIND_STREAM(streamHandle);
  enqueue(*stream, [event] {
    if (events.count(event)) event->time = std::chrono::steady_clock::now();
    return SUCCESS;
  });
  event->moment = {stream, stream->last};
  return SUCCESS;
}

EXPORT int cuStreamWaitEvent(void *handle, void *eventHandle, unsigned) {
  ENTER;
  FIND_STREAM(handle);
  FIND_EVENT(eventHandle);
  if (event->moment.stream != nullptr) enqueue(*stream, [] { return SUCCESS; }, {event->moment});
  return SUCCESS;
}

static bool isOver(Event *event) {
  auto [stream, number] = event->moment;
  return stream == nullptr || stream->queue.empty() || stream->queue.front().number > number;
}

EXPORT int cuEventQuery(void *handle) {
  ENTER;
  FIND_EVENT(handle);
  if (isOver(event)) return SUCCESS;
  advance(*event->moment.stream, event->moment.stream->queue.front().number);
  return dead != SUCCESS ? dead : isOver(event) ? SUCCESS : NOT_READY;
}

EXPORT int cuEventSynchronize(void *handle) {
  ENTER;
  FIND_EVENT(handle);
  if (event->moment.stream != nullptr) advance(*event->moment.stream, event->moment.number);
  return dead;
}

EXPORT int cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  ENTER;
  auto *from = (Event *)start, *to = (Event *)end;
  NEED(events.count(from) && events.count(to) && from->timing && to->timing && from->moment.stream != nullptr &&
           to->moment.stream != nullptr,
       INVALID_HANDLE, "cuEventElapsedTime found an event that was not recorded, or without timing");
  if (!isOver(from) || !isOver(to)) return NOT_READY;
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return SUCCESS;
}

// ---------------------------------------------------------------------------------------------------------------- names of errors

EXPORT int cuGetErrorName(int status, const char **name) {
  for (auto &entry : NAMES) {
    if (entry.status != status) continue;
    *name = entry.name;
    return SUCCESS;
  }
  *name = nullptr;
  return INVALID_VALUE;
}

EXPORT int cuGetErrorString(int status, const char **text) {
  for (auto &entry : NAMES) {
    if (entry.status != status) continue;
    *text = entry.text;
    return SUCCESS;
  }
  *text = nullptr;
  return INVALID_VALUE;
}
