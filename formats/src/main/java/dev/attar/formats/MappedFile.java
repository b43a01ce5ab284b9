package dev.attar.formats;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/** A file mapped read-only into memory as a whole. Closing it unmaps it. */
public final class MappedFile implements AutoCloseable {

  private final Path path;
  private final Arena arena;
  private final MemorySegment bytes;

  private MappedFile(Path path, Arena arena, MemorySegment bytes) {
    this.path = path;
    this.arena = arena;
    this.bytes = bytes;
  }

  /**
   * Maps a file.
   *
   * @throws IOException if it does not exist or cannot be read or mapped
   */
  public static MappedFile open(Path path) throws IOException {
    Arena arena = Arena.ofShared();
    try (FileChannel channel = FileChannel.open(path, StandardOpenOption.READ)) {
      return new MappedFile(path, arena, channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena));
    } catch (IOException | RuntimeException e) {
      arena.close();
      throw e;
    }
  }

  /** The file. */
  public Path path() {
    return path;
  }

  /** Its bytes; read-only, valid until this is closed. */
  public MemorySegment bytes() {
    return bytes;
  }

  /** Its size in bytes. */
  public long size() {
    return bytes.byteSize();
  }

  @Override
  public void close() {
    arena.close();
  }
}
