package dev.attar.compute;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/**
 * Memory from the C library. What an arena allocates itself counts against the JVM's limit for direct buffers, by default the size
 * of its heap, and is filled with zeros by hand; the C library gets large blocks as pages that the system zeroes when they are
 * first used.
 */
final class NativeMemory {

  /** The width of a cache line and of the widest vectors, in bytes. */
  static final long ALIGNMENT = 64;

  private static final MethodHandle CALLOC = Linker.nativeLinker().downcallHandle(
    Linker.nativeLinker().defaultLookup().findOrThrow("calloc"),
    FunctionDescriptor.of(ADDRESS, JAVA_LONG, JAVA_LONG)
  );
  private static final MethodHandle FREE = Linker.nativeLinker().downcallHandle(
    Linker.nativeLinker().defaultLookup().findOrThrow("free"),
    FunctionDescriptor.ofVoid(ADDRESS)
  );

  private NativeMemory() {}

  /**
   * Zeros that live as long as the arena, aligned to {@link #ALIGNMENT} bytes.
   *
   * @param what what they are for, for the message
   * @throws OutOfDeviceMemoryException if there is no such room
   */
  static MemorySegment zeros(Arena arena, long count, int bytesEach, String what) {
    long bytes;
    try {
      bytes = Math.addExact(Math.multiplyExact(count, bytesEach), ALIGNMENT);
    } catch (ArithmeticException e) {
      throw new OutOfDeviceMemoryException("cpu: no room for " + what + ", more bytes than can be counted", e);
    }
    MemorySegment block = calloc(bytes);
    if (block.equals(MemorySegment.NULL)) {
      throw new OutOfDeviceMemoryException("cpu: no room for " + what + ", " + (bytes - ALIGNMENT) + " bytes", null);
    }
    MemorySegment owned;
    try {
      owned = block.reinterpret(bytes, arena, NativeMemory::free);
    } catch (IllegalStateException e) {
      free(block);
      throw e;
    }
    return owned.asSlice(-block.address() & (ALIGNMENT - 1), bytes - ALIGNMENT, ALIGNMENT);
  }

  private static MemorySegment calloc(long bytes) {
    try {
      return (MemorySegment) CALLOC.invokeExact(bytes, 1L);
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }

  private static void free(MemorySegment block) {
    try {
      FREE.invokeExact(block);
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }
}
