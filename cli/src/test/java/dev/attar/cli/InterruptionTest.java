package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
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

  /** Killed, then told to end, then left alone: the result is that of a run that nothing interrupts. */
  @Test
  void gptqGoesOnWithWhatWasDone() throws Exception {
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE, "-t", "Q4_0", "--method", "gptq"));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(TestModels.DOWN_ONLY);
    line.addAll(List.of("--effort", 0, "--sequential", "--quiet"));
    Path expected = folder.resolve("expected.gguf");
    Attar.run(with(line, "-o", expected)).expect(0);
    Path out = folder.resolve("out.gguf");
    Path work = folder.resolve("out.gguf.work");
    line.addAll(List.of("-o", out));

    Process killed = new ProcessBuilder(Attar.childCommand(line.toArray())).start();
    waitForTensors(killed, work, 1);
    killed.toHandle().destroyForcibly();
    assertEquals(137, Attar.await(killed).code());
    String left = work + ": left by an interrupted run; --resume goes on with it, --overwrite starts anew";
    assertEquals(left, Attar.run(line.toArray()).error(Main.FAILURE));
    String other = Attar.run(with(line, "--resume", "--damping", 0.02)).error(Main.FAILURE);
    assertTrue(other.contains("the interrupted run had damping 0.01, this one has 0.02"), other);

    line.add("--resume");
    Process told = new ProcessBuilder(Attar.childCommand(line.toArray())).start();
    waitForTensors(told, work, tensors(work) + 1);
    new ProcessBuilder("kill", "-INT", Long.toString(told.pid())).start().waitFor();
    Attar.Result result = Attar.await(told);
    assertEquals(130, result.code(), result.err());
    assertEquals(
      "attar: interrupted; what was done is kept in " + work + ": --resume goes on with it, --overwrite starts anew\n",
      result.err()
    );
    Attar.run(line.toArray()).expect(0);
    assertEquals(-1, Files.mismatch(expected, out));
    assertEquals(List.of(expected, out), files(folder));
  }

  /** The types that a run has chosen are those that it goes on with. */
  @Test
  void typesAreChosenOnce() throws Exception {
    Path out = folder.resolve("out.gguf");
    Path types = folder.resolve("out.gguf.work").resolve("types");
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE, "--method", "gptq", "-o", out));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(TestModels.DOWN_ONLY);
    line.addAll(List.of("--target-bpw", 14.2, "--effort", 0, "--sequential", "--quiet"));
    Process killed = new ProcessBuilder(Attar.childCommand(line.toArray())).start();
    while (killed.isAlive() && Files.notExists(types)) {
      Thread.sleep(10);
    }
    killed.toHandle().destroyForcibly();
    assertEquals(137, Attar.await(killed).code());
    // Others than it would choose again.
    String chosen = Files.readString(types);
    String others = chosen.replaceAll("\\w+ blk\\.(\\d)\\.ffn_down", "Q5_0 blk.$1.ffn_down");
    assertNotEquals(chosen, others);
    line.add("--resume");
    Files.writeString(types, "Q9");
    String error = Attar.run(line.toArray()).error(Main.FAILURE);
    assertTrue(error.startsWith(types + ": damaged"), error);
    Files.writeString(types, others.replaceFirst(" .*", " 0.125"));
    JsonNode json = new ObjectMapper().readTree(Attar.run(with(line, "--json")).expect(0).out());
    assertEquals(0.125, json.get("target").get("predicted_kl_divergence").doubleValue());
    assertEquals(4, json.get("gptq").get("tensors").size());
    json
      .get("gptq")
      .get("tensors")
      .forEach(t -> assertEquals("Q5_0", t.get("type").textValue()));
    assertEquals(List.of(out), files(folder));
  }

  private static void waitForTensors(Process process, Path work, long count) throws Exception {
    while (process.isAlive() && tensors(work) < count) {
      Thread.sleep(10);
    }
  }

  /** How many tensors a run of GPTQ has finished. */
  private static long tensors(Path work) throws IOException {
    Path folder = work.resolve("tensors");
    return Files.notExists(folder)
      ? 0
      : files(folder)
          .stream()
          .filter(file -> file.toString().endsWith(".weight"))
          .count();
  }

  private static Object[] with(List<Object> line, Object... more) {
    List<Object> all = new ArrayList<>(line);
    all.addAll(List.of(more));
    return all.toArray();
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
