package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code quantize} to a size. */
class TargetCommandTest {

  @TempDir
  private Path folder;

  @Test
  void roundsToASizeThatRuns() throws IOException {
    Path out = folder.resolve("out.gguf");
    Attar.Result result = quantize("--target-bpw", 4.5, "--method", "rtn", "-o", out, "--json").expect(0);
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertEquals("4.5bpw", json.get("type").textValue());
    assertEquals("rtn", json.get("method").textValue());
    assertEquals(Files.size(out), json.get("file_bytes").longValue());
    double bits = json.get("bits_per_weight").doubleValue();
    // What is left is less than the smallest step.
    assertTrue(bits <= 4.5 && bits > 4.48, json::toString);
    assertEquals(4.5, json.get("target").get("bits_per_weight").doubleValue());
    double predicted = json.get("target").get("predicted_kl_divergence").doubleValue();
    assertTrue(predicted > 0 && predicted < 1, json::toString);
    assertTrue(json.get("types").size() > 3, json::toString);
    assertTrue(result.err().contains("\n  predicted mean KL divergence: 0.0"), result.err());
    assertEquals(List.of(out), files());

    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.method +string +\"rtn\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.quantize\\.target_bpw +float32 +4\\.5.*"), inspected);
    assertFalse(inspected.contains("attar.gptq"), inspected);
    Attar.run("eval", out, "--text", TestModels.TEXT, "--chunks", 1, "--ctx", 64, "--no-latency").expect(0);
  }

  @Test
  void dryRunTellsWhatGptqIsGoingToDo() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] line = with(
      TestModels.DOWN_ONLY.toArray(),
      "--target-size",
      "5.9M",
      "--method",
      "gptq",
      "--effort",
      0,
      "--no-sequential",
      "-o",
      out,
      "--json"
    );
    JsonNode planned = new ObjectMapper().readTree(quantize(with(line, "--dry-run")).expect(0).out());
    assertEquals(List.of(), files());
    JsonNode target = planned.get("target");
    double sum = 0;
    Map<String, String> chosen = new TreeMap<>();
    for (JsonNode choice : target.get("choices")) {
      String name = choice.get("name").textValue();
      double loss = choice.get("kl_divergence").doubleValue();
      boolean isDown = name.contains("ffn_down");
      assertEquals(!isDown, choice.get("given").booleanValue(), name);
      assertEquals(isDown, loss > 0, choice::toString);
      assertEquals(isDown, choice.get("relative_error").doubleValue() > 0, choice::toString);
      chosen.put(name, choice.get("type").textValue());
      sum += loss;
    }
    assertEquals(29, chosen.size());
    double predicted = target.get("predicted_kl_divergence").doubleValue();
    assertEquals(predicted, sum, 1e-9 * sum);

    Attar.Result result = quantize(line).expect(0);
    JsonNode written = new ObjectMapper().readTree(result.out());
    assertEquals(predicted, written.get("target").get("predicted_kl_divergence").doubleValue());
    assertFalse(written.get("target").has("choices"));
    assertTrue(written.get("gptq").get("error_ratio").doubleValue() < 1, written::toString);
    assertTrue(result.err().contains("\n  predicted mean KL divergence: 0.0"), result.err());
    // All that is in the file counts, also what GPTQ says of itself.
    long limit = target.get("file_bytes").longValue();
    assertEquals((long) (5.9 * (1 << 20)), limit);
    assertTrue(Files.size(out) <= limit && Files.size(out) > limit - 20_000, Files.size(out) + " of " + limit);
    try (GgufModel model = GgufModel.open(out)) {
      model
        .tensors()
        .forEach(t ->
          assertEquals(chosen.getOrDefault(t.info().name(), "F32"), t.info().type().toString(), t.info().name())
        );
    }
  }

  @Test
  void aSizeThatNeedsNoChoiceIsNotMeasured() throws IOException {
    Path out = folder.resolve("out.gguf");
    String warning = "all tensors fit the target of 17 bits per weight as they are, or in the types given";
    // So little memory that nothing could be measured.
    Object[] line = { "--target-bpw", 17, "--method", "gptq", "--max-memory", "1M", "-o", out, "--json" };
    JsonNode planned = new ObjectMapper().readTree(quantize(with(line, "--dry-run")).expect(0).out());
    assertEquals(29, planned.get("target").get("choices").size());
    for (JsonNode choice : planned.get("target").get("choices")) {
      assertEquals("BF16", choice.get("type").textValue());
      assertEquals(0, choice.get("relative_error").doubleValue());
    }
    Attar.Result result = quantize(line).expect(0);
    JsonNode written = new ObjectMapper().readTree(result.out());
    assertEquals(1, written.get("warnings").size(), written::toString);
    assertTrue(written.get("warnings").get(0).textValue().startsWith(warning), written::toString);
    assertEquals(planned.get("file_bytes"), written.get("file_bytes"));
    assertFalse(written.has("gptq"));
    assertEquals(List.of(out), files());
  }

  /** What the user names is quantized as always, with the importance that is measured for it. */
  @Test
  void givenTypesNeedNoChoiceEither() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] line = { "--target-bpw", 17, "--method", "gptq", "--effort", 0, "--tensor-type", "ffn_down=q4_0" };
    JsonNode json = new ObjectMapper().readTree(quantize(with(line, "--json", "-o", out)).expect(0).out());
    assertEquals(4, json.get("gptq").get("tensors").size());
    assertEquals(4, json.get("types").get("Q4_0").get("tensors").intValue(), json::toString);
    String warnings = json.get("warnings").toString();
    assertTrue(warnings.contains("nothing is measured to choose types"), warnings);
    assertFalse(json.get("target").has("predicted_kl_divergence"));
    JsonNode planned = new ObjectMapper().readTree(quantize(with(line, "--json", "--dry-run")).expect(0).out());
    for (JsonNode choice : planned.get("target").get("choices")) {
      assertEquals(!choice.get("given").booleanValue(), choice.has("relative_error"), choice::toString);
    }
  }

  @Test
  void aSizeIsCalledAsTheUserTypedIt() throws IOException, InterruptedException {
    for (String name : List.of("7.3M", "1.2g", "8000000")) {
      Attar.Result planned = quantize("--target-size", name, "--dry-run").expect(0);
      assertTrue(planned.out().contains("\n" + name + " would take "), planned.out());
    }
    String planned = quantize("--target-bpw", "17.50", "--dry-run").expect(0).out();
    assertTrue(planned.contains("\n17.5bpw would take "), planned);
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE.toRealPath(), "--target-size", "7.3M"));
    line.addAll(List.of("--calibration", TestModels.CALIBRATION.toRealPath(), "--quiet"));
    ProcessBuilder child = new ProcessBuilder(Attar.childCommand(line.toArray())).directory(folder.toFile());
    Attar.await(child.start()).expect(0);
    assertEquals(List.of(folder.resolve("sample-7.3m.gguf")), files());
    String inspected = Attar.run("inspect", files().getFirst()).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.quantize\\.target_size +uint64 +7654604\n.*"), inspected);
  }

  @Test
  void whatCannotBecomeSoSmallIsToldAtOnce() throws IOException {
    Path out = folder.resolve("out.gguf");
    String error = quantize("--target-bpw", 2, "-o", out).error(Main.FAILURE);
    assertTrue(
      error.matches(".*: cannot become smaller than 2\\.\\d+ bits per weight, the target is 2 bits .*"),
      error
    );
    error = quantize("--target-bpw", 1, "-o", out).error(Main.FAILURE);
    assertTrue(error.endsWith(", the target is 1 bit per weight"), error);
    error = quantize("--target-size", "1M", "--dry-run").error(Main.FAILURE);
    assertTrue(error.matches(".*: cannot become smaller than \\d+ bytes, the target is 1048576 bytes"), error);
    Files.writeString(out, "precious");
    error = quantize("--target-bpw", 4.5, "-o", out).error(Main.FAILURE);
    assertEquals(out + ": already exists, use --overwrite to replace it", error);
    Files.delete(out);
    error = quantize("--target-bpw", 4.5, "--max-memory", "500M", "--quiet", "-o", out).error(Main.FAILURE);
    assertTrue(error.startsWith("choosing types for rows of 512 needs 9"), error);
    assertTrue(error.contains(" MiB of memory, --max-memory allows 500 MiB"), error);
  }

  private static Attar.Result quantize(Object... words) {
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(Arrays.asList(words));
    return Attar.run(line.toArray());
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
