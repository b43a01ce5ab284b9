package dev.attar.formats;

import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Stream;

/** What all that is written whole or not at all has in common: temporaries that go when the process is told to end, words for errors. */
public final class OutputFiles {

  private static final int MAX_STEM = 100;

  /** How often a folder is emptied into which a thread that does not know of the end still puts files. */
  private static final int MAX_SWEEPS = 10;

  private static final Set<Path> TEMPORARIES = ConcurrentHashMap.newKeySet();
  private static boolean hooked;

  private OutputFiles() {}

  /** A new name for a file or folder beside another, hidden on most systems. */
  public static Path temporaryBeside(Path target) {
    String name = target.getFileName().toString();
    String stem = name.substring(0, Math.min(name.length(), MAX_STEM));
    return target.resolveSibling("." + stem + "." + UUID.randomUUID() + ".part");
  }

  /** Has a file or folder deleted if the process is told to end; it need not exist yet. */
  public static synchronized void addTemporary(Path path) {
    if (!hooked) {
      Runtime.getRuntime().addShutdownHook(new Thread(OutputFiles::deleteTemporaries, "delete temporary files"));
      hooked = true;
    }
    TEMPORARIES.add(path);
  }

  /** Takes {@link #addTemporary} back. */
  public static void removeTemporary(Path path) {
    TEMPORARIES.remove(path);
  }

  private static void deleteTemporaries() {
    for (Path path : TEMPORARIES) {
      try {
        delete(path);
      } catch (IOException _) {
        // Nobody is left to be told.
      }
    }
  }

  /** Deletes a file, or a folder with all that is in it, if it is there. Links are deleted, not what they lead to. */
  public static void delete(Path path) throws IOException {
    for (int sweep = 1; ; sweep++) {
      try {
        if (Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS)) {
          for (Path entry : entries(path)) {
            delete(entry);
          }
        }
        Files.deleteIfExists(path);
        return;
      } catch (DirectoryNotEmptyException e) {
        if (sweep == MAX_SWEEPS) {
          throw e;
        }
      }
    }
  }

  /** What is in a folder, in the order of the names. */
  public static List<Path> entries(Path folder) throws IOException {
    try (Stream<Path> entries = Files.list(folder)) {
      return entries.sorted().toList();
    }
  }

  /** Makes the names in a folder durable where the system can do that. */
  public static void syncFolder(Path folder) {
    try (FileChannel channel = FileChannel.open(folder, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException _) {
      // Windows does not open folders, some file systems do not sync them. The files themselves are complete.
    }
  }

  /** An error about an output, without the name of its temporary, which the user does not know. */
  public static IOException cannotWrite(Path out, IOException cause) {
    return new IOException(out + ": cannot be written: " + reason(cause), cause);
  }

  private static String reason(IOException cause) {
    if (cause instanceof AccessDeniedException) {
      return "access denied";
    }
    String reason = cause instanceof FileSystemException e ? e.getReason() : cause.getMessage();
    return Objects.requireNonNullElse(reason, cause.getClass().getSimpleName());
  }
}
