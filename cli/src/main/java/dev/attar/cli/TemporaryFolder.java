package dev.attar.cli;

import java.io.IOException;
import java.nio.file.FileSystemException;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;

/** A folder that only this user may read, which is gone with all that is in it when this is closed. */
final class TemporaryFolder implements AutoCloseable {

  /** Environment variable with the folder for temporary files. */
  private static final String PLACE = "ATTAR_TMP";

  private final Path path;

  private TemporaryFolder(Path path) {
    this.path = path;
  }

  /**
   * Creates one in the folder that {@code ATTAR_TMP} names, or else in the system's for temporary files.
   *
   * @param bytes what is to be put into it
   * @throws IOException if there is not so much room, or no folder can be made there
   */
  static TemporaryFolder create(long bytes) throws IOException {
    Path parent = parent();
    if (!Files.isDirectory(parent) || !Files.isWritable(parent)) {
      String found = Files.isDirectory(parent) ? "a folder that cannot be written to" : "no folder";
      throw new IOException(parent + ": " + found + ", expected one for temporary files: set " + PLACE);
    }
    requireRoom(parent, bytes, ", set " + PLACE + " to a folder with more");
    return new TemporaryFolder(Files.createTempDirectory(parent, "attar-"));
  }

  private static Path parent() {
    String place = System.getenv(PLACE);
    return Path.of(place == null || place.isEmpty() ? System.getProperty("java.io.tmpdir") : place);
  }

  /** How many bytes there is room for. */
  static long room() throws IOException {
    return Files.getFileStore(parent()).getUsableSpace();
  }

  /**
   * Checks that a folder's disk has room.
   *
   * @param advice what else to do, for the message
   */
  static void requireRoom(Path folder, long bytes, String advice) throws IOException {
    long free = Files.getFileStore(folder).getUsableSpace();
    if (free < bytes) {
      String found = Text.size(free) + " free, expected " + Text.size(bytes) + " for the models to be made";
      throw new FileSystemException(folder.toString(), null, found + advice);
    }
  }

  /** Where it is. */
  Path path() {
    return path;
  }

  @Override
  public void close() throws IOException {
    Files.walkFileTree(
      path,
      new SimpleFileVisitor<>() {
        @Override
        public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
          Files.delete(file);
          return FileVisitResult.CONTINUE;
        }

        @Override
        public FileVisitResult postVisitDirectory(Path folder, IOException e) throws IOException {
          Files.delete(folder);
          return FileVisitResult.CONTINUE;
        }
      }
    );
  }
}
