package dev.attar.llama;

import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.function.UnaryOperator;

/**
 * What the search for native libraries must know of the system it runs on.
 *
 * @param system {@code linux}, {@code mac}, {@code win} or another system's own name
 * @param machine {@code x64}, {@code arm64} or another machine's own name
 */
record Platform(String system, String machine) {
  /** The running process's platform. */
  static Platform host() {
    return of(System.getProperty("os.name"), System.getProperty("os.arch"));
  }

  /** From the values of the system properties {@code os.name} and {@code os.arch}. */
  static Platform of(String name, String architecture) {
    String lower = name.toLowerCase(Locale.ROOT);
    String system = lower.startsWith("mac") ? "mac" : lower.startsWith("windows") ? "win" : lower;
    String machine = switch (architecture) {
      case "amd64", "x86_64" -> "x64";
      case "aarch64" -> "arm64";
      default -> architecture;
    };
    return new Platform(system, machine);
  }

  /** Name of the package with this platform's libraries, which is also the name of the folder among the resources. */
  String bundle() {
    String name = system + "-" + machine;
    return name.equals("mac-arm64") ? "mac-arm64-metal" : name;
  }

  /** The file name of a library as a linker names it, for example {@code libllama.so}. */
  String libraryName(String stem) {
    return switch (system) {
      case "win" -> stem + ".dll";
      case "mac" -> "lib" + stem + ".dylib";
      default -> "lib" + stem + ".so";
    };
  }

  /** Whether a file is the library of this stem; build numbers or variants may follow it, as in {@code libllama.v0.5.0.so}. */
  boolean isLibrary(String file, String stem) {
    String extension = switch (system) {
      case "win" -> ".dll";
      case "mac" -> ".dylib";
      default -> ".so";
    };
    String start = (system.equals("win") ? "" : "lib") + stem + ".";
    String name = system.equals("win") ? file.toLowerCase(Locale.ROOT) : file;
    return name.startsWith(start) && (name.endsWith(extension) || name.contains(extension + "."));
  }

  /**
   * The folder for files that can be made again.
   *
   * @param environment gives the value of an environment variable, or {@code null}
   * @param home the user's home folder
   */
  Path cache(UnaryOperator<String> environment, Path home) {
    return switch (system) {
      case "mac" -> home.resolve("Library", "Caches", "attar");
      case "win" -> absolute(environment.apply("LOCALAPPDATA"), home.resolve("AppData", "Local")).resolve("attar");
      default -> absolute(environment.apply("XDG_CACHE_HOME"), home.resolve(".cache")).resolve("attar");
    };
  }

  /** Relative folders are ignored, as the XDG Base Directory Specification asks for. */
  private static Path absolute(String folder, Path otherwise) {
    try {
      Path path = folder == null || folder.isBlank() ? otherwise : Path.of(folder);
      return path.isAbsolute() ? path : otherwise;
    } catch (InvalidPathException _) {
      return otherwise;
    }
  }
}
