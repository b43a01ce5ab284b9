package dev.attar.compute.cuda;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.stream.Stream;

/**
 * Loads JCuda's own libraries, which its classes unpack from their jars when they are initialized.
 *
 * <p>They are unpacked under fixed names into the folder that {@code java.io.tmpdir} names, and a file that is there already is taken
 * as it is: anybody who may write to a common temporary folder could put one there. So that property names a fresh folder of our own
 * meanwhile, which nobody else may enter.
 */
final class JCudaLibraries {

  private static final String PROPERTY = "java.io.tmpdir";
  private static final String PREFIX = "attar-jcuda-";

  private JCudaLibraries() {}

  /**
   * Loads a library of JCuda.
   *
   * @param use uses a class of JCuda for the first time, but calls nothing native
   * @throws IOException if it cannot be unpacked or loaded; the message is one line
   */
  static synchronized void load(Runnable use) throws IOException {
    // On POSIX systems only this user may enter the folder; on Windows the user's temporary folder is private already.
    Path folder = Files.createTempDirectory(PREFIX);
    // Who creates temporary files by the class File or Files is not disturbed: these read the property but once.
    String before = System.setProperty(PROPERTY, folder.toString());
    try {
      use.run();
    } catch (UnsatisfiedLinkError | ExceptionInInitializerError e) {
      throw new IOException("JCuda's library cannot be loaded: " + reason(e), e);
    } catch (NoClassDefFoundError e) {
      throw new IOException("JCuda's library could not be loaded before: " + reason(e), e);
    } finally {
      System.setProperty(PROPERTY, before);
      // Loaded libraries need no files, but Windows does not let go of them: there a later process does this.
      if (!delete(folder)) {
        deleteOlder(folder);
      }
    }
  }

  /** What the system's loader said, out of a message of many lines. */
  private static String reason(Error e) {
    String text = String.valueOf(e.getMessage());
    return text
      .lines()
      .map(String::strip)
      .filter(
        line -> line.startsWith("java.lang.UnsatisfiedLinkError: /") || line.contains("cannot open shared object")
      )
      .map(line -> line.replaceFirst("^java\\.lang\\.UnsatisfiedLinkError: ", ""))
      .findFirst()
      .or(() -> text.lines().findFirst())
      .orElse("unknown reason");
  }

  private static boolean delete(Path folder) {
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.toList().reversed()) {
        Files.delete(file);
      }
      return true;
    } catch (IOException | UncheckedIOException _) {
      return false;
    }
  }

  /** Deletes what earlier processes left beside a folder, and what nobody uses any more. */
  private static void deleteOlder(Path folder) {
    try (DirectoryStream<Path> others = Files.newDirectoryStream(folder.toAbsolutePath().getParent(), PREFIX + "*")) {
      for (Path other : others) {
        // Others may be about to load what they have just unpacked.
        if (Files.getLastModifiedTime(other).toInstant().isBefore(Instant.now().minus(Duration.ofHours(1)))) {
          boolean _ = delete(other);
        }
      }
    } catch (IOException | DirectoryIteratorException _) {
      // They stay.
    }
  }
}
