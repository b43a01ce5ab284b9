package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.attar.compute.CudaReport;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.Devices;
import dev.attar.compute.cuda.CudaLibraries.Places;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * What is said of machines of all kinds. The driver is one that answers as it is told to; the other libraries are empty. A process loads
 * a driver but once, so each case has a process of its own.
 */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class CudaReportTest {

  private static final String DRIVER = """
    #include <stdlib.h>
    #include <string.h>
    static int number(const char *name, int otherwise) {
      const char *text = getenv(name);
      return text ? atoi(text) : otherwise;
    }
    extern "C" {
    int cuDriverGetVersion(int *version) { *version = number("FAKE_VERSION", 12040); return 0; }
    int cuInit(unsigned) { return number("FAKE_INIT", 0); }
    int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT", 1); return 0; }
    int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
    int cuDeviceGetName(char *name, int length, int) { strncpy(name, "Old Card", length); return 0; }
    int cuDeviceTotalMem_v2(size_t *bytes, int) { *bytes = 1 << 30; return 0; }
    int cuDeviceGetAttribute(int *value, int attribute, int) {
      int capability = number("FAKE_CAPABILITY", 90);
      *value = attribute == 75 ? capability / 10 : capability % 10;
      return 0;
    }
    int cuDevicePrimaryCtxRetain(void **, int) { return 46; }
    }
    """;

  private static final String INSTALL = "install CUDA 12's libraries, or name their folder in ATTAR_CUDA_LIB";
  private static final String BLAS = "libcublas.so.12";
  private static final String SOLVER = "libcusolver.so.11";

  /** Prints what there is, in a process of its own. */
  static final class Report {

    public static void main(String[] args) throws IOException {
      CudaReport report = Devices.cuda();
      System.out.println(report.problem().orElse("none"));
      System.out.println(report.version().orElse("none"));
      System.out.println(report.gpus());
      System.out.println(report.libraries().map(Path::toString).orElse("none"));
      if (args.length > 0) {
        try (Devices.Opened opened = Devices.open(DeviceChoice.valueOf(args[0]), 1)) {
          System.out.println(opened.line());
        } catch (IOException e) {
          System.out.println(e.getMessage());
        }
      }
    }
  }

  /** Prints what this machine has of CUDA's libraries. In a process of its own too: this one may have loaded some. */
  static final class Present {

    public static void main(String[] args) {
      List<Path> folders = Places.ofThisProcess().libraryFolders(Optional.of(12));
      System.out.println(
        Stream.of("libcuda.so.1", BLAS, SOLVER)
          .filter(name -> SharedLibrary.exists(name) || folders.stream().anyMatch(in -> Files.exists(in.resolve(name))))
          .toList()
      );
    }
  }

  @TempDir
  private Path folder;

  private Path cuda;
  private Path temporary;

  @BeforeEach
  void makeFolders() throws IOException {
    cuda = Files.createDirectory(folder.resolve("cuda"));
    temporary = Files.createDirectory(folder.resolve("tmp"));
  }

  private static String run(List<String> command, Map<String, String> environment)
    throws IOException, InterruptedException {
    ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
    List.of("CUDA_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES").forEach(builder.environment()::remove);
    builder.environment().putAll(environment);
    Process process = builder.start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertTrue(process.waitFor(60, TimeUnit.SECONDS));
    assertEquals(0, process.exitValue(), output);
    return output;
  }

  private static void compile(Path file, String source, String... more) throws IOException, InterruptedException {
    Path cpp = Files.writeString(file.resolveSibling(file.getFileName() + ".cpp"), source);
    List<String> command = new ArrayList<>(List.of("g++", "-shared", "-fPIC", "-Wl,-soname," + file.getFileName()));
    command.addAll(List.of("-o", file.toString(), cpp.toString()));
    command.addAll(List.of(more));
    String _ = run(command, Map.of());
    Files.delete(cpp);
  }

  private static void library(Path file, String... more) throws IOException, InterruptedException {
    compile(file, "extern \"C\" int nothing() { return 0; }", more);
  }

  private void driver() throws IOException, InterruptedException {
    compile(cuda.resolve("libcuda.so.1"), DRIVER);
  }

  private List<String> report(Map<String, String> environment, String... arguments)
    throws IOException, InterruptedException {
    return java(Report.class, environment, arguments);
  }

  private List<String> java(Class<?> main, Map<String, String> environment, String... arguments)
    throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-XX:-UsePerfData", "-Xlog:disable"));
    command.addAll(List.of("-Djava.io.tmpdir=" + temporary, "-cp", System.getProperty("java.class.path")));
    command.add(main.getName());
    command.addAll(List.of(arguments));
    List<String> lines = run(command, environment).lines().toList();
    // What JCuda unpacks is gone.
    try (Stream<Path> left = Files.list(temporary)) {
      assertEquals(List.of(), left.filter(file -> file.getFileName().toString().contains("jcuda")).toList());
    }
    return lines;
  }

  private Map<String, String> named(String... more) {
    Map<String, String> environment = new HashMap<>(Map.of("ATTAR_CUDA_LIB", cuda.toString()));
    for (int i = 0; i < more.length; i += 2) {
      environment.put(more[i], more[i + 1]);
    }
    return environment;
  }

  /** A machine that has CUDA gives other answers than one that lacks something. */
  private void assumeNoCuda() throws IOException, InterruptedException {
    assumeTrue(List.of("[]").equals(java(Present.class, Map.of())), "CUDA is installed");
  }

  private String problem(String... more) throws IOException, InterruptedException {
    return report(named(more)).getFirst();
  }

  @Test
  void noDriver() throws IOException, InterruptedException {
    assumeNoCuda();
    List<String> lines = report(named(), "AUTO");
    assertEquals(List.of("libcuda.so.1 not found: no NVIDIA driver", "none", "[]", "none"), lines.subList(0, 4));
    // Who has nothing of NVIDIA's need not read of it.
    assertTrue(lines.get(4).startsWith("device: cpu (") && !lines.get(4).contains("since"), lines.get(4));
    assertEquals("libcuda.so.1 not found: no NVIDIA driver", report(named(), "CUDA").get(4));
  }

  @Test
  void theFolderThatIsNamedMustBeThere() throws IOException, InterruptedException {
    Path missing = folder.resolve("missing");
    String problem = "ATTAR_CUDA_LIB: " + missing + " is no folder, expected the one with CUDA's libraries";
    List<String> lines = report(named("ATTAR_CUDA_LIB", missing.toString()), "AUTO");
    assertEquals(problem, lines.getFirst());
    assertTrue(lines.get(4).endsWith(", since " + problem), lines.get(4));
  }

  @Test
  void theDriverSaysNo() throws IOException, InterruptedException {
    driver();
    assertEquals("no NVIDIA GPU found by the driver", problem("FAKE_INIT", "100"));
    assertEquals("no NVIDIA GPU found by the driver", problem("FAKE_COUNT", "0"));
    assertEquals(
      "no NVIDIA GPU found by the driver, CUDA_VISIBLE_DEVICES is '7'",
      problem("FAKE_INIT", "100", "CUDA_VISIBLE_DEVICES", "7")
    );
    assertEquals("the driver is for CUDA 11.4, expected 12.0 or later", problem("FAKE_VERSION", "11040"));
    assertEquals(
      "the NVIDIA driver's library and its kernel module are of different versions, restart the machine: " +
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)",
      problem("FAKE_INIT", "803")
    );
    assertEquals(
      "libcuda.so.1 is a stub for linking programs, not a driver: CUDA_ERROR_STUB_LIBRARY (34)",
      problem("FAKE_INIT", "34")
    );
    assertEquals("the NVIDIA driver does not start: CUDA_ERROR_UNKNOWN (999)", problem("FAKE_INIT", "999"));
    assertEquals("Old Card has compute capability 6.1, expected 7.5 or later", problem("FAKE_CAPABILITY", "61"));
  }

  @Test
  void aDamagedDriver() throws IOException, InterruptedException {
    Path file = Files.writeString(cuda.resolve("libcuda.so.1"), "no library");
    assertEquals("libcuda.so.1 cannot be loaded: " + file + ": file too short", problem());
  }

  @Test
  void librariesOfCuda12AreMissing() throws IOException, InterruptedException {
    assumeNoCuda();
    driver();
    List<String> lines = report(named());
    assertEquals("CUDA 12 runtime library " + BLAS + " not found: " + INSTALL, lines.getFirst());
    assertEquals("12.4", lines.get(1));
    assertEquals("[Gpu[name=Old Card, capability=90, memoryBytes=1073741824]]", lines.get(2));
    Path other = cuda.resolve("libcublas.so.11");
    library(other);
    String installed = "CUDA 12 runtime library " + BLAS + " not found, CUDA %d is installed: " + INSTALL;
    installed = installed.replace("libraries,", "libraries beside it,");
    assertEquals(installed.formatted(11), problem());
    library(cuda.resolve("libcublas.so.13"));
    assertEquals(installed.formatted(13), problem());
    library(cuda.resolve(BLAS));
    assertTrue(problem().startsWith("CUDA 12 runtime library " + SOLVER + " not found"), problem());
  }

  @Test
  void libraryThatALibraryNeeds() throws IOException, InterruptedException {
    assumeNoCuda();
    driver();
    Path needed = folder.resolve("libcublasLt.so.12");
    library(needed);
    library(cuda.resolve(BLAS), "-Wl,--no-as-needed", needed.toString());
    assertEquals(BLAS + " needs libcublasLt.so.12, which is not found: " + INSTALL, problem());
    // It is found in the same folder, though nothing tells the system's loader to look there.
    Files.move(needed, cuda.resolve(needed.getFileName()));
    assertTrue(problem().startsWith("CUDA 12 runtime library " + SOLVER + " not found"), problem());
  }

  @Test
  void librariesAreFoundInEachPlace() throws IOException, InterruptedException {
    assumeNoCuda();
    driver();
    Path toolkit = Files.createDirectories(folder.resolve("toolkit").resolve("lib64"));
    Path searched = Files.createDirectory(folder.resolve("searched"));
    for (Path place : List.of(toolkit, searched, cuda)) {
      library(place.resolve(BLAS));
      library(place.resolve(SOLVER));
      List<String> lines = report(
        named(
          "CUDA_PATH",
          toolkit.getParent().toString(),
          "LD_LIBRARY_PATH",
          place == toolkit ? "" : searched.toString()
        ),
        "AUTO"
      );
      assertEquals(List.of("none", place.toString()), List.of(lines.getFirst(), lines.get(3)));
      // All is there, but another process has the GPU for itself.
      String why = "cuda: cuDevicePrimaryCtxRetain(Old Card) failed: CUDA_ERROR_DEVICE_UNAVAILABLE (46)";
      assertTrue(lines.get(4).startsWith("device: cpu (") && lines.get(4).endsWith(", since " + why), lines.get(4));
    }
    assertEquals(
      "cuda: cuDevicePrimaryCtxRetain(Old Card) failed: CUDA_ERROR_DEVICE_UNAVAILABLE (46)",
      report(named(), "CUDA").get(4)
    );
  }

  @Test
  void newerVersionsComeFirst() throws IOException {
    for (String name : List.of("cuda-12.4", "cuda-12.10", "cuda-13.0", "cuda-12", "cuda-samples")) {
      Files.createDirectory(folder.resolve(name));
    }
    List<String> names = Places.versions(folder, false)
      .stream()
      .map(path -> path.getFileName().toString())
      .toList();
    assertEquals(List.of("cuda-13.0", "cuda-12.10", "cuda-12.4", "cuda-12"), names);
    Places places = new Places(false, null, "", List.of(folder.resolve("cuda")), Places.versions(folder, false));
    List<Path> folders = places.libraryFolders(Optional.of(12));
    assertEquals(folder.resolve("cuda").resolve("lib64"), folders.getFirst());
    assertTrue(folders.contains(folder.resolve("cuda-12.10").resolve("lib64")));
    assertFalse(folders.contains(folder.resolve("cuda-13.0").resolve("lib64")));
    assertTrue(places.libraryFolders(Optional.empty()).contains(folder.resolve("cuda-13.0").resolve("lib64")));
  }

  @Test
  void jcudaIsForTwoKindsOfMachine() {
    assertEquals(Optional.empty(), CudaLibraries.unsupported("Linux", "amd64"));
    assertEquals(Optional.empty(), CudaLibraries.unsupported("Windows 11", "amd64"));
    String line = "cuda: there is none for linux aarch64 in Attar; x86-64 Linux and Windows have it";
    assertEquals(Optional.of(line), CudaLibraries.unsupported("Linux", "aarch64"));
    assertTrue(CudaLibraries.unsupported("Mac OS X", "x86_64").isPresent());
  }
}
