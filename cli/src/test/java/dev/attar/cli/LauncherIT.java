package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** The launcher, on the packaged program. */
@DisabledOnOs(value = OS.WINDOWS, disabledReason = "the launcher is a bash script")
class LauncherIT {

  private static final Path LAUNCHER = Path.of("../attar").toAbsolutePath().normalize();

  @TempDir
  private Path folder;

  @Test
  void versionWithoutAWordFromTheJvm() throws Exception {
    for (int i = 0; i < 2; i++) {
      Attar.Result result = run(LAUNCHER, "--version").expect(0);
      assertEquals("", result.err());
      assertTrue(result.out().startsWith("attar "), result.out());
    }
  }

  @Test
  void throughLinksAndFoldersWithBlanks() throws Exception {
    Path links = Files.createDirectory(folder.resolve("my links"));
    Path first = Files.createSymbolicLink(links.resolve("first"), LAUNCHER);
    Path second = Files.createSymbolicLink(links.resolve("second"), first.getFileName());
    Path model = TestModels.small(links.resolve("my model.gguf"));
    Path out = links.resolve("my output.gguf");
    Attar.Result result = run(second, "quantize", model.toString(), "-t", "q8_0", "-o", out.toString()).expect(0);
    assertEquals("", result.err());
    assertTrue(result.out().startsWith(out + ": "), result.out());
    assertTrue(Files.exists(out));
    Files.delete(second);
    Files.delete(first);
  }

  @Test
  void modelsRunInProcessesOfTheirOwn() throws Exception {
    Path samples = LAUNCHER.resolveSibling("samples");
    Attar.Result result = run(
      LAUNCHER,
      "bench",
      samples.resolve("sample").toString(),
      "--types",
      "Q8_0",
      "--text",
      samples.resolve("test.txt").toString(),
      "--chunks",
      "1",
      "--ctx",
      "64",
      "--pp",
      "8",
      "--tg",
      "2",
      "-r",
      "1",
      "--threads",
      "1",
      "--quiet",
      "--csv",
      "--report",
      folder.resolve("report.html").toString()
    ).expect(0);
    assertEquals("", result.err());
    List<String> lines = result.out().lines().toList();
    assertEquals(3, lines.size(), result.out());
    assertTrue(lines.getLast().startsWith("Q8_0,"), result.out());
    assertTrue(Files.exists(folder.resolve("report.html")));
  }

  @Test
  void errorsAreOneLineWithTheirExitCode() throws Exception {
    assertTrue(run(LAUNCHER, "quantise").error(Main.USAGE).startsWith("unknown command 'quantise'"));
    Path missing = folder.resolve("missing");
    String error = run(LAUNCHER, "inspect", missing.toString()).error(Main.FAILURE);
    assertTrue(error.startsWith(missing + ": no such file or folder"), error);
  }

  @Test
  void mistakesInJvmOptionsAreTold() throws Exception {
    ProcessBuilder builder = new ProcessBuilder(LAUNCHER.toString(), "--version");
    builder.environment().put("ATTAR_JAVA_OPTS", "-XX:NoSuchOption=1");
    Attar.Result result = Attar.await(builder.start()).expect(1);
    assertTrue(result.err().contains("NoSuchOption"), result.err());
  }

  private static Attar.Result run(Path launcher, String... args) throws Exception {
    List<String> command = new ArrayList<>(List.of(launcher.toString()));
    command.addAll(List.of(args));
    // Whatever JVM the tests run on, the launcher finds its own.
    return Attar.await(new ProcessBuilder(command).start());
  }
}
