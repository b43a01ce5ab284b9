package dev.attar.llama;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * Native libraries carried as resources, and their unpacking into a cache folder that all processes share.
 *
 * <p>The bundle's index has one line per file: SHA-256 in hex, size in bytes, name. The cache folder is named by the hash of
 * the index, so that bundles with different content never mix.
 */
final class NativeBundle {

  /** Opens a file of the bundle by its name; {@code null} if there is none. */
  @FunctionalInterface
  interface Content {
    InputStream open(String name) throws IOException;
  }

  private record Entry(String sha256, long size, String name) {}

  // A file lock belongs to the process: threads wait for each other here.
  private static final Object UNPACKING = new Object();

  private final String hash;
  private final List<Entry> entries;
  private final Content content;

  private NativeBundle(String hash, List<Entry> entries, Content content) {
    this.hash = hash;
    this.entries = entries;
    this.content = content;
  }

  /** The bundle for a platform among the program's resources. */
  static Optional<NativeBundle> of(Platform platform) throws IOException {
    String folder = "native/" + platform.bundle() + "/";
    return of(name -> NativeBundle.class.getResourceAsStream(folder + name));
  }

  /** A bundle of files from which {@code index} can be read; empty if it cannot. */
  static Optional<NativeBundle> of(Content content) throws IOException {
    byte[] index;
    try (InputStream in = content.open("index")) {
      if (in == null) {
        return Optional.empty();
      }
      index = in.readAllBytes();
    }
    List<Entry> entries = new String(index, StandardCharsets.UTF_8)
      .lines()
      .map(line -> line.split(" ", 3))
      .map(fields -> new Entry(fields[0], Long.parseLong(fields[1]), fields[2]))
      .toList();
    return Optional.of(new NativeBundle(hex(sha256().digest(index)).substring(0, 16), entries, content));
  }

  /** Names the content. */
  String hash() {
    return hash;
  }

  /**
   * The folder with the bundle's files, unpacked if they are not there yet or if one of them has another size than it should.
   * They appear under their final name all together; processes that unpack at the same time wait for each other.
   *
   * @param cache the folder to unpack under; made if need be
   * @throws IOException if the folder cannot be written
   */
  Path unpack(Path cache) throws IOException {
    Path folder = cache.resolve(hash);
    if (isComplete(folder)) {
      return folder;
    }
    Files.createDirectories(cache);
    synchronized (UNPACKING) {
      try (
        FileChannel channel = FileChannel.open(
          cache.resolve(hash + ".lock"),
          StandardOpenOption.CREATE,
          StandardOpenOption.WRITE
        );
        FileLock _ = channel.lock()
      ) {
        if (!isComplete(folder)) {
          // Only the holder of the lock touches these two; what a killed process left in them goes first.
          Path fresh = cache.resolve(hash + ".new");
          Path old = cache.resolve(hash + ".old");
          delete(fresh);
          delete(old);
          Files.createDirectory(fresh);
          write(fresh);
          if (Files.exists(folder)) {
            Files.move(folder, old);
          }
          Files.move(fresh, folder, StandardCopyOption.ATOMIC_MOVE);
          delete(old);
        }
      }
    }
    return folder;
  }

  /** The bundle's files in a new temporary folder, which goes when the process ends. */
  Path unpackForThisProcess() throws IOException {
    Path folder = Files.createTempDirectory("attar-llama-");
    Runtime.getRuntime().addShutdownHook(
      new Thread(() -> {
        try {
          delete(folder);
        } catch (IOException | UncheckedIOException _) {
          // Windows keeps libraries that are in use; its own cleaning of temporary files takes them.
        }
      })
    );
    write(folder);
    return folder;
  }

  private boolean isComplete(Path folder) {
    for (Entry entry : entries) {
      try {
        if (Files.size(folder.resolve(entry.name)) != entry.size) {
          return false;
        }
      } catch (IOException _) {
        return false;
      }
    }
    return true;
  }

  private void write(Path folder) throws IOException {
    byte[] buffer = new byte[1 << 16];
    for (Entry entry : entries) {
      MessageDigest digest = sha256();
      try (
        InputStream in = content.open(entry.name);
        OutputStream out = Files.newOutputStream(folder.resolve(entry.name), StandardOpenOption.CREATE_NEW)
      ) {
        if (in == null) {
          throw new IOException("bundled library " + entry.name + " is missing: the program's files are damaged");
        }
        for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
          digest.update(buffer, 0, n);
          out.write(buffer, 0, n);
        }
      }
      String found = hex(digest.digest());
      if (!found.equals(entry.sha256)) {
        throw new IOException(
          "bundled library " +
            entry.name +
            " has SHA-256 " +
            found +
            ", expected " +
            entry.sha256 +
            ": the program's files are damaged"
        );
      }
    }
  }

  private static void delete(Path folder) throws IOException {
    if (!Files.exists(folder)) {
      return;
    }
    List<Path> all;
    try (Stream<Path> walk = Files.walk(folder)) {
      all = walk.sorted(Comparator.reverseOrder()).toList();
    }
    for (Path path : all) {
      Files.delete(path);
    }
  }

  private static String hex(byte[] digest) {
    return HexFormat.of().formatHex(digest);
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e); // every Java platform has it
    }
  }
}
