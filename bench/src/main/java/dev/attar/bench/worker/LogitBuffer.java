package dev.attar.bench.worker;

import dev.attar.llama.SharedFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;

/**
 * Room for the logits of a few steps: {@value #SLOTS} slots that are used in turn, so that one can be scored while the next is
 * decoded. The base's buffer is a file that the workers of its variants map too; its size does not depend on the text.
 */
public final class LogitBuffer {

  /** Number of slots. */
  public static final int SLOTS = 2;

  private final MemorySegment memory;
  private final long slotBytes;

  private LogitBuffer(MemorySegment memory, long slotBytes) {
    this.memory = memory;
    this.slotBytes = slotBytes;
  }

  /** Bytes of a buffer with room for {@code rows} rows of {@code vocabulary} float32 in each slot. */
  static long bytes(int rows, int vocabulary) {
    return SLOTS * slotBytes(rows, vocabulary);
  }

  private static long slotBytes(int rows, int vocabulary) {
    return Math.multiplyExact(4L * rows, vocabulary);
  }

  /** A buffer that no other process sees. */
  static LogitBuffer allocate(int rows, int vocabulary, Arena arena) {
    return new LogitBuffer(arena.allocate(bytes(rows, vocabulary), 64), slotBytes(rows, vocabulary));
  }

  /** Maps a buffer that {@link #create} made. */
  static LogitBuffer map(Path file, int rows, int vocabulary, boolean write, Arena arena) throws IOException {
    MemorySegment memory = SharedFile.map(file, bytes(rows, vocabulary), write, arena);
    return new LogitBuffer(memory, slotBytes(rows, vocabulary));
  }

  /**
   * Makes the file for a shared buffer. To be deleted by the caller.
   *
   * @param rows rows in each slot
   * @param vocabulary values in each row
   * @throws IOException if there is no room
   */
  public static Path create(int rows, int vocabulary) throws IOException {
    return SharedFile.create("logits", bytes(rows, vocabulary));
  }

  /** The rows of a slot. */
  MemorySegment slot(int slot) {
    return memory.asSlice(slot * slotBytes, slotBytes);
  }
}
