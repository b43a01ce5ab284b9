package dev.attar.compute.cuda;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.abort;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.attar.compute.cuda.PtxAssembler.Use;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.MatchResult;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The PTX in the resources: it is what {@code build-ptx} makes of the sources beside it, and GPUs can run it well. */
class PtxTest {

  private static final Path FOLDER = Path.of("src/main/resources/dev/attar/compute/cuda");
  private static final String OPTIONS = "-ptx -arch=compute_75 -fmad=false -O3";

  /** The most that a kernel may take: of 128 registers, 16 warps of 32 threads fit a multiprocessor, a fourth of what it can hold. */
  private static final Use CEILING = new Use(128, 64, 48 << 10);

  /** Kernels that may take more, each with its own ceiling. */
  private static final Map<String, Use> EXCEPTIONS = Map.of();

  /** The names of files of a kind, without the ending, in the order of their bytes. */
  private static Set<String> names(String ending) throws IOException {
    try (Stream<Path> files = Files.list(FOLDER)) {
      return files
        .map(file -> file.getFileName().toString())
        .filter(name -> name.endsWith(ending))
        .map(name -> name.substring(0, name.length() - ending.length()))
        .collect(Collectors.toCollection(TreeSet::new));
    }
  }

  private static String ptx(String name) throws IOException {
    return Files.readString(FOLDER.resolve(name + ".ptx"));
  }

  @Test
  void eachSourceHasItsPtx() throws IOException {
    assertFalse(names(".cu").isEmpty());
    assertEquals(names(".cu"), names(".ptx"));
  }

  @Test
  void thePtxIsUpToDate() throws IOException, NoSuchAlgorithmException {
    for (String name : names(".cu")) {
      MessageDigest digest = MessageDigest.getInstance("SHA-256");
      digest.update(Files.readAllBytes(FOLDER.resolve(name + ".cu")));
      for (String header : names(".cuh")) {
        digest.update(Files.readAllBytes(FOLDER.resolve(header + ".cuh")));
      }
      String expected = "// sources " + HexFormat.of().formatHex(digest.digest());
      String found = ptx(name).lines().skip(1).findFirst().orElse("");
      assertEquals(expected, found, name + ".ptx was made of other sources: run compute/build-ptx");
    }
  }

  @Test
  void thePtxIsForDriversOfCuda12AndGpusFromTuringOn() throws IOException {
    for (String name : names(".ptx")) {
      String text = ptx(name);
      assertEquals(OPTIONS, header(name).group("options"), name);
      assertEquals(List.of("8.0"), all("(?m)^\\.version (.*)$", text), name);
      assertEquals(List.of("sm_75"), all("(?m)^\\.target (.*)$", text), name);
    }
  }

  private static List<String> all(String pattern, String text) {
    return Pattern.compile(pattern)
      .matcher(text)
      .results()
      .map(result -> result.group(1))
      .toList();
  }

  /** The first line: what made the file, and how. */
  private static MatchResult header(String name) throws IOException {
    Matcher line = Pattern.compile("// " + name + "\\.cu by nvcc (?<release>\\S+) (?<options>.*)\n").matcher(ptx(name));
    assertTrue(line.lookingAt(), name + ".ptx");
    return line.toMatchResult();
  }

  /** The names of kernels say which one runs: the device keeps them of all files in one table. */
  @Test
  void kernelsHaveNamesOfTheirOwn() throws IOException {
    List<String> kernels = new ArrayList<>();
    for (String name : names(".ptx")) {
      List<String> found = all("\\.entry (\\w+)\\(", ptx(name));
      assertFalse(found.isEmpty(), name);
      kernels.addAll(found);
    }
    assertEquals(new TreeSet<>(kernels).size(), kernels.size(), () -> "twice among " + kernels);
  }

  @Test
  void nvccMakesThePtxAgain(@TempDir Path folder) throws IOException, InterruptedException {
    String release = nvccRelease(folder);
    for (String name : names(".ptx")) {
      String made = header(name).group("release");
      assumeTrue(made.equals(release), name + ".ptx is by nvcc " + made + ", the one on the path is " + release);
    }
    Path log = folder.resolve("log");
    Path built = Files.createDirectory(folder.resolve("built"));
    int status = new ProcessBuilder(Path.of("build-ptx").toAbsolutePath().toString(), built.toString())
      .redirectErrorStream(true)
      .redirectOutput(log.toFile())
      .start()
      .waitFor();
    assertEquals(0, status, Files.readString(log));
    for (String name : names(".cu")) {
      assertEquals(ptx(name), Files.readString(built.resolve(name + ".ptx")), name);
    }
  }

  private static String nvccRelease(Path folder) throws IOException, InterruptedException {
    Path log = folder.resolve("version");
    try {
      new ProcessBuilder("nvcc", "--version").redirectOutput(log.toFile()).start().waitFor();
    } catch (IOException e) {
      return abort("no nvcc: " + e.getMessage());
    }
    return String.join(" ", all("release \\S+, V(\\S+)", Files.readString(log, UTF_8)));
  }

  @Test
  void kernelsFitTheGpu() throws IOException {
    String system = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    assumeTrue(
      System.getProperty("os.arch").equals("amd64") && (system.startsWith("linux") || system.startsWith("windows")),
      "JCuda has a compiler of PTX for x86-64 Linux and Windows only"
    );
    PtxAssembler.load();
    List<String> failures = new ArrayList<>();
    for (String name : names(".ptx")) {
      String text = ptx(name);
      for (String gpu : List.of("sm_75", "sm_80", "sm_90")) {
        Map<String, Use> uses = PtxAssembler.assemble(name + ".ptx", text, gpu);
        assertEquals(new TreeSet<>(all("\\.entry (\\w+)\\(", text)), new TreeSet<>(uses.keySet()), name);
        uses.forEach((kernel, use) -> {
          Use ceiling = EXCEPTIONS.getOrDefault(kernel, CEILING);
          if (
            use.registers() > ceiling.registers() ||
            use.spilled() > ceiling.spilled() ||
            use.shared() > ceiling.shared()
          ) {
            failures.add(name + ".ptx for " + gpu + ": " + kernel + " takes " + use + ", expected at most " + ceiling);
          }
        });
      }
    }
    assertEquals("", String.join("\n", failures));
  }
}
