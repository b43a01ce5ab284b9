package dev.attar.bench.worker;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * Room for the logits of a few steps: {@value #SLOTS} slots that are used in turn, so that one can be scored while the next is
 * decoded. The base's buffer is a file that the workers of its variants map too; its size does not depend on the text.
 */
public final class LogitBuffer {

  /** Number of slots. */
  public static final int SLOTS = 2;

  private static final int ZEROS = 1 << 20;

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
    StandardOpenOption[] options = write
      ? new StandardOpenOption[] { StandardOpenOption.READ, StandardOpenOption.WRITE }
      : new StandardOpenOption[] { StandardOpenOption.READ };
    try (FileChannel channel = FileChannel.open(file, options)) {
      long bytes = bytes(rows, vocabulary);
      if (channel.size() != bytes) {
        throw new IOException(file + ": " + channel.size() + " bytes of shared logits, expected " + bytes);
      }
      MemorySegment memory = channel.map(
        write ? FileChannel.MapMode.READ_WRITE : FileChannel.MapMode.READ_ONLY,
        0,
        bytes,
        arena
      );
      return new LogitBuffer(memory, slotBytes(rows, vocabulary));
    }
  }

  /**
   * Makes the file for a shared buffer: in memory where the system has a file system for that with enough room, in the folder of
   * temporary files otherwise. All of it is written once, so that there is no lack of room later. To be deleted by the caller.
   *
   * @param rows rows in each slot
   * @param vocabulary values in each row
   * @throws IOException if there is no room
   */
  public static Path create(int rows, int vocabulary) throws IOException {
    long bytes = bytes(rows, vocabulary);
    Path inMemory = Path.of("/dev/shm");
    boolean fits =
      Files.isDirectory(inMemory) &&
      Files.isWritable(inMemory) &&
      Files.getFileStore(inMemory).getUsableSpace() > bytes + bytes / 4;
    Path file = fits
      ? Files.createTempFile(inMemory, "attar-logits-", ".bin")
      : Files.createTempFile("attar-logits-", ".bin");
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      ByteBuffer zeros = ByteBuffer.allocateDirect(ZEROS);
      for (long left = bytes; left > 0; ) {
        zeros.clear().limit((int) Math.min(left, ZEROS));
        left -= channel.write(zeros);
      }
      return file;
    } catch (IOException e) {
      Files.deleteIfExists(file);
      throw new IOException(
        file.getParent() + ": no room for " + bytes + " bytes of logits that two processes share: " + e.getMessage(),
        e
      );
    }
  }

  /** The rows of a slot. */
  MemorySegment slot(int slot) {
    return memory.asSlice(slot * slotBytes, slotBytes);
  }
}
