package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.OptionalLong;

/** The memory of this process as the operating system counts it. */
public final class ProcessMemory {

  private ProcessMemory() {}

  /**
   * The most bytes that were resident at a time since the process began; pages of mapped files count. Empty if the system does not
   * tell.
   */
  public static OptionalLong peakResidentBytes() {
    return switch (Platform.host().system()) {
      case "linux" -> linux(Path.of("/proc/self/status"));
      case "mac" -> maxrss();
      case "win" -> windows();
      default -> OptionalLong.empty();
    };
  }

  /** The line {@code VmHWM: 1234 kB} of proc_pid_status(5). */
  static OptionalLong linux(Path status) {
    List<String> lines;
    try {
      lines = Files.readAllLines(status);
    } catch (IOException _) {
      return OptionalLong.empty();
    }
    return lines
      .stream()
      .filter(line -> line.matches("VmHWM:\\s*\\d{1,15} kB"))
      .mapToLong(line -> 1024 * Long.parseLong(line.replaceAll("\\D", "")))
      .findFirst();
  }

  /**
   * {@code ru_maxrss} of getrusage(2), after two {@code timeval} of 16 bytes in {@code struct rusage}. In bytes on macOS, in
   * kilobytes on Linux.
   */
  static OptionalLong maxrss() {
    MethodHandle getrusage = Posix.function("getrusage", JAVA_INT, JAVA_INT, ADDRESS);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment usage = arena.allocate(144, 8);
      int failed = Natives.call(() -> (int) getrusage.invokeExact(0, usage));
      return failed == 0 ? OptionalLong.of(usage.get(JAVA_LONG, 32)) : OptionalLong.empty();
    }
  }

  /** {@code PeakWorkingSetSize} of {@code PROCESS_MEMORY_COUNTERS}, after its own size and a count of 4 bytes each. */
  private static OptionalLong windows() {
    try (Arena arena = Arena.ofConfined()) {
      MethodHandle get = Linker.nativeLinker().downcallHandle(
        SymbolLookup.libraryLookup("kernel32", arena).findOrThrow("K32GetProcessMemoryInfo"),
        FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT)
      );
      int size = 72;
      MemorySegment counters = arena.allocate(size, 8);
      counters.set(JAVA_INT, 0, size);
      MemorySegment thisProcess = MemorySegment.ofAddress(-1);
      int done = Natives.call(() -> (int) get.invokeExact(thisProcess, counters, size));
      return done != 0 ? OptionalLong.of(counters.get(JAVA_LONG, 8)) : OptionalLong.empty();
    }
  }
}
