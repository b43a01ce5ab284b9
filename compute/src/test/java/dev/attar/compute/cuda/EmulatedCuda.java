package dev.attar.compute.cuda;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Builds the emulated CUDA: stand-ins for {@code libcuda.so.1}, {@code libcublas.so.12} and {@code libcusolver.so.11}, in which our
 * very kernels run on the CPU with every access checked. The sources are in {@code src/test/cpp}. A process can have one of them
 * only, since all state is global.
 */
public final class EmulatedCuda {

  private static final Pattern KERNEL = Pattern.compile(
    "extern\\s+\"C\"\\s+__global__\\s+void\\s+(?:__launch_bounds__\\s*\\(([^,()]*)[^()]*\\)\\s*)?(\\w+)\\s*\\("
  );

  private static final List<String> FLAGS = List.of("-std=c++17", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden");

  /**
   * Each access to memory in the source must stay an access of that size: nothing may join them or turn loops into calls of the C
   * library.
   */
  private static final List<String> KERNEL_FLAGS = List.of(
    "-O2",
    "-fsanitize=thread",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-tree-loop-distribute-patterns",
    "-fno-store-merging",
    "-fno-strict-aliasing",
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-asynchronous-unwind-tables",
    "-Werror=return-type"
  );

  private static final List<String> LIBRARY_FLAGS = List.of("-O2", "-Wall", "-Wextra");

  /** Dense algebra, which may fuse and reorder as a GPU's does. */
  private static final List<String> ALGEBRA_FLAGS = List.of("-O3", "-ffp-contract=fast", "-Wall", "-Wextra");

  private static final Map<Path, Path> BUILT = new HashMap<>();

  private EmulatedCuda() {}

  /**
   * The folder with the three libraries, made of the kernels of {@code src/main} and those of the tests; built if it is not there.
   *
   * @throws IllegalStateException if there is no g++, or if it fails
   */
  public static Path libraries() {
    return libraries(module().resolve("src/main/resources/dev/attar/compute/cuda"));
  }

  /**
   * The same, with the kernels of another folder instead of those of {@code src/main}. For kernels that are broken on purpose; in a
   * process of its own.
   */
  public static synchronized Path libraries(Path kernels) {
    return BUILT.computeIfAbsent(kernels.toAbsolutePath().normalize(), folder -> {
      try {
        return new Build(module(), folder).run();
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
  }

  /** The folder of the module {@code compute}, wherever the tests run. */
  static Path module() {
    List<Path> starts = new ArrayList<>();
    try {
      starts.add(Path.of(EmulatedCuda.class.getProtectionDomain().getCodeSource().getLocation().toURI()));
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
    starts.add(Path.of("").toAbsolutePath());
    for (Path start : starts) {
      for (Path folder = start; folder != null; folder = folder.getParent()) {
        for (Path candidate : List.of(folder, folder.resolve("compute"))) {
          if (Files.isRegularFile(candidate.resolve("src/test/cpp/emulated_cuda.h"))) {
            return candidate;
          }
        }
      }
    }
    throw new IllegalStateException(
      "emulated CUDA: found no src/test/cpp/emulated_cuda.h above " + starts + ", expected the module compute"
    );
  }

  /** One build. Object files are kept by the hash of what they are made of. */
  private static final class Build {

    private final Path sources;
    private final Path kernels;
    private final Path root;
    private final List<String> machine;
    private final String compiler;

    Build(Path module, Path kernels) throws IOException {
      this.sources = module.resolve("src/test/cpp");
      this.kernels = kernels;
      this.root = module.resolve("target/emulated-cuda");
      this.compiler = execute(List.of("g++", "--version")).lines().findFirst().orElse("");
      this.machine = machineFlags();
    }

    /** Flags for the processor at hand: fused multiply-add as one instruction is many times faster than by the C library. */
    private static List<String> machineFlags() throws IOException {
      Path description = Path.of("/proc/cpuinfo");
      if (!System.getProperty("os.arch").equals("amd64") || !Files.isReadable(description)) {
        return List.of();
      }
      List<String> features = Files.readAllLines(description)
        .stream()
        .filter(line -> line.startsWith("flags"))
        .findFirst()
        .map(line -> Arrays.asList(line.split("\\s+")))
        .orElse(List.of());
      return features.containsAll(List.of("fma", "avx2", "bmi1", "bmi2", "abm", "f16c", "movbe"))
        ? List.of("-march=x86-64-v3")
        : List.of();
    }

    private record Unit(String name, String source, List<Path> includes, List<String> flags, String hash) {}

    Path run() throws IOException {
      List<Unit> cuda = new ArrayList<>();
      cuda.add(library("machine.cpp", LIBRARY_FLAGS));
      cuda.add(library("libcuda.cpp", LIBRARY_FLAGS));
      cuda.addAll(kernelUnits(kernels, List.of(kernels)));
      Path ofTests = sources.resolve("kernels");
      cuda.addAll(kernelUnits(ofTests, List.of(ofTests, kernels)));
      Unit cublas = library("libcublas.cpp", ALGEBRA_FLAGS);
      Unit cusolver = library("libcusolver.cpp", ALGEBRA_FLAGS);
      List<Unit> all = new ArrayList<>(cuda);
      all.add(cublas);
      all.add(cusolver);

      Path result = root.resolve(hash(all.stream().map(Unit::hash).toList()));
      if (Files.isDirectory(result)) {
        return result;
      }
      Files.createDirectories(root.resolve("objects"));
      compile(all);
      Path folder = Files.createTempDirectory(root, "new");
      try {
        link(folder, "libcuda.so.1", cuda, false);
        link(folder, "libcublas.so.12", List.of(cublas), true);
        link(folder, "libcusolver.so.11", List.of(cusolver), true);
        Files.move(folder, result, StandardCopyOption.ATOMIC_MOVE);
      } catch (IOException | RuntimeException e) {
        delete(folder);
        // Another process may have been faster.
        if (!Files.isDirectory(result)) {
          throw e;
        }
      }
      return result;
    }

    private Unit library(String name, List<String> flags) throws IOException {
      return unit(name, Files.readString(sources.resolve(name)), List.of(sources), ".h", flags);
    }

    private List<Unit> kernelUnits(Path folder, List<Path> includes) throws IOException {
      List<Unit> units = new ArrayList<>();
      for (Path file : list(folder, ".cu")) {
        StringBuilder source = new StringBuilder("#line 1 \"" + file.getFileName() + "\"\n" + Files.readString(file));
        source.append("\n#line 1 \"kernels of ").append(file.getFileName()).append("\"\n");
        Matcher kernel = KERNEL.matcher(Files.readString(file));
        while (kernel.find()) {
          String threads = kernel.group(1) == null ? "1024" : kernel.group(1);
          source.append("EMULATED_KERNEL(").append(kernel.group(2)).append(", ").append(threads).append(")\n");
        }
        List<String> flags = new ArrayList<>(KERNEL_FLAGS);
        flags.addAll(List.of("-include", sources.resolve("emulated_cuda.h").toString()));
        units.add(unit(file.getFileName().toString(), source.toString(), includes, ".cuh", flags));
      }
      return units;
    }

    private Unit unit(String name, String source, List<Path> includes, String headers, List<String> flags)
      throws IOException {
      List<String> parts = new ArrayList<>(List.of(source, compiler));
      parts.addAll(machine);
      parts.addAll(FLAGS);
      parts.addAll(flags);
      for (Path folder : includes) {
        for (Path header : list(folder, headers)) {
          parts.add(Files.readString(header));
        }
      }
      parts.add(Files.readString(sources.resolve("emulated_cuda.h")));
      return new Unit(name, source, includes, flags, hash(parts));
    }

    private Path object(Unit unit) {
      return root.resolve("objects").resolve(unit.name + "-" + unit.hash + ".o");
    }

    private void compile(List<Unit> units) throws IOException {
      try (var pool = Executors.newFixedThreadPool(Runtime.getRuntime().availableProcessors())) {
        List<Future<Void>> tasks = new ArrayList<>();
        for (Unit unit : units) {
          if (!Files.exists(object(unit))) {
            tasks.add(
              pool.submit(() -> {
                compile(unit);
                return null;
              })
            );
          }
        }
        for (Future<Void> task : tasks) {
          task.get();
        }
      } catch (ExecutionException e) {
        throw new IllegalStateException(e.getCause().getMessage(), e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("emulated CUDA: interrupted while g++ ran", e);
      }
    }

    private void compile(Unit unit) throws IOException {
      Path folder = Files.createTempDirectory(root, "compile");
      try {
        Path source = Files.writeString(folder.resolve(unit.name), unit.source);
        Path object = folder.resolve("object");
        List<String> command = new ArrayList<>(List.of("g++"));
        command.addAll(FLAGS);
        command.addAll(machine);
        command.addAll(unit.flags);
        unit.includes.forEach(include -> command.addAll(List.of("-I", include.toString())));
        command.addAll(List.of("-x", "c++", "-c", source.toString(), "-o", object.toString()));
        execute(command);
        Files.move(object, object(unit), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
      } finally {
        delete(folder);
      }
    }

    private void link(Path folder, String name, List<Unit> units, boolean versions) throws IOException {
      List<String> command = new ArrayList<>(List.of("g++", "-shared", "-Wl,-z,defs", "-Wl,-soname," + name));
      units.forEach(unit -> command.add(object(unit).toString()));
      Path script = null;
      if (versions) {
        // As the real one, whose functions JCuda's libraries ask for by version.
        script = Files.writeString(folder.resolve(name + ".map"), name + " { global: cu*; local: *; };\n");
        command.addAll(
          List.of("-Wl,--version-script=" + script, "-L" + folder, "-l:libcuda.so.1", "-Wl,-rpath,$ORIGIN")
        );
      }
      command.addAll(List.of("-o", folder.resolve(name).toString()));
      execute(command);
      if (script != null) {
        Files.delete(script);
      }
    }

    private static List<Path> list(Path folder, String suffix) throws IOException {
      try (Stream<Path> files = Files.list(folder)) {
        return files
          .filter(file -> file.getFileName().toString().endsWith(suffix))
          .sorted()
          .toList();
      }
    }

    private static void delete(Path folder) throws IOException {
      try (Stream<Path> files = Files.walk(folder)) {
        for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(file);
        }
      }
    }

    private static String execute(List<String> command) throws IOException {
      Process process;
      try {
        process = new ProcessBuilder(command).redirectErrorStream(true).start();
      } catch (IOException e) {
        throw new IllegalStateException(
          "emulated CUDA: g++ not found, expected it on the PATH (Debian package g++)",
          e
        );
      }
      String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      try {
        if (process.waitFor() != 0) {
          throw new IllegalStateException("emulated CUDA: " + String.join(" ", command) + " failed:\n" + output);
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException("emulated CUDA: interrupted while g++ ran", e);
      }
      return output;
    }

    private static String hash(List<String> parts) {
      try {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (String part : parts) {
          digest.update(part.getBytes(StandardCharsets.UTF_8));
          digest.update((byte) 0);
        }
        return HexFormat.of().formatHex(digest.digest(), 0, 8);
      } catch (NoSuchAlgorithmException e) {
        throw new AssertionError(e);
      }
    }
  }
}
