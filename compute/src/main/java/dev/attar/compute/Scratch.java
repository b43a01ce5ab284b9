package dev.attar.compute;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.function.Consumer;

/** Memory for the parts of an operation: at most as much as parts are computed at a time. */
final class Scratch implements AutoCloseable {

  private final Arena arena = Arena.ofShared();
  private final ConcurrentLinkedDeque<MemorySegment> free = new ConcurrentLinkedDeque<>();
  private final long floats;

  /** @param floats numbers that a part needs */
  Scratch(long floats) {
    this.floats = floats;
  }

  /** Runs a part with memory that no other one uses meanwhile; what is in it is what the one before left. */
  void use(Consumer<MemorySegment> part) {
    MemorySegment own = free.pollFirst();
    if (own == null) {
      own = NativeMemory.zeros(arena, floats, Float.BYTES, "scratch of " + floats + " numbers");
    }
    part.accept(own);
    free.addFirst(own);
  }

  @Override
  public void close() {
    arena.close();
  }
}
