// Memory whose every access is checked, and threads as fibers. See machine.h.
//
// The .cu files are compiled with -fsanitize=thread but not linked with its library: the functions that it calls before each access
// are defined here. Each byte of device memory and of shared variables has a state (allocated, written); each word of four bytes
// has a cell that says who read and wrote it last.

#include "machine.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <unordered_map>
#include <vector>

#include "emulated_cuda.h"
#undef memcpy
#undef memset

#if !defined(__x86_64__)
#define EMULATED_UCONTEXT
#endif
#if defined(EMULATED_UCONTEXT)
#include <ucontext.h>
#endif

#define UNLIKELY(x) __builtin_expect(!!(x), 0)

// threadIdx and so on: kernels see them declared const.
extern "C" {
__attribute__((visibility("hidden"))) Size3 emulated_thread, emulated_block, emulated_block_size, emulated_grid_size;
}

// ---------------------------------------------------------------------------------------------------------------- reports

static std::string message;

void report(const char *format, ...) {
  char line[1024];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  message = line;
  fprintf(stderr, "emulated CUDA: %s\n", line);
}
const char *lastReport() { return message.c_str(); }
void forgetReport() { message.clear(); }

// ---------------------------------------------------------------------------------------------------------------- state

// Addresses are not used again until all of them have been used, so that use after free is seen.
static const uintptr_t RANGE = uintptr_t(64) << 30;
static const uintptr_t ALIGNMENT = 256;
static const uintptr_t PAGE = 4096;

// A byte's state. Bytes that are not allocated have 0, what was freed too: the list of allocations knows more.
enum : uint8_t { LIVE = 1, WRITTEN = 2 };
static const uint32_t LIVE_WORD = 0x01010101, WRITTEN_WORD = 0x03030303;

// Who accessed a word last, in two tags: bits from 28 the epoch, from 14 the count of the warp's meetings in that epoch, from 4 the
// thread, below that flags. Epochs count through the barriers of all blocks of all launches, so an old tag needs no clearing.
struct Cell {
  uint64_t write, read;
};
enum : uint64_t {
  MANY_LANES = 1,   // several threads of that thread's warp
  MANY_WARPS = 2,   // threads of several warps
  MANY_BLOCKS = 4,  // threads of several blocks
  ATOMIC = 8,       // in write: the access was atomic
  SPLIT = 8,        // in read: the four bytes have cells of their own, at the index that write gives
};
static const int EPOCH_SHIFT = 28, MEETING_SHIFT = 14, THREAD_SHIFT = 4;
static const uint64_t MEETINGS = (1 << (EPOCH_SHIFT - MEETING_SHIFT)) - 1, THREADS = 1023;

struct Memory {
  uintptr_t base = 0, size = 0;
  uint8_t *state = nullptr;
  Cell *cells = nullptr;
  // Tags below this one are from before: an earlier launch, or, for shared variables, an earlier block.
  uint64_t floor = 0;
};
static Memory device, shared;

struct SplitCell {
  Cell bytes[4];
};
static std::vector<SplitCell> splits;

// What a word held before the launch wrote it.
struct OldWord {
  uint64_t index;
  uint32_t data, state;
};
static std::vector<OldWord> oldWords;
static bool logging;

static uint64_t epoch = 1;
static uint64_t blockFloor;  // the tag of the current block's first epoch
static uint64_t now;         // the tag of what the current thread does now, without flags

extern "C" char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

static void *reserve(size_t bytes) {
  void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) {
    fprintf(stderr, "emulated CUDA: %zu bytes of address space found none, expected to reserve them\n", bytes);
    abort();
  }
  return at;
}

static void prepare() {
  if (device.base != 0) return;
  device.size = RANGE;
  device.base = (uintptr_t)reserve(RANGE);
  device.state = (uint8_t *)reserve(RANGE);
  device.cells = (Cell *)reserve(RANGE / 4 * sizeof(Cell));
  shared.base = (uintptr_t)__start_emulated_shared;
  shared.size = (uintptr_t)__stop_emulated_shared - shared.base;
  shared.state = (uint8_t *)calloc(shared.size + 16, 1);
  shared.cells = (Cell *)calloc(shared.size / 4 + 4, sizeof(Cell));
}

// ---------------------------------------------------------------------------------------------------------------- allocations

struct Allocation {
  size_t bytes;
  bool live;
};
static std::map<uintptr_t, Allocation> allocations;
static uintptr_t fresh = ALIGNMENT;  // offset of the first address never used
static size_t live, liveCount;

static size_t initialLimit() {
  const char *limit = getenv("EMULATED_CUDA_MEMORY");
  return limit != nullptr ? strtoull(limit, nullptr, 10) : size_t(4) << 30;
}
static size_t limit = initialLimit();

size_t liveBytes() { return live; }
size_t liveAllocations() { return liveCount; }
size_t memoryLimit() { return limit; }
void setMemoryLimit(size_t bytes) { limit = bytes != 0 ? bytes : initialLimit(); }

static uintptr_t aligned(uintptr_t value) { return (value + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/** Zeros whole pages by giving them back. */
static void zero(void *start, size_t bytes) {
  uintptr_t from = (uintptr_t)start, to = from + bytes;
  uintptr_t fromPage = (from + PAGE - 1) / PAGE * PAGE, toPage = to / PAGE * PAGE;
  if (fromPage >= toPage) {
    memset(start, 0, bytes);
    return;
  }
  memset(start, 0, fromPage - from);
  madvise((void *)fromPage, toPage - fromPage, MADV_DONTNEED);
  memset((void *)toPage, 0, to - toPage);
}

/** The offset of new memory, 0 if there is no room. */
static uintptr_t findRoom(uintptr_t need) {
  if (fresh + need <= RANGE) {
    fresh += need;
    return fresh - need;
  }
  // Forced to use addresses again: forgets what was freed, and takes the first gap.
  for (auto i = allocations.begin(); i != allocations.end();) i = i->second.live ? std::next(i) : allocations.erase(i);
  uintptr_t at = ALIGNMENT;
  for (auto &[start, allocation] : allocations) {
    if (at + need <= start - device.base) break;
    at = aligned(start - device.base + allocation.bytes) + ALIGNMENT;
  }
  return at + need <= RANGE ? at : 0;
}

void *allocate(size_t bytes) {
  prepare();
  if (bytes > limit || live > limit - bytes) return nullptr;
  // With a gap that belongs to nobody.
  uintptr_t at = findRoom(aligned(bytes) + ALIGNMENT);
  if (at == 0) return nullptr;
  allocations[device.base + at] = {bytes, true};
  memset(device.state + at, LIVE, bytes);
  live += bytes;
  liveCount++;
  return (void *)(device.base + at);
}

static void releaseAt(uintptr_t start, Allocation &allocation) {
  uintptr_t at = start - device.base;
  zero((void *)start, allocation.bytes);
  zero(device.state + at, allocation.bytes);
  zero(device.cells + at / 4, (allocation.bytes + 3) / 4 * sizeof(Cell));
  allocation.live = false;
  live -= allocation.bytes;
  liveCount--;
}

bool release(void *start) {
  auto found = allocations.find((uintptr_t)start);
  if (found == allocations.end() || !found->second.live) return false;
  releaseAt(found->first, found->second);
  return true;
}

void releaseAll() {
  for (auto &[start, allocation] : allocations) {
    if (allocation.live) releaseAt(start, allocation);
  }
}

/** What lies at an address, in words. */
static std::string place(uintptr_t address) {
  char text[200];
  if (address - device.base < device.size) {
    auto after = allocations.upper_bound(address);
    if (after == allocations.begin()) return "device memory before the first allocation";
    auto &[start, allocation] = *std::prev(after);
    uintptr_t offset = address - start;
    if (offset < allocation.bytes) {
      snprintf(text, sizeof text, "byte %zu of %s of %zu bytes at %#zx", (size_t)offset,
               allocation.live ? "an allocation" : "a freed allocation", allocation.bytes, (size_t)start);
    } else {
      snprintf(text, sizeof text, "%zu bytes past the end of %s of %zu bytes at %#zx", (size_t)(offset - allocation.bytes),
               allocation.live ? "an allocation" : "a freed allocation", allocation.bytes, (size_t)start);
    }
    return text;
  }
  return address == 0 ? "null" : address < PAGE ? "almost null" : "no device memory (host memory, or another thread's)";
}

static Status checkBytes(const void *start, size_t bytes, uint8_t wanted, const char *who, const char *what) {
  if (bytes == 0) return SUCCESS;
  uintptr_t from = (uintptr_t)start - device.base;
  uintptr_t bad;
  if (device.base == 0 || from >= device.size || bytes > device.size - from) {
    bad = (uintptr_t)start;
  } else {
    const uint8_t *state = device.state + from;
    uint64_t all = wanted * 0x0101010101010101ull;
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
      uint64_t eight;
      memcpy(&eight, state + i, 8);
      if ((eight & all) != all) break;
    }
    while (i < bytes && (state[i] & wanted) == wanted) i++;
    if (i == bytes) return SUCCESS;
    bad = (uintptr_t)start + i;
    if (state[i] & LIVE) what = "reads what nothing wrote";
  }
  report("%s: %s: %zu bytes at %#zx, of which the one at %#zx is %s", who, what, bytes, (size_t)start, (size_t)bad,
         place(bad).c_str());
  return ILLEGAL_ADDRESS;
}

Status checkAllocated(const void *start, size_t bytes, const char *who) {
  return checkBytes(start, bytes, LIVE, who, "out of bounds");
}

Status checkRange(const void *start, size_t bytes, bool write, const char *who) {
  Status status =
      checkBytes(start, bytes, write ? LIVE : LIVE | WRITTEN, who, write ? "writes out of bounds" : "reads out of bounds");
  if (status == SUCCESS && write && bytes > 0) {
    memset(device.state + ((uintptr_t)start - device.base), LIVE | WRITTEN, bytes);
  }
  return status;
}

void forgetRange(void *start, size_t bytes) {
  if (bytes > 0) memset(device.state + ((uintptr_t)start - device.base), LIVE, bytes);
}

// ---------------------------------------------------------------------------------------------------------------- fibers

// More than a GPU has for the local variables of a thread, 512 KiB.
static const size_t STACK = 1 << 20;

enum class State { NEW, READY, AT_BARRIER, AT_MEETING, DONE };

struct Fiber {
#if !defined(EMULATED_UCONTEXT)
  void *stackPointer;
#else
  ucontext_t context;
#endif
  char *stack;
  State state;
  int line;           // of the barrier or meeting
  uint64_t meetings;  // of its warp, in this epoch
  // The meeting:
  unsigned mask;
  unsigned long long value;
  int operation;
};

static std::vector<Fiber> fibers(1024);
static std::vector<char *> stacks;
static Fiber *current;
static unsigned currentIndex;
static uintptr_t stackBase;  // of the current fiber
static Status failure;

static const EmulatedKernel *kernel;
static const unsigned char *parameters;
static Size3 gridSize, blockSize;

static void fiberMain();

#if !defined(EMULATED_UCONTEXT)
static void *schedulerStack;
// Saves what a function must keep, changes stacks, and returns on the other one.
extern "C" void emulated_switch(void **saved, void *to) __attribute__((visibility("hidden")));
__asm__(
    ".text\n.globl emulated_switch\n.hidden emulated_switch\n.type emulated_switch,@function\nemulated_switch:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
    ".size emulated_switch,.-emulated_switch\n");
static void toScheduler() { emulated_switch(&current->stackPointer, schedulerStack); }
static void toFiber() { emulated_switch(&schedulerStack, current->stackPointer); }
static void prepareFiber(Fiber &fiber) {
  void **top = (void **)(fiber.stack + STACK);
  *--top = nullptr;
  *--top = (void *)fiberMain;
  fiber.stackPointer = top - 6;
}
#else
static ucontext_t scheduler;
static void toScheduler() { swapcontext(&current->context, &scheduler); }
static void toFiber() { swapcontext(&scheduler, &current->context); }
static void prepareFiber(Fiber &fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiberMain, 0);
}
#endif

static char *newStack() {
  if (!stacks.empty()) {
    char *stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  char *at = (char *)reserve(STACK + PAGE);
  mprotect(at, PAGE, PROT_NONE);
  return at + PAGE;
}

static void fiberMain() {
  kernel->run(parameters);
  current->state = State::DONE;
  toScheduler();
  __builtin_unreachable();
}

/** The thread in words: kernel, block and thread. */
static std::string where() {
  char text[300];
  snprintf(text, sizeof text, "%s, block (%u, %u, %u), thread (%u, %u, %u)", kernel->name, emulated_block.x, emulated_block.y,
           emulated_block.z, emulated_thread.x, emulated_thread.y, emulated_thread.z);
  return text;
}

/** Abandons the current thread, and with it the launch: the scheduler does not come back to it. */
[[noreturn]] static void abandon(Status status) {
  failure = status;
  toScheduler();
  __builtin_unreachable();
}

// ---------------------------------------------------------------------------------------------------------------- shared variables

struct Variable {
  uintptr_t offset;
  size_t bytes;
  std::string name;
};
/** The shared variables of each kernel, from this library's own table of symbols, in which they are local to functions. */
static std::map<std::string, std::vector<Variable>> &sharedVariables() {
  static std::map<std::string, std::vector<Variable>> variables = [] {
    std::map<std::string, std::vector<Variable>> found;
    Dl_info info;
    if (dladdr((void *)&emulated_barrier, &info) == 0) return found;
    FILE *file = fopen(info.dli_fname, "rb");
    if (file == nullptr) return found;
    std::vector<char> bytes;
    fseek(file, 0, SEEK_END);
    bytes.resize((size_t)ftell(file));
    fseek(file, 0, SEEK_SET);
    size_t got = fread(bytes.data(), 1, bytes.size(), file);
    fclose(file);
    if (got != bytes.size()) return found;
    auto *header = (ElfW(Ehdr) *)bytes.data();
    auto *sections = (ElfW(Shdr) *)(bytes.data() + header->e_shoff);
    for (int s = 0; s < header->e_shnum; s++) {
      if (sections[s].sh_type != SHT_SYMTAB) continue;
      auto *symbols = (ElfW(Sym) *)(bytes.data() + sections[s].sh_offset);
      const char *names = bytes.data() + sections[sections[s].sh_link].sh_offset;
      for (size_t i = 0; i < sections[s].sh_size / sizeof(ElfW(Sym)); i++) {
        uintptr_t offset = (uintptr_t)info.dli_fbase + symbols[i].st_value - shared.base;
        if (symbols[i].st_size == 0 || offset >= shared.size || ELF64_ST_TYPE(symbols[i].st_info) != STT_OBJECT) continue;
        // _ZZ6kernelE4tile
        std::string name = names + symbols[i].st_name, function;
        if (name.compare(0, 3, "_ZZ") == 0) {
          char *end;
          size_t length = strtoul(name.c_str() + 3, &end, 10);
          function = std::string(end).substr(0, length);
          if (length > 0) name = std::string(end).substr(length + 1);
          name.erase(0, name.find_first_not_of("0123456789"));
        }
        found[function].push_back({offset, symbols[i].st_size, name});
      }
    }
    return found;
  }();
  return variables;
}

/** What lies at an address of shared variables, in words. */
static std::string placeShared(uintptr_t address) {
  uintptr_t offset = address - shared.base;
  const Variable *before = nullptr;
  for (auto &variable : sharedVariables()[kernel->name]) {
    if (variable.offset <= offset && (before == nullptr || before->offset < variable.offset)) before = &variable;
  }
  if (before == nullptr) return "before the kernel's shared variables";
  uintptr_t inside = offset - before->offset;
  char text[200];
  if (inside < before->bytes) {
    snprintf(text, sizeof text, "byte %zu of the shared variable %s of %zu bytes", (size_t)inside, before->name.c_str(), before->bytes);
  } else {
    snprintf(text, sizeof text, "%zu bytes past the end of the shared variable %s of %zu bytes", (size_t)(inside - before->bytes),
             before->name.c_str(), before->bytes);
  }
  return text;
}

// ---------------------------------------------------------------------------------------------------------------- accesses

static uint64_t threadOf(uint64_t tag) { return tag >> THREAD_SHIFT & THREADS; }
static uint64_t meetingOf(uint64_t tag) { return tag >> MEETING_SHIFT & MEETINGS; }

/** Whether what a tag tells of comes before now for all threads concerned. */
static bool ordered(uint64_t tag, uint64_t floor) {
  if (tag < floor) return true;
  if (tag < blockFloor || (tag & MANY_BLOCKS)) return false;
  if (tag >> EPOCH_SHIFT < now >> EPOCH_SHIFT) return true;
  if (tag & MANY_WARPS) return false;
  uint64_t other = threadOf(tag), mine = threadOf(now);
  if (other == mine && !(tag & MANY_LANES)) return true;
  return other / 32 == mine / 32 && meetingOf(tag) < meetingOf(now);
}

/** A tag for what an older one tells of and an access now. */
static uint64_t merged(uint64_t tag, uint64_t floor) {
  if (tag < floor) return now;
  if (tag < blockFloor) return now | MANY_BLOCKS;
  uint64_t blocks = tag & MANY_BLOCKS;
  if (tag >> EPOCH_SHIFT < now >> EPOCH_SHIFT) return now | blocks;
  if (tag & MANY_WARPS) return tag;
  uint64_t other = threadOf(tag), mine = threadOf(now);
  if (other == mine && !(tag & MANY_LANES)) return now | blocks;
  if (other / 32 != mine / 32) return tag | MANY_WARPS;
  return meetingOf(tag) < meetingOf(now) ? now | blocks : tag | MANY_LANES;
}

enum Kind { READ, WRITE, ATOMIC_ACCESS };

static const char *words(Kind kind) { return kind == READ ? "read" : kind == WRITE ? "write" : "atomic access"; }

[[noreturn]] static void race(uintptr_t address, Kind kind, const char *other, uint64_t tag) {
  std::string text = "another block";
  if (tag >= blockFloor && !(tag & MANY_BLOCKS)) {
    unsigned thread = (unsigned)threadOf(tag);
    char name[100];
    snprintf(name, sizeof name, "thread (%u, %u, %u) of the same block", thread % blockSize.x,
             thread / blockSize.x % blockSize.y, thread / blockSize.x / blockSize.y);
    text = name;
  }
  report("race in %s: its %s of %#zx is not ordered with a %s by %s: %s", where().c_str(), words(kind), (size_t)address, other,
         text.c_str(), address - shared.base < shared.size ? placeShared(address).c_str() : place(address).c_str());
  abandon(LAUNCH_FAILED);
}

static void updateCell(Cell &cell, Kind kind, uintptr_t address, uint64_t floor) {
  bool atomic = cell.write & ATOMIC;
  if (!(kind == ATOMIC_ACCESS && atomic) && !ordered(cell.write, floor)) {
    race(address, kind, atomic ? "atomic access" : "write", cell.write);
  }
  if (kind == READ) {
    cell.read = merged(cell.read, floor);
    return;
  }
  if (!ordered(cell.read, floor)) race(address, kind, "read", cell.read);
  if (kind == WRITE) {
    cell.write = now;
  } else {
    cell.write = (atomic ? merged(cell.write, floor) : now) | ATOMIC;
  }
}

static void keepOldWord(Memory &memory, uint64_t index) {
  if (!logging || &memory != &device) return;
  OldWord word{index, 0, 0};
  memcpy(&word.data, (void *)(memory.base + index * 4), 4);
  memcpy(&word.state, memory.state + index * 4, 4);
  oldWords.push_back(word);
}

/** An access to bytes of one word; bytes has a bit for each. */
__attribute__((noinline)) static void accessCell(Memory &memory, uintptr_t offset, unsigned bytes, Kind kind) {
  Cell &cell = memory.cells[offset / 4];
  uintptr_t address = memory.base + offset;
  bool split = (cell.read & SPLIT) && cell.read >= memory.floor;
  if (!split && bytes == 15) {
    if (kind != READ && cell.write < memory.floor) keepOldWord(memory, offset / 4);
    updateCell(cell, kind, address, memory.floor);
    return;
  }
  if (!split) {
    if (cell.write < memory.floor) keepOldWord(memory, offset / 4);
    splits.push_back({{cell, cell, cell, cell}});
    cell.write = splits.size() - 1;
    cell.read = (now & ~((uint64_t(1) << THREAD_SHIFT) - 1)) | SPLIT;
  }
  for (int i = 0; i < 4; i++) {
    if (bytes >> i & 1) updateCell(splits[cell.write].bytes[i], kind, address / 4 * 4 + i, memory.floor);
  }
}

[[noreturn]] __attribute__((noinline)) static void badState(Memory &memory, uintptr_t offset, unsigned bytes, Kind kind) {
  uintptr_t address = memory.base + offset, bad = address;
  for (unsigned i = bytes; i-- > 0;) {
    uint8_t wanted = kind == WRITE ? LIVE : LIVE | WRITTEN;
    if ((memory.state[offset + i] & wanted) != wanted) bad = address + i;
  }
  bool isLive = memory.state[bad - memory.base] & LIVE;
  report("%s in %s: %s of %u bytes at %#zx: %s", isLive ? "read of what nothing wrote" : "out of bounds", where().c_str(),
         words(kind), bytes, (size_t)address,
         &memory == &shared ? placeShared(bad).c_str() : place(bad).c_str());
  abandon(isLive ? LAUNCH_FAILED : ILLEGAL_ADDRESS);
}

[[noreturn]] __attribute__((noinline)) static void misaligned(uintptr_t address, unsigned bytes, Kind kind) {
  report("misaligned in %s: %s of %u bytes at %#zx: %s", where().c_str(), words(kind), bytes, (size_t)address,
         place(address).c_str());
  abandon(MISALIGNED_ADDRESS);
}

// The extent of the shared variables that the current block wrote.
static uintptr_t sharedFrom = ~uintptr_t(0), sharedTo = 0;

template <unsigned BYTES, Kind KIND>
static inline void accessIn(Memory &memory, uintptr_t offset) {
  if (UNLIKELY(offset % BYTES != 0)) misaligned(memory.base + offset, BYTES, KIND);
  if (BYTES < 4) {
    for (unsigned i = 0; i < BYTES; i++) {
      uint8_t wanted = KIND == WRITE ? LIVE : LIVE | WRITTEN;
      if (UNLIKELY((memory.state[offset + i] & wanted) != wanted)) badState(memory, offset, BYTES, KIND);
    }
    accessCell(memory, offset, ((1u << BYTES) - 1) << offset % 4, KIND);
    if (KIND != READ) memset(memory.state + offset, LIVE | WRITTEN, BYTES);
  } else {
    for (unsigned i = 0; i < BYTES; i += 4) {
      uint32_t state;
      memcpy(&state, memory.state + offset + i, 4);
      uint32_t wanted = KIND == WRITE ? LIVE_WORD : WRITTEN_WORD;
      if (UNLIKELY((state & wanted) != wanted)) badState(memory, offset, BYTES, KIND);
      Cell &cell = memory.cells[(offset + i) / 4];
      // The most usual cases: nobody else was here in this launch, this thread was here just now, or many read here just now.
      if (KIND == READ) {
        if (cell.read != now && !((cell.read & MANY_WARPS) && cell.read >> EPOCH_SHIFT == now >> EPOCH_SHIFT)) {
          if (cell.write < memory.floor && cell.read < memory.floor) {
            cell.read = now;
          } else {
            accessCell(memory, offset + i, 15, READ);
          }
        }
      } else if (KIND == ATOMIC_ACCESS) {
        accessCell(memory, offset + i, 15, KIND);
      } else {
        if (cell.write != now) {
          if (cell.write < memory.floor && cell.read < memory.floor) {
            keepOldWord(memory, (offset + i) / 4);
            cell.write = now;
          } else {
            accessCell(memory, offset + i, 15, KIND);
          }
        }
        memcpy(memory.state + offset + i, &WRITTEN_WORD, 4);
      }
    }
  }
  if (KIND != READ && &memory == &shared) {
    sharedFrom = std::min(sharedFrom, offset);
    sharedTo = std::max(sharedTo, offset + BYTES);
  }
}

struct Image {
  uintptr_t from, to;
};
/** What of this library is mapped for reading only or, as variables, for writing too. */
static std::vector<Image> &images() {
  static std::vector<Image> found = [] {
    std::vector<Image> list;
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *data) {
          auto *list = (std::vector<Image> *)data;
          bool ours = false;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            auto &header = info->dlpi_phdr[i];
            uintptr_t from = info->dlpi_addr + header.p_vaddr;
            if (header.p_type == PT_LOAD && (uintptr_t)&device - from < header.p_memsz) ours = true;
          }
          if (!ours) return 0;
          for (int i = 0; i < info->dlpi_phnum; i++) {
            auto &header = info->dlpi_phdr[i];
            uintptr_t from = info->dlpi_addr + header.p_vaddr;
            if (header.p_type == PT_LOAD) list->push_back({from, from + header.p_memsz});
          }
          return 1;
        },
        &list);
    return list;
  }();
  return found;
}

/** An access to neither the thread's stack nor device memory nor shared variables: constants may be read. */
__attribute__((noinline)) static void accessElsewhere(uintptr_t address, unsigned bytes, Kind kind) {
  if (current == nullptr) return;
  if (kind == READ) {
    for (auto &image : images()) {
      if (address >= image.from && address + bytes <= image.to) return;
    }
  }
  report("out of bounds in %s: %s of %u bytes at %#zx: %s", where().c_str(), words(kind), bytes, (size_t)address,
         place(address).c_str());
  abandon(ILLEGAL_ADDRESS);
}

template <unsigned BYTES, Kind KIND>
static inline void access(uintptr_t address) {
  if (address - stackBase < STACK) return;
  uintptr_t offset = address - device.base;
  if (offset < device.size) return accessIn<BYTES, KIND>(device, offset);
  offset = address - shared.base;
  if (offset < shared.size) return accessIn<BYTES, KIND>(shared, offset);
  accessElsewhere(address, BYTES, KIND);
}

/** An access to several numbers at once, such as a struct. */
template <Kind KIND>
static void accessRange(uintptr_t address, size_t bytes) {
  while (bytes > 0) {
    if (address % 4 == 0 && bytes >= 4) {
      access<4, KIND>(address);
      address += 4;
      bytes -= 4;
    } else {
      access<1, KIND>(address);
      address++;
      bytes--;
    }
  }
}

// What the compiler calls. Not exported: the program may have another sanitizer.
#define HOOK extern "C" __attribute__((visibility("hidden"))) void
#define HOOKS(bytes)                                                                         \
  HOOK __tsan_read##bytes(void *a) { access<bytes, READ>((uintptr_t)a); }                    \
  HOOK __tsan_write##bytes(void *a) { access<bytes, WRITE>((uintptr_t)a); }                  \
  HOOK __tsan_unaligned_read##bytes(void *a) { accessRange<READ>((uintptr_t)a, bytes); }     \
  HOOK __tsan_unaligned_write##bytes(void *a) { accessRange<WRITE>((uintptr_t)a, bytes); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
HOOK __tsan_read_range(void *a, size_t bytes) { accessRange<READ>((uintptr_t)a, bytes); }
HOOK __tsan_write_range(void *a, size_t bytes) { accessRange<WRITE>((uintptr_t)a, bytes); }
HOOK __tsan_init() {}
HOOK __tsan_func_entry(void *) {}
HOOK __tsan_func_exit(void *) {}

// ---------------------------------------------------------------------------------------------------------------- atomics

template <class T, class F>
static T atomically(T *at, F change) {
  access<sizeof(T), ATOMIC_ACCESS>((uintptr_t)at);
  T old = *at;
  *at = change(old);
  return old;
}
#define ATOMIC_FUNCTION(name, type, expression) \
  type name(type *at, type b) {                 \
    return atomically(at, [&]([[maybe_unused]] type a) -> type { return expression; }); \
  }
#define ATOMIC_FUNCTIONS(type)                 \
  ATOMIC_FUNCTION(atomicAdd, type, a + b)      \
  ATOMIC_FUNCTION(atomicMin, type, std::min(a, b)) \
  ATOMIC_FUNCTION(atomicMax, type, std::max(a, b)) \
  ATOMIC_FUNCTION(atomicExch, type, b)         \
  ATOMIC_FUNCTION(atomicOr, type, a | b)       \
  ATOMIC_FUNCTION(atomicAnd, type, a & b)      \
  type atomicCAS(type *at, type expected, type b) { \
    return atomically(at, [&](type a) -> type { return a == expected ? b : a; }); \
  }
ATOMIC_FUNCTIONS(int)
ATOMIC_FUNCTIONS(unsigned)
ATOMIC_FUNCTIONS(unsigned long long)
ATOMIC_FUNCTION(atomicAdd, float, a + b)
ATOMIC_FUNCTION(atomicAdd, double, a + b)
ATOMIC_FUNCTION(atomicExch, float, b)

// ---------------------------------------------------------------------------------------------------------------- halves

extern "C" unsigned short emulated_float_to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  uint16_t sign = bits >> 16 & 0x8000;
  uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return 0x7fff;  // as a GPU says NaN
  // From 65520 on, the nearest is infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  uint32_t kept, rest, half;
  if (magnitude >= 0x38800000) {
    kept = (magnitude >> 13) - (112 << 10);
    rest = magnitude & 0x1fff;
    half = 0x1000;
  } else {
    // A subnormal half: multiples of 2^-24.
    uint32_t exponent = magnitude >> 23;
    if (exponent < 102) return sign;
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    uint32_t shift = 126 - exponent;
    kept = mantissa >> shift;
    rest = mantissa & ((1u << shift) - 1);
    half = 1u << (shift - 1);
  }
  if (rest > half || (rest == half && (kept & 1))) kept++;
  return sign | kept;
}

extern "C" float emulated_half_to_float(unsigned short half) {
  uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000 | mantissa << 13;
    if (mantissa != 0) bits |= 0x400000;
  } else if (exponent != 0) {
    bits = sign | (exponent + 112) << 23 | mantissa << 13;
  } else {
    float value = (float)mantissa * 0x1p-24f;
    memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// ---------------------------------------------------------------------------------------------------------------- meetings

extern "C" void emulated_barrier(int line) {
  current->state = State::AT_BARRIER;
  current->line = line;
  toScheduler();
}

static unsigned lane() { return currentIndex % 32; }

/** Waits until all lanes of the mask are here too. */
static void meet(unsigned mask, int line, int operation, unsigned long long value) {
  if (!(mask >> lane() & 1)) {
    report("%s: a warp function in line %d found mask %#x without the thread's own lane %u", where().c_str(), line, mask, lane());
    abandon(LAUNCH_FAILED);
  }
  current->state = State::AT_MEETING;
  current->line = line;
  current->mask = mask;
  current->operation = operation;
  current->value = value;
  toScheduler();
}

extern "C" void emulated_warp_wait(unsigned mask, int line) { meet(mask, line, -1, 0); }

// What the lanes of each warp brought to their last meeting.
static unsigned long long brought[32][32];

extern "C" unsigned long long emulated_shuffle(
    EmulatedExchange kind, unsigned mask, unsigned long long value, int argument, int width, int line) {
  meet(mask, line, kind, value);
  int me = (int)lane(), segment = me / width * width, from;
  switch (kind) {
    case EMULATED_INDEX: from = segment + (argument & (width - 1)); break;
    case EMULATED_UP: from = me - argument < segment ? me : me - argument; break;
    case EMULATED_DOWN: from = me + argument >= segment + width ? me : me + argument; break;
    default: from = (me ^ argument) >= segment + width ? me : me ^ argument;
  }
  unsigned warp = currentIndex / 32;
  if (!(mask >> from & 1) || warp * 32 + from >= blockSize.count()) {
    report("%s: a shuffle in line %d reads lane %d, which is not in the mask %#x or not in the block", where().c_str(), line, from,
           mask);
    abandon(LAUNCH_FAILED);
  }
  return brought[warp][from];
}

extern "C" unsigned emulated_ballot(unsigned mask, int predicate, int line) {
  meet(mask, line, 4, predicate != 0);
  unsigned warp = currentIndex / 32, votes = 0;
  for (unsigned i = 0; i < 32 && warp * 32 + i < blockSize.count(); i++) {
    if ((mask >> i & 1) && brought[warp][i] != 0) votes |= 1u << i;
  }
  return votes;
}

// ---------------------------------------------------------------------------------------------------------------- launches

static std::map<std::string, const EmulatedKernel *> &registry() {
  static std::map<std::string, const EmulatedKernel *> kernels;
  return kernels;
}
extern "C" __attribute__((visibility("hidden"))) void emulated_register(const EmulatedKernel *kernel) {
  registry()[kernel->name] = kernel;
}
const EmulatedKernel *findKernel(const char *name) {
  auto found = registry().find(name);
  return found == registry().end() ? nullptr : found->second;
}

static Size3 position(uint64_t index, Size3 size) {
  return {unsigned(index % size.x), unsigned(index / size.x % size.y), unsigned(index / size.x / size.y)};
}

static std::string threadName(unsigned index) {
  Size3 p = position(index, blockSize);
  char text[60];
  snprintf(text, sizeof text, "thread (%u, %u, %u)", p.x, p.y, p.z);
  return text;
}

static void resume(unsigned index) {
  Fiber &fiber = fibers[index];
  if (fiber.state == State::NEW) {
    fiber.stack = newStack();
    prepareFiber(fiber);
  }
  fiber.state = State::READY;
  current = &fiber;
  currentIndex = index;
  emulated_thread = position(index, blockSize);
  stackBase = (uintptr_t)fiber.stack;
  now = epoch << EPOCH_SHIFT | std::min(fiber.meetings, MEETINGS) << MEETING_SHIFT | uint64_t(index) << THREAD_SHIFT;
  toFiber();
  current = nullptr;
  stackBase = 0;
  if (fiber.state == State::DONE) {
    stacks.push_back(fiber.stack);
    fiber.stack = nullptr;
  }
}

static void blockReport(const char *text, unsigned a, unsigned b) {
  report("%s in %s, block (%u, %u, %u): %s (line %d) and %s (%s %d)", text, kernel->name, emulated_block.x, emulated_block.y,
         emulated_block.z, threadName(a).c_str(), fibers[a].line, threadName(b).c_str(),
         fibers[b].state == State::DONE ? "ended; last barrier in line" : "line", fibers[b].line);
  failure = LAUNCH_FAILED;
}

/** Lets the warps go on whose lanes have met; whether there is one. */
static bool meetings(unsigned threads) {
  bool any = false;
  for (unsigned i = 0; i < threads; i++) {
    Fiber &fiber = fibers[i];
    if (fiber.state != State::AT_MEETING) continue;
    unsigned warp = i / 32 * 32;
    bool all = true;
    for (unsigned k = 0; k < 32 && warp + k < threads; k++) {
      if (!(fiber.mask >> k & 1)) continue;
      Fiber &other = fibers[warp + k];
      if (other.state == State::DONE) {
        blockReport("a warp function waits for a thread that has ended", i, warp + k);
        return false;
      }
      all &= other.state == State::AT_MEETING && other.line == fiber.line && other.mask == fiber.mask &&
             other.operation == fiber.operation;
    }
    if (!all) continue;
    uint64_t count = 0;
    for (unsigned k = 0; k < 32 && warp + k < threads; k++) {
      if (fiber.mask >> k & 1) count = std::max(count, fibers[warp + k].meetings);
    }
    for (unsigned k = 0; k < 32 && warp + k < threads; k++) {
      if (!(fiber.mask >> k & 1)) continue;
      Fiber &other = fibers[warp + k];
      brought[i / 32][k] = other.value;
      other.meetings = count + 1;
      other.state = State::READY;
    }
    any = true;
  }
  return any;
}

static void runBlock(const std::vector<unsigned> &order) {
  unsigned threads = (unsigned)order.size();
  for (unsigned i = 0; i < threads; i++) {
    fibers[i].state = State::NEW;
    fibers[i].meetings = 0;
    fibers[i].line = 0;
  }
  if (sharedFrom < sharedTo) {
    for (uintptr_t i = sharedFrom; i < sharedTo; i++) shared.state[i] &= LIVE;
    memset((void *)(shared.base + sharedFrom), 0xff, sharedTo - sharedFrom);
    sharedFrom = ~uintptr_t(0);
    sharedTo = 0;
  }
  epoch++;
  blockFloor = shared.floor = epoch << EPOCH_SHIFT;
  for (;;) {
    for (unsigned i : order) {
      if (fibers[i].state != State::NEW && fibers[i].state != State::READY) continue;
      resume(i);
      if (failure != SUCCESS) return;
    }
    // Now each thread waits or has ended.
    unsigned done = 0, atBarrier = 0;
    for (unsigned i = 0; i < threads; i++) {
      done += fibers[i].state == State::DONE;
      atBarrier += fibers[i].state == State::AT_BARRIER;
    }
    if (done == threads) return;
    if (done + atBarrier < threads) {
      if (meetings(threads)) continue;
      if (failure != SUCCESS) return;
      unsigned a = 0, b = 0;
      while (fibers[a].state != State::AT_MEETING) a++;
      while (b == a || (fibers[b].state == State::AT_MEETING && fibers[b].line == fibers[a].line && b + 1 < threads)) b++;
      blockReport("threads wait at different places", a, std::min(b, threads - 1));
      return;
    }
    unsigned first = 0;
    while (fibers[first].state != State::AT_BARRIER) first++;
    for (unsigned i = 0; i < threads; i++) {
      if (fibers[i].state == State::DONE) return blockReport("a thread ended without a barrier that others wait at", first, i);
      if (fibers[i].line != fibers[first].line) return blockReport("threads wait at different barriers", first, i);
    }
    epoch++;
    for (unsigned i = 0; i < threads; i++) {
      fibers[i].state = State::READY;
      fibers[i].meetings = 0;
    }
  }
}

static void runGrid(const std::vector<unsigned> &blocks, const std::vector<unsigned> &threads) {
  epoch++;
  device.floor = epoch << EPOCH_SHIFT;
  splits.clear();
  oldWords.clear();
  for (unsigned block : blocks) {
    emulated_block = position(block, gridSize);
    runBlock(threads);
    if (failure == SUCCESS) continue;
    // Abandon the threads that are left.
    for (auto &fiber : fibers) {
      if (fiber.stack != nullptr) stacks.push_back(fiber.stack);
      fiber.stack = nullptr;
    }
    return;
  }
}

static uint64_t launches;
static bool initialOrderCheck() {
  const char *checks = getenv("EMULATED_CUDA_CHECKS");
  return checks == nullptr || strcmp(checks, "0") != 0;
}
static bool orderCheck = initialOrderCheck();
void setOrderCheck(bool on) { orderCheck = on; }
void resetLaunches() {
  launches = 0;
  orderCheck = initialOrderCheck();
}

/** The numbers below count, shuffled. */
static std::vector<unsigned> shuffled(uint64_t count, uint64_t seed) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  uint64_t random = seed * 0x9e3779b97f4a7c15 + 1;
  for (uint64_t i = count; i > 1; i--) {
    random = random * 6364136223846793005 + 1442695040888963407;
    std::swap(order[i - 1], order[(random >> 33) % i]);
  }
  return order;
}

/** Compares what the second run left with what the first one did. */
static void compare(const std::vector<OldWord> &before, const std::vector<uint32_t> &first) {
  auto differs = [](uint64_t index, uint32_t was, uint32_t is) {
    float wasFloat, isFloat;
    memcpy(&wasFloat, &was, 4);
    memcpy(&isFloat, &is, 4);
    report("the result of %s depends on the order of its blocks and threads: %#x (as a float %g) in one order, %#x (%g) in the "
           "reverse one, at %s",
           kernel->name, was, wasFloat, is, isFloat, place(device.base + index * 4).c_str());
    failure = LAUNCH_FAILED;
  };
  std::unordered_map<uint64_t, bool> seen;
  bool same = before.size() == oldWords.size();
  for (size_t i = 0; i < before.size(); i++) {
    uint32_t is;
    memcpy(&is, (void *)(device.base + before[i].index * 4), 4);
    if (is != first[i]) return differs(before[i].index, first[i], is);
    if (!same) seen[before[i].index] = true;
  }
  if (same) return;
  for (auto &word : oldWords) {
    uint32_t is;
    memcpy(&is, (void *)(device.base + word.index * 4), 4);
    if (is != word.data && !seen.count(word.index)) return differs(word.index, word.data, is);
  }
}

size_t sharedBytes(const char *name) {
  prepare();
  size_t bytes = 0;
  for (auto &variable : sharedVariables()[name]) bytes += variable.bytes;
  return bytes;
}

static void markShared(const char *name) {
  if (shared.size == 0) return;
  static std::string marked;
  if (marked != name) {
    auto &variables = sharedVariables();
    for (auto &variable : variables[marked]) memset(shared.state + variable.offset, 0, variable.bytes);
    for (auto &variable : variables[name]) memset(shared.state + variable.offset, LIVE, variable.bytes);
    // Those outside kernels, in device functions.
    for (auto &variable : variables[""]) memset(shared.state + variable.offset, LIVE, variable.bytes);
    marked = name;
  }
  sharedFrom = 0;
  sharedTo = shared.size;
}

Status launch(const EmulatedKernel *launched, Size3 grid, Size3 block, const unsigned char *packed) {
  prepare();
  kernel = launched;
  parameters = packed;
  gridSize = grid;
  blockSize = block;
  emulated_grid_size = grid;
  emulated_block_size = block;
  failure = SUCCESS;
  markShared(kernel->name);
  launches++;
  std::vector<unsigned> blocks = shuffled(grid.count(), launches), threads = shuffled(block.count(), launches + 1000003);
  logging = orderCheck;
  runGrid(blocks, threads);
  if (failure == SUCCESS && orderCheck && blocks.size() * threads.size() > 1) {
    std::vector<OldWord> before = std::move(oldWords);
    oldWords = {};
    std::vector<uint32_t> first(before.size());
    for (size_t i = 0; i < before.size(); i++) {
      char *data = (char *)device.base + before[i].index * 4;
      memcpy(&first[i], data, 4);
      memcpy(data, &before[i].data, 4);
      memcpy(device.state + before[i].index * 4, &before[i].state, 4);
    }
    std::reverse(blocks.begin(), blocks.end());
    std::reverse(threads.begin(), threads.end());
    runGrid(blocks, threads);
    if (failure == SUCCESS) compare(before, first);
  }
  kernel = nullptr;
  return failure;
}
