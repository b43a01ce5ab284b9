package dev.attar.llama;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** Files that two processes map, so that what one of them writes is seen by the other. */
public final class SharedFile {

  private static final int ZEROS = 1 << 20;

  private SharedFile() {}

  /**
   * Makes a file: in memory where the system has a file system for that with enough room, in the folder of temporary files otherwise. All
   * of it is written once, so that there is no lack of room later. To be deleted by the caller.
   *
   * @param what is to be in it: a word
   * @throws IOException if there is no room
   */
  public static Path create(String what, long bytes) throws IOException {
    Path inMemory = Path.of("/dev/shm");
    boolean fits =
      Files.isDirectory(inMemory) &&
      Files.isWritable(inMemory) &&
      Files.getFileStore(inMemory).getUsableSpace() > bytes + bytes / 4;
    String prefix = "attar-" + what + "-";
    Path file = fits ? Files.createTempFile(inMemory, prefix, ".bin") : Files.createTempFile(prefix, ".bin");
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
        file.getParent() +
          ": no room for " +
          bytes +
          " bytes of " +
          what +
          " that two processes share: " +
          e.getMessage(),
        e
      );
    }
  }

  /**
   * Maps a file.
   *
   * @param bytes its length
   * @param write whether it can be written to
   * @throws IOException if it has another length, or cannot be mapped
   */
  public static MemorySegment map(Path file, long bytes, boolean write, Arena arena) throws IOException {
    StandardOpenOption[] options = write
      ? new StandardOpenOption[] { StandardOpenOption.READ, StandardOpenOption.WRITE }
      : new StandardOpenOption[] { StandardOpenOption.READ };
    try (FileChannel channel = FileChannel.open(file, options)) {
      if (channel.size() != bytes) {
        throw new IOException(file + ": " + channel.size() + " shared bytes, expected " + bytes);
      }
      FileChannel.MapMode mode = write ? FileChannel.MapMode.READ_WRITE : FileChannel.MapMode.READ_ONLY;
      return channel.map(mode, 0, bytes, arena);
    }
  }

  /** Takes a file's name away when all who need it have it open: then nothing is left even if their processes are killed. */
  public static void discard(Path file) {
    try {
      Files.deleteIfExists(file);
    } catch (IOException _) {
      // Windows keeps files that are open; it goes at the end.
    }
  }
}
