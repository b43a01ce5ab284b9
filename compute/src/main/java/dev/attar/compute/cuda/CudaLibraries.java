package dev.attar.compute.cuda;

import dev.attar.compute.cuda.SharedLibrary.LoadException;
import java.io.IOException;
import java.lang.foreign.SymbolLookup;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import jcuda.driver.JCudaDriver;
import jcuda.jcublas.JCublas2;

/**
 * Finds and loads CUDA's driver and runtime libraries, and JCuda's libraries after them. A process loads each library once, so there is
 * one for a process.
 *
 * <p>A library is looked for in this order: the folder that the system property {@code attar.cuda} or else the environment variable
 * {@code ATTAR_CUDA_LIB} names, if it has the file; the system's own search; CUDA's usual folders. The first place that has it decides:
 * a fault there is an error, and no other place is tried. The driver is the system's matter, and not looked for in CUDA's folders.
 *
 * <p>Other libraries name those that they need by their names alone, and the system's loader takes what is loaded by that name already:
 * so JCuda's find the ones that were loaded here, wherever they lie.
 */
final class CudaLibraries {

  /** Further libraries that one may need, and those may need: more than CUDA has. */
  private static final int MOST_NEEDED = 16;

  private static final Pattern VERSION = Pattern.compile("(?:cuda-|v)(\\d{1,4})(?:\\.(\\d{1,4}))?");

  /** Names of the files on a system. */
  private record Names(String driver, String blas, String solver, String otherBlas) {
    static final Names LINUX = new Names("libcuda.so.1", "libcublas.so.12", "libcusolver.so.11", "libcublas.so.%d");
    static final Names WINDOWS = new Names("nvcuda.dll", "cublas64_12.dll", "cusolver64_11.dll", "cublas64_%d.dll");
  }

  /**
   * Where to look.
   *
   * @param windows whether this is Windows
   * @param named the folder that the user names; {@code null} or blank if there is none
   * @param namedBy how the user names it
   * @param toolkits CUDA's own folders, the likeliest first
   * @param versions folders that have a CUDA's version in their names
   */
  record Places(boolean windows, String named, String namedBy, List<Path> toolkits, List<Path> versions) {
    static Places ofThisProcess() {
      String property = System.getProperty("attar.cuda");
      Map<String, String> environment = System.getenv();
      boolean windows = System.getProperty("os.name").startsWith("Windows");
      List<Path> toolkits = new ArrayList<>();
      for (String variable : List.of("CUDA_PATH", "CUDA_HOME")) {
        try {
          String value = environment.getOrDefault(variable, "");
          if (!value.isBlank()) {
            toolkits.add(Path.of(value).toAbsolutePath());
          }
        } catch (InvalidPathException _) {
          // no folder
        }
      }
      String programs = environment.getOrDefault("ProgramFiles", "C:\\Program Files");
      Path root = windows ? Path.of(programs, "NVIDIA GPU Computing Toolkit", "CUDA") : Path.of("/usr/local");
      if (!windows) {
        toolkits.add(root.resolve("cuda"));
      }
      return new Places(
        windows,
        property != null ? property : environment.get("ATTAR_CUDA_LIB"),
        property != null ? "attar.cuda" : "ATTAR_CUDA_LIB",
        toolkits,
        versions(root, windows)
      );
    }

    /** The folders of CUDA's versions, newest first. */
    static List<Path> versions(Path root, boolean windows) {
      List<Path> found = new ArrayList<>();
      try (DirectoryStream<Path> folders = Files.newDirectoryStream(root, windows ? "v*" : "cuda-*")) {
        folders.forEach(found::add);
      } catch (IOException | DirectoryIteratorException _) {
        // none
      }
      found.removeIf(folder -> version(folder).length == 0);
      found.sort(Comparator.comparing(Places::version, Arrays::compare).reversed());
      return found;
    }

    /** The numbers in the name of a version's folder; none if it is another's. */
    private static int[] version(Path folder) {
      Matcher name = VERSION.matcher(folder.getFileName().toString());
      return name.matches()
        ? new int[] { Integer.parseInt(name.group(1)), name.group(2) == null ? 0 : Integer.parseInt(name.group(2)) }
        : new int[0];
    }

    /** The folder that the user names. */
    Optional<Path> folder() throws IOException {
      if (named == null || named.isBlank()) {
        return Optional.empty();
      }
      try {
        Path folder = Path.of(named).toAbsolutePath();
        if (Files.isDirectory(folder)) {
          return Optional.of(folder);
        }
      } catch (InvalidPathException _) {
        // no folder either
      }
      throw new IOException(namedBy + ": " + named + " is no folder, expected the one with CUDA's libraries");
    }

    /** The folders of libraries of CUDA's own folders, with those of a major version alone or of all. */
    List<Path> libraryFolders(Optional<Integer> major) {
      Set<Path> folders = new LinkedHashSet<>();
      List<Path> all = new ArrayList<>(toolkits);
      versions
        .stream()
        .filter(folder -> major.isEmpty() || version(folder)[0] == major.get())
        .forEach(all::add);
      for (Path toolkit : all) {
        folders.add(toolkit.resolve(windows ? "bin" : "lib64"));
        folders.add(toolkit.resolve(windows ? Path.of("bin", "x64") : Path.of("lib")));
      }
      return List.copyOf(folders);
    }
  }

  private static CudaLibraries current;

  private final Places places;
  private final Names names;
  private Optional<Path> folder = Optional.empty();
  private SharedLibrary solver;

  private CudaLibraries(Places places) {
    this.places = places;
    names = places.windows ? Names.WINDOWS : Names.LINUX;
  }

  /** Those of this process. */
  static synchronized CudaLibraries ofThisProcess() {
    if (current == null) {
      current = new CudaLibraries(Places.ofThisProcess());
    }
    return current;
  }

  /** Why there is no CUDA for this machine, whatever is installed: JCuda's libraries are for two kinds. */
  static Optional<String> unsupported(String system, String machine) {
    boolean linux = system.startsWith("Linux");
    String kind = linux ? "linux" : system.startsWith("Windows") ? "windows" : system.toLowerCase(Locale.ROOT);
    boolean x64 = machine.equals("amd64") || machine.equals("x86_64");
    return x64 && (linux || system.startsWith("Windows"))
      ? Optional.empty()
      : Optional.of("cuda: there is none for " + kind + " " + machine + " in Attar; x86-64 Linux and Windows have it");
  }

  /** The folder of cuBLAS, once it is loaded and if the system tells. */
  Optional<Path> folder() {
    return folder;
  }

  /** The functions of cuSOLVER, once it is loaded. */
  SymbolLookup solver() {
    if (solver == null) {
      throw new IllegalStateException("cuSOLVER is not loaded");
    }
    return solver.symbols();
  }

  /** The name of the driver's library. */
  String driverName() {
    return names.driver;
  }

  /**
   * Loads the driver's library.
   *
   * @return false if there is none
   * @throws IOException if it cannot be loaded; the message is one line
   */
  boolean loadDriver() throws IOException {
    if (find(names.driver, List.of(), List.of()).isEmpty()) {
      return false;
    }
    JCudaLibraries.load(() -> JCudaDriver.setExceptionsEnabled(false));
    return true;
  }

  /**
   * Loads cuBLAS and cuSOLVER, after the driver.
   *
   * @throws IOException if one is missing or cannot be loaded; the message is one line
   */
  void loadRuntime() throws IOException {
    SharedLibrary blas = runtime(names.blas, List.of());
    folder = blas.folder();
    // Both of one CUDA, as far as possible: there are cuSOLVERs of this name that belong to CUDA 11.
    solver = runtime(names.solver, folder.stream().toList());
    JCudaLibraries.load(() -> JCublas2.setExceptionsEnabled(false));
  }

  private SharedLibrary runtime(String name, List<Path> first) throws IOException {
    Optional<SharedLibrary> found = find(name, first, toolkits());
    if (found.isPresent()) {
      return found.get();
    }
    String installed = "";
    for (int version : new int[] { 13, 11 }) {
      if (installed.isEmpty() && has(names.otherBlas.formatted(version))) {
        installed = ", CUDA " + version + " is installed";
      }
    }
    throw new IOException(
      "CUDA 12 runtime library " +
        name +
        " not found" +
        installed +
        ": install CUDA 12's libraries" +
        (installed.isEmpty() ? "" : " beside it") +
        ", or name their folder in ATTAR_CUDA_LIB"
    );
  }

  private List<Path> toolkits() {
    return places.libraryFolders(Optional.of(12));
  }

  /** Whether a library is in any of the places. */
  private boolean has(String name) throws IOException {
    return (
      Stream.concat(places.folder().stream(), places.libraryFolders(Optional.empty()).stream()).anyMatch(in ->
        Files.isRegularFile(in.resolve(name))
      ) ||
      SharedLibrary.exists(name)
    );
  }

  /**
   * Loads a library from the first place that has it.
   *
   * @param first folders to look into before the system's own search, after the one that the user names
   * @param otherwise folders to look into after it
   * @throws IOException if that one cannot be loaded
   */
  private Optional<SharedLibrary> find(String name, List<Path> first, List<Path> otherwise) throws IOException {
    for (Path in : Stream.concat(places.folder().stream(), first.stream()).toList()) {
      if (Files.isRegularFile(in.resolve(name))) {
        return Optional.of(load(name, in.resolve(name).toString()));
      }
    }
    try {
      return Optional.of(SharedLibrary.load(name));
    } catch (LoadException e) {
      if (!e.missing().equals(Optional.of(name))) {
        return Optional.of(load(name, name));
      }
    }
    for (Path in : otherwise) {
      if (Files.isRegularFile(in.resolve(name))) {
        return Optional.of(load(name, in.resolve(name).toString()));
      }
    }
    return Optional.empty();
  }

  /** Loads a library that is there; what it needs and the system's loader does not find is looked for in the same places. */
  private SharedLibrary load(String name, String path) throws IOException {
    Set<String> needed = new HashSet<>();
    while (true) {
      try {
        return SharedLibrary.load(path);
      } catch (LoadException e) {
        String missing = e.missing().orElse(name);
        if (missing.equals(name) || missing.equals(path)) {
          throw new IOException(name + " cannot be loaded: " + e.getMessage(), e);
        }
        if (needed.size() == MOST_NEEDED || !needed.add(missing) || find(missing, beside(path), toolkits()).isEmpty()) {
          throw new IOException(
            name +
              " needs " +
              missing +
              ", which is not found: install CUDA 12's libraries, or name their folder in ATTAR_CUDA_LIB",
            e
          );
        }
      }
    }
  }

  private static List<Path> beside(String path) {
    return Stream.ofNullable(Path.of(path).getParent()).toList();
  }
}
