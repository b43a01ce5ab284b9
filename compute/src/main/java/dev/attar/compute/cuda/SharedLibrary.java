package dev.attar.compute.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A shared library that the operating system's own loader has loaded. Unlike Java's ways of loading one, it tells what was wrong: which
 * file was not found, be it the library itself or one that it needs.
 *
 * @param name the name or path by which it was loaded
 * @param folder where it lies, if the system tells
 */
record SharedLibrary(String name, Optional<Path> folder) {
  /** A library cannot be loaded; the message is the loader's. */
  static final class LoadException extends IOException {

    private static final long serialVersionUID = 1;

    private final String missing;

    LoadException(String message, String missing) {
      super(message);
      this.missing = missing;
    }

    /** The name of the file that was not found; empty if it is another fault, or if the system does not tell the name. */
    Optional<String> missing() {
      return Optional.ofNullable(missing);
    }
  }

  /** The loader of a system. */
  private interface Loader {
    MemorySegment load(Arena arena, String name) throws Throwable;

    Optional<Path> folder(Arena arena, MemorySegment library) throws Throwable;

    void unload(MemorySegment library) throws Throwable;
  }

  private static final class Loaders {

    static final Loader CURRENT = System.getProperty("os.name").startsWith("Windows") ? new Windows() : new Posix();
  }

  /**
   * Loads a library for good.
   *
   * @param name its path, or its name alone for the loader's own search
   */
  static SharedLibrary load(String name) throws LoadException {
    Loader loader = Loaders.CURRENT;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment library = loader.load(arena, name);
      return new SharedLibrary(name, loader.folder(arena, library));
    } catch (LoadException e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  /** Whether there is a library that loads; it is unloaded again. */
  static boolean exists(String name) {
    Loader loader = Loaders.CURRENT;
    try (Arena arena = Arena.ofConfined()) {
      loader.unload(loader.load(arena, name));
      return true;
    } catch (LoadException _) {
      return false;
    } catch (Throwable e) {
      throw new IllegalStateException(e);
    }
  }

  /** Its functions. */
  SymbolLookup symbols() {
    return SymbolLookup.libraryLookup(name, Arena.global());
  }

  /** glibc's dlopen and its like. */
  private static final class Posix implements Loader {

    private static final int RTLD_LAZY = 1;
    private static final int RTLD_DI_ORIGIN = 6;
    private static final int PATH_BYTES = 4096;
    /** What is not found is named as it was looked for, without a folder. What follows is in the user's language. */
    private static final Pattern MISSING = Pattern.compile("([^\\s/:]+): .*");

    private final Linker linker = Linker.nativeLinker();
    private final MethodHandle open = function("dlopen", FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT));
    private final MethodHandle close = function("dlclose", FunctionDescriptor.of(JAVA_INT, ADDRESS));
    private final MethodHandle error = function("dlerror", FunctionDescriptor.of(ADDRESS));
    private final MethodHandle info = function("dlinfo", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT, ADDRESS));

    private MethodHandle function(String name, FunctionDescriptor type) {
      return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), type);
    }

    @Override
    public MemorySegment load(Arena arena, String name) throws Throwable {
      // Also links the call before it is needed: linking might use dlopen, and the message be overwritten.
      MemorySegment _ = (MemorySegment) error.invokeExact();
      MemorySegment library = (MemorySegment) open.invokeExact(arena.allocateFrom(name), RTLD_LAZY);
      if (library.address() == 0) {
        MemorySegment text = (MemorySegment) error.invokeExact();
        String message = text.address() == 0
          ? name + ": unknown reason"
          : text.reinterpret(Long.MAX_VALUE).getString(0).lines().findFirst().orElse(name);
        Matcher missing = MISSING.matcher(message);
        throw new LoadException(message, missing.matches() ? missing.group(1) : null);
      }
      return library;
    }

    @Override
    public Optional<Path> folder(Arena arena, MemorySegment library) throws Throwable {
      MemorySegment path = arena.allocate(PATH_BYTES);
      int status = (int) info.invokeExact(library, RTLD_DI_ORIGIN, path);
      return status == 0 ? Optional.of(Path.of(path.getString(0))) : Optional.empty();
    }

    @Override
    public void unload(MemorySegment library) throws Throwable {
      int _ = (int) close.invokeExact(library);
    }
  }

  /** Windows' LoadLibraryEx. */
  private static final class Windows implements Loader {

    private static final int LOAD_WITH_ALTERED_SEARCH_PATH = 8;
    private static final int ERROR_MOD_NOT_FOUND = 126;
    private static final int PATH_CHARACTERS = 32768;

    private final Linker linker = Linker.nativeLinker();
    private final SymbolLookup kernel = SymbolLookup.libraryLookup("kernel32", Arena.global());
    private final StructLayout state = Linker.Option.captureStateLayout();
    private final MethodHandle open = linker.downcallHandle(
      kernel.findOrThrow("LoadLibraryExW"),
      FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS, JAVA_INT),
      Linker.Option.captureCallState("GetLastError")
    );
    private final MethodHandle close = linker.downcallHandle(
      kernel.findOrThrow("FreeLibrary"),
      FunctionDescriptor.of(JAVA_INT, ADDRESS)
    );
    private final MethodHandle fileName = linker.downcallHandle(
      kernel.findOrThrow("GetModuleFileNameW"),
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT)
    );

    @Override
    public MemorySegment load(Arena arena, String name) throws Throwable {
      MemorySegment failure = arena.allocate(state);
      // With a path, what the library needs is looked for in its folder first.
      boolean isPath = Path.of(name).isAbsolute();
      MemorySegment library = (MemorySegment) open.invokeExact(
        failure,
        arena.allocateFrom(name, StandardCharsets.UTF_16LE),
        MemorySegment.NULL,
        isPath ? LOAD_WITH_ALTERED_SEARCH_PATH : 0
      );
      if (library.address() == 0) {
        int code = failure.get(JAVA_INT, state.byteOffset(MemoryLayout.PathElement.groupElement("GetLastError")));
        boolean notFound = code == ERROR_MOD_NOT_FOUND;
        // By the name alone it is not told whether the library is missing, or one that it needs.
        throw new LoadException(
          name + ": " + (notFound ? "a library that it needs is not found" : "Windows error " + code),
          notFound && !isPath ? name : null
        );
      }
      return library;
    }

    @Override
    public Optional<Path> folder(Arena arena, MemorySegment library) throws Throwable {
      MemorySegment path = arena.allocate(2L * PATH_CHARACTERS);
      int length = (int) fileName.invokeExact(library, path, PATH_CHARACTERS);
      return length == 0
        ? Optional.empty()
        : Optional.ofNullable(Path.of(path.getString(0, StandardCharsets.UTF_16LE)).getParent());
    }

    @Override
    public void unload(MemorySegment library) throws Throwable {
      int _ = (int) close.invokeExact(library);
    }
  }
}
