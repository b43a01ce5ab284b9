package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code distill} with the sample as teacher: all students are loaded in llama.cpp by it. */
class DistillCommandTest {

  private static final ObjectMapper MAPPER = new ObjectMapper();

  @TempDir
  private Path folder;

  /** Very short windows and few of them. */
  private static Object[] line(Object... more) {
    List<Object> line = new ArrayList<>(List.of("distill", "--teacher", TestModels.SAMPLE));
    line.addAll(List.of("--text", TestModels.CALIBRATION, "--tokens", 2048, "--ctx", 32, "--valid-windows", 4));
    line.addAll(List.of("--batch", 2, "--threads", 1));
    line.addAll(Arrays.asList(more));
    return line.toArray();
  }

  @Test
  void layersOfTheTeacherBecomeAFileThatRuns() throws IOException {
    Path out = folder.resolve("student.gguf");
    Path report = folder.resolve("report.html");
    Path metrics = folder.resolve("metrics.jsonl");
    Object[] options = {
      "--layers",
      "0,2",
      "--steps",
      6,
      "--reconstruct-steps",
      2,
      "--validate-every",
      3,
      "-t",
      "q8_0"
    };
    Attar.Result result = Attar.run(
      line(with(options, "-o", out, "--report", report, "--metrics", metrics, "--states", "auto", "--json"))
    ).expect(0);
    assertEquals(List.of(metrics, report, out), files());
    JsonNode json = MAPPER.readTree(result.out());
    assertEquals("layers 0, 2 of the teacher's 4", json.get("student").textValue());
    assertEquals(Files.size(out), json.get("file_bytes").longValue());
    assertEquals(6, json.get("steps").intValue());
    assertEquals(6 * 2 * 32, json.get("tokens").intValue());
    JsonNode held = json.get("held_out");
    double teacher = held.get("teacher").get("perplexity").doubleValue();
    double start = held.get("start").get("perplexity").doubleValue();
    double end = held.get("distillation").get("perplexity").doubleValue();
    assertTrue(teacher < start && end < start, json::toString);
    assertEquals((start - end) / (start - teacher), json.get("gap_closed").doubleValue(), 1e-9);
    double before = held.get("start").get("divergence").doubleValue();
    assertTrue(held.get("reconstruction").get("divergence").doubleValue() < before, json::toString);
    assertTrue(held.get("distillation").get("divergence").doubleValue() < before, json::toString);
    assertEquals(8 + 4, Files.readAllLines(metrics).size()); // at the start, after reconstruction, in the middle and at the end
    assertTrue(Files.readString(report).contains("student.gguf, taught by sample"));
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.distill\\.teacher +string +\"sample\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.distill\\.teacher_sha256 +string +\"[0-9a-f]{64}\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.distill\\.steps +uint32 +6\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*blk\\.1\\.ffn_down\\.weight +Q8_0 .*"), inspected);
    assertFalse(inspected.contains("blk.2."), inspected);
  }

  /** Fresh weights, taught through a cache; a process that is killed, and gone on with. */
  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "files of a process that was killed stay locked for a while")
  void aKilledTrainingGoesOn() throws Exception {
    Path config = folder.resolve("small").resolve("config.json");
    ObjectNode json = (ObjectNode) MAPPER.readTree(TestModels.SAMPLE.resolve("config.json").toFile());
    json.put("num_hidden_layers", 1).put("hidden_size", 64).put("intermediate_size", 128);
    json.put("num_attention_heads", 2).put("num_key_value_heads", 1).put("head_dim", 32);
    Files.createDirectories(config.getParent());
    MAPPER.writeValue(config.toFile(), json);
    Path out = folder.resolve("student");
    Path work = folder.resolve("student.work");
    Path metrics = folder.resolve("metrics.jsonl");
    Object[] options = { "--student", config, "--cache", folder.resolve("answers"), "--steps", 6, "-o", out };
    Object[] line = line(with(options, "--checkpoint-every", 3, "--metrics", metrics, "--quiet"));
    Process killed = new ProcessBuilder(Attar.childCommand(line)).start();
    Path written = work.resolve("training").resolve("metrics.jsonl");
    while (killed.isAlive() && !(Files.exists(written) && Files.readString(written).contains("\"step\":4,"))) {
      Thread.sleep(5);
    }
    killed.toHandle().destroyForcibly();
    assertEquals(137, Attar.await(killed).code());
    String left = work + ": left by an interrupted run; --resume goes on with it, --overwrite starts anew";
    assertEquals(left, Attar.run(line).error(Main.FAILURE));
    String other = Attar.run(with(line, "--resume", "--learning-rate", 0.1)).error(Main.FAILURE);
    assertTrue(other.contains("the training there has rate 0.001, this one has 0.1"), other);
    Attar.run(with(line, "--resume")).expect(0);
    assertFalse(Files.exists(work));
    assertTrue(Files.exists(out.resolve("model.safetensors")) && Files.exists(out.resolve("tokenizer.model")));
    List<Integer> steps = new ArrayList<>();
    for (String measured : Files.readAllLines(metrics)) {
      JsonNode one = MAPPER.readTree(measured);
      if (one.get("kind").textValue().equals("step")) {
        steps.add(one.get("step").intValue());
      }
    }
    assertEquals(List.of(1, 2, 3, 4, 5, 6), steps);
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "                               | no teacher given, expected --teacher MODEL",
      "--teacher t                    | no student given, expected --layers 0,2,… or --keep-layers N of the teacher, or --student MODEL or config.json",
      "--teacher t --layers 1 --student s --keep-layers 2 | --student, --layers and --keep-layers exclude each other",
      "--teacher t --layers 1,1       | '--layers': found 1 at 2, expected ascending numbers from 0",
      "--teacher t --keep-layers 0    | '--keep-layers': 0, expected 1 or more",
      "--teacher t --layers 1         | no text given, expected --text TEXT to train on",
      "--teacher t --layers 1 --text x | no output given, expected -o OUT.gguf or -o FOLDER",
      "--teacher t --layers 1 --text x -o f -t q8_0 | --type is for a GGUF file, f is a Hugging Face folder",
      "--teacher t --layers 1 --text x -o f --pure | --pure needs --type",
      "--teacher t --layers 1 --text x -o f.gguf -t copy | --type copy is for tensors that stay as they are",
      "--teacher t --layers 1 --text x -o f.gguf -t iq2_xs | --type iq2_xs needs an importance matrix: distill first",
      "--teacher t --layers 1 --loss ce | 'ce'",
      "--teacher t --layers 1 --beta 0.5 | --beta needs --loss js",
      "--teacher t --layers 1 --loss js --beta 1 | '--beta': 1.0, expected above 0 and below 1",
      "--teacher t --layers 1 --temperature 0 | '--temperature': 0.0, expected 0.01 to 1000",
      "--teacher t --layers 1 --loss none --top-k 3 --cache c | --top-k, --cache need --loss kl, reverse-kl or js",
      "--teacher t --layers 1 --loss none --ce-weight 0 | all weights of losses are 0, there is nothing to learn",
      "--teacher t --layers 1 --states-loss mse | --states-loss needs --states",
      "--teacher t --layers 1 --states 0:1,2 | '--states': '2' is no pair STUDENT:TEACHER, expected 0:1,1:3, auto or none",
      "--teacher t --layers 1 --text x --steps 3 --epochs 2 | --steps and --epochs exclude each other",
      "--teacher t --layers 1 --text x --epochs 0 | '--epochs': 0.0, expected above 0",
      "--teacher t --layers 1 --text x --max-time 30 | '30' is no time, expected a form of 90s, 30m or 1h30m",
      "--teacher t --layers 1 --text x --batch 6 --micro-batch 4 | '--micro-batch': 4, expected a divisor of --batch 6",
      "--teacher t --layers 1 --text x --learning-rate 0 | '--learning-rate': 0.0, expected above 0",
      "--teacher t --layers 1 --text x --min-rate 2 | '--min-rate': 2.0, expected 0 to 1"
    }
  )
  void usage(String words, String message) {
    Stream<Object> all = Stream.of("distill");
    Object[] line = Stream.concat(all, words == null ? Stream.of() : Stream.of(words.split(" "))).toArray();
    String error = Attar.run(line).error(Main.USAGE);
    assertTrue(error.contains(message), error);
    assertTrue(error.endsWith(" (try 'attar distill --help')"), error);
  }

  /** What can be known is told before a model is run. */
  @Test
  void whatCannotBeIsToldAtOnce() throws IOException {
    Path out = folder.resolve("out.gguf");
    assertProblem(": found layer 4 in --layers, expected 0 to 3", "--layers", "0,4", "-o", out);
    assertProblem(": found --keep-layers 4, expected fewer than the 4 that it has", "--keep-layers", 4, "-o", out);
    assertProblem(": found block 2 in --states, expected -1 to 1", "--layers", "0,2", "--states", "2:3", "-o", out);
    assertProblem("training needs ", "--layers", "0,2", "--max-memory", "1M", "-o", out);
    Path gguf = TestModels.small(folder.resolve("small.gguf"));
    assertProblem(
      "small.gguf: tokenizer.ggml.tokens: found nothing, expected a vocabulary",
      "--student",
      gguf,
      "-o",
      out
    );
    assertEquals(List.of(gguf), files());
    Path teacher = folder.resolve("teacher.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", teacher).expect(0);
    Object[] toFolder = { "distill", "--teacher", teacher, "--layers", "0,2", "--text", TestModels.TEXT, "-o", folder };
    String made = "a Hugging Face folder is made of a Hugging Face model only, " + teacher + " is a GGUF file";
    assertTrue(Attar.run(toFolder).error(Main.USAGE).startsWith(made));
    Files.delete(teacher);
    String error = Attar.run(line("--layers", "0,2", "-o", TestModels.CALIBRATION, "--overwrite")).error(Main.FAILURE);
    assertTrue(error.contains("calibration.txt"), error);
    JsonNode json = MAPPER.readTree(
      Attar.run(line("--layers", "0,2", "-o", out, "--dry-run", "--json")).expect(0).out()
    );
    assertTrue(json.get("memory_bytes").longValue() > 1 << 20, json::toString);
    assertEquals(List.of(gguf), files());
  }

  private static void assertProblem(String problem, Object... options) {
    String error = Attar.run(line(options)).error(Main.FAILURE);
    assertTrue(error.contains(problem), error);
  }

  private static Object[] with(Object[] line, Object... more) {
    return Stream.concat(Arrays.stream(line), Arrays.stream(more)).toArray();
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
