package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.io.PrintStream;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * The native libraries of llama.cpp, loaded once per process.
 *
 * <p>They are looked for in this order: the folder that the environment variable {@code ATTAR_LLAMA_LIB} names, those that the
 * program carries (unpacked once into the user's cache folder), the system's. The first place that has libraries decides: a
 * fault there is an error, and no other place is tried.
 */
public final class LlamaLibrary {

  /** The release of llama.cpp that the bindings are written for. */
  public static final String VERSION = "0.5.0";

  private static final List<String> STEMS = List.of("ggml-base", "ggml", "llama");

  private static LlamaLibrary loaded;

  private final Optional<Path> folder;
  private final SymbolLookup symbols;
  private final String version;
  private final NativeLog log = new NativeLog();
  private final GgmlTensors tensors;
  private boolean backendsLoaded;

  /**
   * Where to look.
   *
   * @param folder value of {@code ATTAR_LLAMA_LIB}; {@code null} or blank if there is none
   * @param bundle libraries that the program carries
   * @param cache folder to unpack them under
   * @param systemNames names by which the system's loader is asked for {@code llama}, the likeliest first
   */
  record Places(String folder, Optional<NativeBundle> bundle, Path cache, List<String> systemNames) {
    static Places ofThisProcess() throws IOException {
      Platform platform = Platform.host();
      String name = platform.libraryName("llama");
      return new Places(
        System.getenv("ATTAR_LLAMA_LIB"),
        NativeBundle.of(platform),
        platform.cache(System::getenv, Path.of(System.getProperty("user.home"))).resolve("llama"),
        platform.system().equals("linux") ? List.of(name, name + ".0") : List.of(name)
      );
    }
  }

  private LlamaLibrary(Optional<Path> folder, SymbolLookup symbols) throws IOException {
    this.folder = folder;
    this.symbols = symbols;
    version = readVersion();
    if (!version.equals(VERSION) && !version.startsWith(VERSION + "-")) {
      throw new IOException(place() + ": llama.cpp " + version + ", expected " + VERSION);
    }
    captureLog();
    for (ParamsType type : List.of(ParamsType.QUANTIZE, ParamsType.MODEL, ParamsType.CONTEXT)) {
      type.check(this);
    }
    tensors = new GgmlTensors(this);
  }

  /** Takes the log. Where a process loads several copies of the libraries, parts of them are shared: the last one has it. */
  void captureLog() {
    MemorySegment callback = log.callback();
    for (String setter : List.of("ggml_log_set", "llama_log_set")) {
      MethodHandle set = function(setter, FunctionDescriptor.ofVoid(ADDRESS, ADDRESS));
      Natives.run(() -> {
        set.invokeExact(callback, MemorySegment.NULL);
      });
    }
  }

  /**
   * Loads the libraries, unless this process has done so already.
   *
   * @throws IOException if there are none, or if they are damaged, made for another machine, or of another release than
   *     {@link #VERSION}; the message is one line that says where it looked and how to get them
   */
  public static synchronized LlamaLibrary load() throws IOException {
    if (loaded == null) {
      loaded = load(Places.ofThisProcess());
    }
    return loaded;
  }

  static LlamaLibrary load(Places places) throws IOException {
    if (places.folder != null && !places.folder.isBlank()) {
      return inNamedFolder(places.folder);
    }
    if (places.bundle.isPresent()) {
      return in(unpack(places.bundle.get(), places.cache));
    }
    for (String name : places.systemNames) {
      Optional<SymbolLookup> system = open(name);
      if (system.isPresent()) {
        return new LlamaLibrary(Optional.empty(), system.get());
      }
    }
    throw new IOException(
      "no llama.cpp libraries: ATTAR_LLAMA_LIB is not set, this build carries none for " +
        Platform.host().bundle() +
        ", and the system has no " +
        String.join(" or ", places.systemNames) +
        "; build attar where npm and a network are at hand, or set ATTAR_LLAMA_LIB to the folder with the libraries of llama.cpp " +
        VERSION
    );
  }

  private static LlamaLibrary inNamedFolder(String name) throws IOException {
    Path folder;
    try {
      folder = Path.of(name).toAbsolutePath();
    } catch (InvalidPathException e) {
      throw new IOException("ATTAR_LLAMA_LIB=" + name + ": " + e.getReason(), e);
    }
    if (!Files.isDirectory(folder)) {
      throw new IOException(
        "ATTAR_LLAMA_LIB=" +
          name +
          ": found " +
          (Files.exists(folder) ? "a file" : "nothing") +
          ", expected the folder with llama.cpp's libraries"
      );
    }
    return in(folder);
  }

  private static Path unpack(NativeBundle bundle, Path cache) throws IOException {
    try {
      return bundle.unpack(cache);
    } catch (IOException e) {
      // No place to keep them, as with a read-only home: this process has its own copy then.
      try {
        return bundle.unpackForThisProcess();
      } catch (IOException f) {
        f.addSuppressed(e);
        throw new IOException(
          "llama.cpp's libraries cannot be unpacked: " + Natives.describe(e) + "; " + Natives.describe(f),
          f
        );
      }
    }
  }

  private static LlamaLibrary in(Path folder) throws IOException {
    Platform platform = Platform.host();
    SymbolLookup symbols = _ -> Optional.empty();
    // In the order of dependence: a library finds those that are loaded already by their names, on Windows too.
    for (String stem : STEMS) {
      Path file;
      try (Stream<Path> files = Files.list(folder)) {
        file = files
          .filter(f -> platform.isLibrary(f.getFileName().toString(), stem))
          .min(Comparator.comparingInt((Path f) -> f.toString().length()).thenComparing(Comparator.naturalOrder()))
          .orElseThrow(() ->
            new IOException(
              folder + ": no " + platform.libraryName(stem) + "; expected a folder with llama.cpp's libraries"
            )
          );
      }
      symbols = symbols.or(open(file));
    }
    return new LlamaLibrary(Optional.of(folder), symbols);
  }

  private static SymbolLookup open(Path file) throws IOException {
    try {
      return SymbolLookup.libraryLookup(file, Arena.global());
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
      System.load(file.toAbsolutePath().toString());
      return "unknown reason";
    } catch (UnsatisfiedLinkError e) {
      String message = String.valueOf(e.getMessage()).replace(file + ": ", "");
      return message.lines().findFirst().orElse("unknown reason");
    }
  }

  private String readVersion() throws IOException {
    Optional<MemorySegment> function = symbols.find("llama_version");
    if (function.isEmpty()) {
      throw new IOException(place() + ": a llama.cpp without llama_version, expected " + VERSION);
    }
    MethodHandle version = Linker.nativeLinker().downcallHandle(function.get(), FunctionDescriptor.of(ADDRESS));
    return Natives.string(Natives.call(() -> (MemorySegment) version.invokeExact()));
  }

  private String place() {
    return folder.map(Path::toString).orElse("the system's libllama");
  }

  /** Where the libraries lie; empty if the system's loader found them. */
  public Optional<Path> folder() {
    return folder;
  }

  /** What the library says of itself, for example {@code 0.5.0-dev}. */
  public String version() {
    return version;
  }

  /** The last lines that llama.cpp logged in this process, oldest first. They are shown nowhere else. */
  public List<String> log() {
    return log.lines();
  }

  /**
   * Writes what llama.cpp logs from now on to a stream, as it comes: what precedes an abort is wanted most. Meant for the main
   * of a worker process.
   */
  public void logTo(PrintStream stream) {
    log.listener(text -> {
      stream.print(text);
      stream.flush();
    });
  }

  NativeLog nativeLog() {
    return log;
  }

  GgmlTensors tensors() {
    return tensors;
  }

  /**
   * The devices that llama.cpp can compute on; at least the CPU.
   *
   * @see Device
   */
  public List<Device> devices() {
    loadBackends();
    return Device.all(this);
  }

  /**
   * Initializes ggml and loads its backends, the CPU's variant for this machine among them; the first call counts. To be called
   * before any function that opens a model.
   */
  synchronized void loadBackends() {
    if (!backendsLoaded) {
      MethodHandle load = function("ggml_backend_load_all_from_path", FunctionDescriptor.ofVoid(ADDRESS));
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment path = folder.map(f -> arena.allocateFrom(f.toString())).orElse(MemorySegment.NULL);
        Natives.run(() -> {
          load.invokeExact(path);
        });
      }
      MethodHandle initialize = function("llama_backend_init", FunctionDescriptor.ofVoid());
      Natives.run(() -> {
        initialize.invokeExact();
      });
      backendsLoaded = true;
    }
  }

  /** Binds a function of any of the libraries. */
  MethodHandle function(String name, FunctionDescriptor descriptor, Linker.Option... options) {
    return Linker.nativeLinker().downcallHandle(symbols.findOrThrow(name), descriptor, options);
  }

  /** Calls a function that looks at one object. */
  int getInt(String name, MemorySegment object) {
    MethodHandle function = function(name, FunctionDescriptor.of(JAVA_INT, ADDRESS));
    return Natives.call(() -> (int) function.invokeExact(object));
  }

  /** Calls a function that looks at one object. */
  long getLong(String name, MemorySegment object) {
    MethodHandle function = function(name, FunctionDescriptor.of(JAVA_LONG, ADDRESS));
    return Natives.call(() -> (long) function.invokeExact(object));
  }

  /** Calls a function that looks at one object. */
  boolean getBoolean(String name, MemorySegment object) {
    MethodHandle function = function(name, FunctionDescriptor.of(JAVA_BOOLEAN, ADDRESS));
    return Natives.call(() -> (boolean) function.invokeExact(object));
  }

  /** Calls a function that looks at one object. */
  MemorySegment getAddress(String name, MemorySegment object) {
    MethodHandle function = function(name, FunctionDescriptor.of(ADDRESS, ADDRESS));
    return Natives.call(() -> (MemorySegment) function.invokeExact(object));
  }

  /** Calls a function that does something with one object. */
  void perform(String name, MemorySegment object) {
    MethodHandle function = function(name, FunctionDescriptor.ofVoid(ADDRESS));
    Natives.run(() -> {
      function.invokeExact(object);
    });
  }
}
