package dev.attar.compute;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.net.JarURLConnection;
import java.net.URL;
import java.net.URLConnection;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;

/**
 * OpenBLAS's shared library: finds and loads it.
 *
 * <p>It is looked for in this order: the file that the system property {@code attar.openblas} or else the environment variable
 * {@code ATTAR_OPENBLAS_LIB} names, the one that the program carries (in the jar of {@code org.bytedeco:openblas}, unpacked once
 * into the user's cache folder), the system's. The first place that has one decides: a fault there is an error, and no other place
 * is tried.
 *
 * @param place where it was found, for messages
 */
record OpenBlasLibrary(String place, SymbolLookup symbols) {
  /** The files that are unpacked, in the order in which they must be loaded: OpenBLAS last, what it may need before it. */
  private static final List<String> LINUX = List.of(
    "libgcc_s.so.1",
    "libquadmath.so.0",
    "libgfortran.so.5",
    "libopenblas.so.0"
  );
  private static final List<String> MAC = List.of(
    "libgcc_s.1.1.dylib",
    "libquadmath.0.dylib",
    "libgfortran.5.dylib",
    "libopenblas.0.dylib"
  );
  private static final List<String> WINDOWS = List.of("libopenblas.dll");

  // A file lock belongs to the process: threads wait for each other here.
  private static final Object UNPACKING = new Object();

  /**
   * Where to look.
   *
   * @param file the file to load; {@code null} or blank if there is no such wish
   * @param platform names the machine as the jars do, for example {@code linux-x86_64}
   * @param resources where the jar is
   * @param cache folder to unpack under
   * @param systemNames names by which the system's loader is asked, the likeliest first
   */
  record Places(String file, String platform, ClassLoader resources, Path cache, List<String> systemNames) {
    static Places ofThisProcess() {
      String platform = OpenBlasLibrary.platform(System.getProperty("os.name"), System.getProperty("os.arch"));
      return new Places(
        System.getProperty("attar.openblas", System.getenv("ATTAR_OPENBLAS_LIB")),
        platform,
        OpenBlasLibrary.class.getClassLoader(),
        cache(platform, Path.of(System.getProperty("user.home"))),
        platform.startsWith("windows")
          ? List.of("libopenblas.dll", "openblas.dll")
          : platform.startsWith("macosx")
            ? List.of("libopenblas.dylib", "/opt/homebrew/opt/openblas/lib/libopenblas.dylib")
            : List.of("libopenblas.so.0", "libopenblas.so")
      );
    }

    private static Path cache(String platform, Path home) {
      if (platform.startsWith("macosx")) {
        return home.resolve("Library", "Caches", "attar", "openblas");
      }
      boolean windows = platform.startsWith("windows");
      String folder = System.getenv(windows ? "LOCALAPPDATA" : "XDG_CACHE_HOME");
      Path otherwise = windows ? home.resolve("AppData", "Local") : home.resolve(".cache");
      try {
        // Relative folders are ignored, as the XDG Base Directory Specification asks for.
        Path path = folder == null || folder.isBlank() ? otherwise : Path.of(folder);
        return (path.isAbsolute() ? path : otherwise).resolve("attar", "openblas");
      } catch (InvalidPathException _) {
        return otherwise.resolve("attar", "openblas");
      }
    }

    private List<String> files() {
      return platform.startsWith("windows") ? WINDOWS : platform.startsWith("macosx") ? MAC : LINUX;
    }
  }

  /** A file in the jar. */
  private record Entry(String name, URL url, long size, long crc) {}

  /** The name of a platform by the system properties {@code os.name} and {@code os.arch}. */
  static String platform(String system, String machine) {
    String name = system.toLowerCase(Locale.ROOT);
    return (
      (name.startsWith("mac") ? "macosx" : name.startsWith("windows") ? "windows" : name) +
      "-" +
      switch (machine) {
        case "amd64", "x86_64" -> "x86_64";
        case "aarch64" -> "arm64";
        default -> machine;
      }
    );
  }

  /**
   * Loads the library.
   *
   * @throws IOException if there is none, or if it cannot be loaded; the message is one line
   */
  static OpenBlasLibrary load(Places places) throws IOException {
    if (places.file != null && !places.file.isBlank()) {
      Path file;
      try {
        file = Path.of(places.file).toAbsolutePath();
      } catch (InvalidPathException e) {
        throw new IOException("OpenBLAS at " + places.file + ": " + e.getReason(), e);
      }
      if (!Files.isRegularFile(file)) {
        throw new IOException(
          "OpenBLAS at " +
            file +
            ": found " +
            (Files.exists(file) ? "a folder" : "nothing") +
            ", expected OpenBLAS's shared library"
        );
      }
      return load(file);
    }
    List<Entry> entries = entries(places);
    if (!entries.isEmpty()) {
      return load(unpack(entries, places.cache), entries);
    }
    for (String name : places.systemNames) {
      Optional<SymbolLookup> symbols = open(name);
      if (symbols.isPresent()) {
        return new OpenBlasLibrary("the system's " + name, symbols.get());
      }
    }
    throw new IOException(
      "no OpenBLAS: neither the property attar.openblas nor ATTAR_OPENBLAS_LIB is set, this build carries none for " +
        places.platform +
        ", and the system has no " +
        String.join(" or ", places.systemNames)
    );
  }

  private static List<Entry> entries(Places places) throws IOException {
    List<Entry> entries = new ArrayList<>();
    for (String name : places.files()) {
      URL url = places.resources.getResource("org/bytedeco/openblas/" + places.platform + "/" + name);
      if (url != null && url.openConnection() instanceof JarURLConnection connection) {
        connection.setUseCaches(false);
        try (JarFile _ = connection.getJarFile()) {
          JarEntry entry = connection.getJarEntry();
          entries.add(new Entry(name, url, entry.getSize(), entry.getCrc()));
        }
      }
    }
    return entries;
  }

  /** The folder with the files. Its name is made of what the jar's directory says of them: other files get another folder. */
  private static Path unpack(List<Entry> entries, Path cache) throws IOException {
    CRC32 identity = new CRC32();
    for (Entry entry : entries) {
      identity.update("%s %d %x%n".formatted(entry.name, entry.size, entry.crc).getBytes(StandardCharsets.UTF_8));
    }
    Path folder = cache.resolve("%08x-%d".formatted(identity.getValue(), entries.getLast().size));
    if (isComplete(folder, entries)) {
      return folder;
    }
    try {
      Files.createDirectories(folder);
      synchronized (UNPACKING) {
        try (
          FileChannel channel = FileChannel.open(
            folder.resolve("lock"),
            StandardOpenOption.CREATE,
            StandardOpenOption.WRITE
          );
          FileLock _ = channel.lock()
        ) {
          write(entries, folder);
        }
      }
      return folder;
    } catch (IOException e) {
      // No place to keep them, as with a read-only home: this process has its own copy then.
      try {
        Path temporary = Files.createTempDirectory("attar-openblas-");
        Runtime.getRuntime().addShutdownHook(new Thread(() -> delete(temporary)));
        write(entries, temporary);
        return temporary;
      } catch (IOException f) {
        f.addSuppressed(e);
        throw new IOException("OpenBLAS cannot be unpacked: " + e + "; " + f, f);
      }
    }
  }

  private static boolean isComplete(Path folder, List<Entry> entries) {
    return entries.stream().allMatch(entry -> isThere(folder, entry));
  }

  private static boolean isThere(Path folder, Entry entry) {
    try {
      return Files.size(folder.resolve(entry.name)) == entry.size;
    } catch (IOException _) {
      return false;
    }
  }

  /** Writes the files that are missing or have another size; each appears under its name when it is whole. */
  private static void write(List<Entry> entries, Path folder) throws IOException {
    for (Entry entry : entries) {
      if (isThere(folder, entry)) {
        continue;
      }
      Path fresh = folder.resolve(entry.name + ".new");
      CRC32 crc = new CRC32();
      URLConnection connection = entry.url.openConnection();
      connection.setUseCaches(false);
      try (InputStream in = new CheckedInputStream(connection.getInputStream(), crc)) {
        Files.copy(in, fresh, StandardCopyOption.REPLACE_EXISTING);
      }
      if (Files.size(fresh) != entry.size || crc.getValue() != entry.crc) {
        throw new IOException(
          "bundled library " +
            entry.name +
            " has " +
            Files.size(fresh) +
            " bytes with CRC " +
            Long.toHexString(crc.getValue()) +
            ", expected " +
            entry.size +
            " with " +
            Long.toHexString(entry.crc) +
            ": the program's files are damaged"
        );
      }
      Files.move(fresh, folder.resolve(entry.name), StandardCopyOption.ATOMIC_MOVE);
    }
  }

  private static void delete(Path folder) {
    try (Stream<Path> files = Files.list(folder)) {
      for (Path file : files.toList()) {
        Files.delete(file);
      }
      Files.delete(folder);
    } catch (IOException | UncheckedIOException _) {
      // Windows keeps libraries that are in use; its own cleaning of temporary files takes them.
    }
  }

  private static OpenBlasLibrary load(Path folder, List<Entry> entries) throws IOException {
    for (Entry entry : entries.subList(0, entries.size() - 1)) {
      // Other libraries in the process need libgcc_s too, perhaps a newer one, and there is one per process: the system's, if any.
      if (!entry.name.startsWith("libgcc_s") || open(entry.name).isEmpty()) {
        load(folder.resolve(entry.name));
      }
    }
    return load(folder.resolve(entries.getLast().name));
  }

  private static OpenBlasLibrary load(Path file) throws IOException {
    try {
      return new OpenBlasLibrary(file.toString(), SymbolLookup.libraryLookup(file, Arena.global()));
    } catch (IllegalArgumentException e) {
      throw new IOException(file + ": cannot be loaded: " + reason(file), e);
    }
  }

  private static Optional<SymbolLookup> open(String name) {
    try {
      return Optional.of(SymbolLookup.libraryLookup(name, Arena.global()));
    } catch (IllegalArgumentException _) {
      return Optional.empty();
    }
  }

  /** The loader's own words, which only the older way of loading passes on. */
  private static String reason(Path file) {
    try {
      System.load(file.toString());
      return "unknown reason";
    } catch (UnsatisfiedLinkError e) {
      return String.valueOf(e.getMessage()).replace(file + ": ", "").lines().findFirst().orElse("unknown reason");
    }
  }
}
