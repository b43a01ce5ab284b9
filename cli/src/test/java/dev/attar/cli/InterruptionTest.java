package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A run that cannot finish leaves nothing behind. */
@DisabledOnOs(value = OS.WINDOWS, disabledReason = "there are no signals and no limits on file sizes")
class InterruptionTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource({ "INT, 130", "TERM, 143" })
  void signalInTheMiddle(String signal, int code) throws Exception {
    Path model = TestModels.sparse(folder.resolve("model.gguf"), 4096, 400_000);
    Path output = Files.createDirectory(folder.resolve("output"));
    Process process = new ProcessBuilder(
      Attar.childCommand("quantize", model, "-t", "q4_k_s", "--quiet", "--threads", 1, "-o", output.resolve("out.gguf"))
    ).start();
    while (process.isAlive() && files(output).isEmpty()) {
      Thread.sleep(10);
    }
    new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).start().waitFor();
    Attar.Result result = Attar.await(process);
    assertEquals(code, result.code(), result.err());
    assertEquals("attar: interrupted\n", result.err());
    assertEquals("", result.out());
    assertEquals(List.of(), files(output));
  }

  /** Also the worker ends, and the models that were made are gone. */
  @ParameterizedTest
  @CsvSource({ "INT, 130", "TERM, 143" })
  void signalWhileMeasuring(String signal, int code) throws Exception {
    Path temporary = Files.createDirectory(folder.resolve("temporary"));
    ProcessBuilder builder = new ProcessBuilder(
      Attar.childCommand("eval", TestModels.SAMPLE, "--quiet", "--pp", 0, "--tg", 20_000, "--threads", 1)
    );
    builder.environment().put("ATTAR_TMP", temporary.toString());
    Process process = builder.start();
    List<ProcessHandle> workers = List.of();
    while (process.isAlive() && workers.isEmpty()) {
      Thread.sleep(10);
      workers = process.descendants().toList();
    }
    assertEquals(1, files(temporary).size());
    Thread.sleep(500);
    new ProcessBuilder("kill", "-" + signal, Long.toString(process.pid())).start().waitFor();
    Attar.Result result = Attar.await(process);
    assertEquals(code, result.code(), result.err());
    assertEquals("attar: interrupted\n", result.err());
    assertEquals("", result.out());
    assertEquals(List.of(), files(temporary));
    for (ProcessHandle worker : workers) {
      worker.onExit().get(10, TimeUnit.SECONDS);
    }
  }

  @Test
  void aDiskThatFillsUp() throws Exception {
    Path model = TestModels.sparse(folder.resolve("model.gguf"), 4096, 4096);
    Path output = Files.createDirectory(folder.resolve("output"));
    Path out = output.resolve("out.gguf");
    // No file may grow beyond 1 MB; to a program that is a disk without room.
    List<String> command = new ArrayList<>(List.of("bash", "-c", "ulimit -f 1000 && exec \"$@\"", "bash"));
    command.addAll(Attar.childCommand("quantize", model, "-t", "q8_0", "--quiet", "-o", out));
    String error = Attar.await(new ProcessBuilder(command).start()).error(Main.FAILURE);
    assertTrue(error.startsWith(out + ": cannot be written: "), error);
    assertEquals(List.of(), files(output));
  }

  @Test
  @EnabledOnOs(value = OS.LINUX, disabledReason = "there is no /dev/full")
  void standardOutputThatIsFull() throws Exception {
    Process process = new ProcessBuilder(Attar.childCommand("inspect", TestModels.small(folder.resolve("model.gguf"))))
      .redirectOutput(new File("/dev/full"))
      .start();
    assertEquals("standard output: no space left on device", Attar.await(process).error(Main.FAILURE));
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
