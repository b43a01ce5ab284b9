package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Tensor;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code quantize} with a calibration text, by either method. */
class GptqCommandTest {

  @TempDir
  private Path folder;

  @Test
  void fromACheckpointToAModelThatRuns() throws IOException {
    Path out = folder.resolve("out.gguf");
    Attar.Result result = gptq("-t", "Q4_0", "--effort", 1, "-o", out, "--json", "--verbose").expect(0);
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertEquals("gptq", json.get("method").textValue());
    assertEquals(Files.size(out), json.get("file_bytes").longValue());
    JsonNode gptq = json.get("gptq");
    assertTrue(gptq.get("error_ratio").doubleValue() < 1, json::toString);
    assertEquals(256, gptq.get("tokens").intValue());
    assertEquals(64, gptq.get("context").intValue());
    assertEquals(1, gptq.get("effort").intValue());
    assertEquals(0.01, gptq.get("damping").doubleValue());
    assertFalse(gptq.get("sequential").booleanValue());
    assertEquals(28, gptq.get("tensors").size());
    for (JsonNode tensor : gptq.get("tensors")) {
      assertEquals("Q4_0", tensor.get("type").textValue());
      assertTrue(tensor.get("error_ratio").doubleValue() < 1, tensor::toString);
    }
    String summary = "  GPTQ: error of the layers' outputs on the calibration text 0.";
    assertTrue(result.err().contains(summary), result.err());
    assertTrue(result.err().contains("(geometric mean of 28 tensors), static statistics, 256 tokens"), result.err());
    assertTrue(result.err().contains("\n  blk.0.attn_k.weight       Q4_0  "), result.err());
    assertEquals(List.of(out), files());

    String inspected = Attar.run("inspect", out).expect(0).out();
    for (String key : List.of("attar.method", "attar.gptq.tokens", "attar.gptq.texts", "quantize.imatrix.file")) {
      assertTrue(inspected.contains(key), inspected);
    }
    Attar.run("eval", out, "--text", TestModels.TEXT, "--chunks", 1, "--ctx", 64, "--no-latency").expect(0);
  }

  @Test
  void importanceMeasuredOnTheWayIsThatOfImatrix() throws IOException {
    Path matrix = folder.resolve("imatrix.gguf");
    List<Object> line = new ArrayList<>(List.of("imatrix", TestModels.SAMPLE, "-o", matrix, "--quiet"));
    line.addAll(TestModels.SHORT_CALIBRATION);
    Attar.run(line.toArray()).expect(0);
    Path expected = folder.resolve("expected.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "Q4_0", "--imatrix", matrix, "-o", expected, "--quiet").expect(0);
    Path out = folder.resolve("out.gguf");
    // No warning of the token embedding, for which nothing is ever measured.
    assertEquals(
      List.of(),
      texts(new ObjectMapper().readTree(quantize("-t", "Q4_0", "-o", out, "--json").expect(0).out()).get("warnings"))
    );
    try (GgufModel a = GgufModel.open(expected); GgufModel b = GgufModel.open(out)) {
      for (int i = 0; i < a.tensors().size(); i++) {
        assertSameValues(a.tensors().get(i), b.tensors().get(i));
      }
    }
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*quantize.imatrix.file +string +\"calibration.txt\".*"), inspected);
  }

  private static void assertSameValues(Tensor expected, Tensor actual) throws IOException {
    assertEquals(expected.info(), actual.info());
    int rows = (int) expected.info().rows();
    float[] values = new float[(int) expected.info().elements()];
    float[] others = new float[values.length];
    expected.decodeRows(0, rows, values, 0);
    actual.decodeRows(0, rows, others, 0);
    assertEquals(-1, Arrays.mismatch(values, others), expected.info().name());
  }

  @Test
  void dryRunSaysWhatGptqWillDo() throws IOException {
    // A type that requires importance, which is still to be measured, and that GPTQ does not do.
    Attar.Result result = gptq("-t", "Q4_K", "--tensor-type", "attn_q=IQ2_XS", "--dry-run", "--json").expect(0);
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertEquals(0, json.get("problems").size(), json::toString);
    for (JsonNode tensor : json.get("tensors")) {
      String name = tensor.get("name").textValue();
      boolean expected =
        name.contains("ffn_down") || name.contains("attn_output") || name.matches(".*(_k|_v|_gate|_up).weight");
      assertEquals(expected, tensor.get("gptq").booleanValue(), name);
    }
    assertFalse(json.has("gptq"));
    List<String> warnings = List.of("4 tensors are rounded to IQ2_XS, which GPTQ does not do");
    assertEquals(warnings, texts(json.get("warnings")));
    Attar.Result dry = gptq("-t", "Q4_K", "--dry-run").expect(0);
    assertEquals("", dry.err());
    String table = dry.out();
    assertTrue(table.matches("(?s).*  blk\\.0\\.attn_k\\.weight  .*  Q4_K +\\d+  GPTQ\n.*"), table);
    assertTrue(table.contains("Q4_K_M would take about 2.38 MB"), table);
    assertEquals(List.of(), files());
  }

  @Test
  void aRunWarnsOfWhatTheDryRunWarnsOf() throws IOException {
    Object[] line = { "-t", "Q4_0", "--tensor-type", "attn_q|gate=IQ4_XS", "--tensor-type", "attn_k=IQ3_S" };
    line = with(line, "--effort", 0, "--json", "-o", folder.resolve("out.gguf"));
    JsonNode planned = new ObjectMapper().readTree(gptq(with(line, "--dry-run")).expect(0).out());
    JsonNode written = new ObjectMapper().readTree(gptq(line).expect(0).out());
    List<String> warnings = texts(planned.get("warnings"));
    assertEquals(List.of("4 tensors are rounded to IQ3_S, which GPTQ does not do"), warnings);
    // Only the run itself knows how many tokens there are.
    assertEquals(warnings, texts(written.get("warnings")).subList(0, 1));
    assertEquals(2, written.get("warnings").size(), written::toString);
    assertTrue(written.get("warnings").get(1).textValue().startsWith("256 tokens are few"), written::toString);
  }

  /** What the user's matrix lacks is told, also with GPTQ. */
  @Test
  void theUsersMatrixHasNothingForTheTokenEmbedding() throws IOException {
    Path matrix = TestModels.SAMPLE.resolve("imatrix.gguf");
    Attar.Result result = gptq("-t", "Q4_0", "--imatrix", matrix, "--dry-run").expect(0);
    assertEquals("attar: warning: 1 tensor has no importance in the matrix: token_embd.weight\n", result.err());
  }

  @Test
  void whatCannotBeIsToldBeforeAnyWork() throws IOException {
    Path out = folder.resolve("out.gguf");
    Path text = Files.copy(TestModels.CALIBRATION, folder.resolve("text.txt"));
    List<Path> before = files();
    Path missing = folder.resolve("missing.txt");
    Object[] line = { "quantize", TestModels.SAMPLE, "--method", "gptq", "-t", "Q4_0", "--calibration" };
    assertEquals(missing + ": no such file", Attar.run(with(line, missing, "-o", out)).error(Main.FAILURE));
    String error = Attar.run(with(line, text, "-o", text, "--overwrite")).error(Main.FAILURE);
    assertEquals(text + ": is read by this command, give the output another name", error);
    error = Attar.run(with(line, text, "-o", text)).error(Main.FAILURE);
    assertEquals(text + ": already exists, use --overwrite to replace it", error);
    error = gptq("-t", "F16", "-o", out).error(Main.FAILURE);
    assertTrue(error.contains("GPTQ has nothing to do"), error);
    assertEquals(before, files());
  }

  @Test
  void aRunThatFailsAtOnceLeavesNothing() throws IOException {
    Path text = Files.writeString(folder.resolve("text.txt"), "Once upon a time.");
    Object[] line = { "quantize", TestModels.SAMPLE, "-t", "Q4_0", "--method", "gptq", "--calibration", text };
    String error = Attar.run(with(line, "--quiet", "-o", folder.resolve("out.gguf"))).error(Main.FAILURE);
    assertTrue(error.contains("expected at least 512, the length of a window"), error);
    assertEquals(List.of(text), files());
  }

  @Test
  void resumingWithoutAnythingToResumeIsTold() {
    Path out = folder.resolve("out.gguf");
    Attar.Result result = gptq("-t", "Q8_0", "--effort", 0, "--resume", "-o", out).expect(0);
    String warning = "attar: warning: " + out + ".work: no such folder, so there is nothing to resume: starting anew\n";
    assertTrue(result.err().startsWith(warning), result.err());
    assertTrue(Files.exists(out));
  }

  private static Attar.Result gptq(Object... words) {
    return quantize(with(new Object[] { "--method", "gptq", "--no-sequential" }, words));
  }

  private static Attar.Result quantize(Object... words) {
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(Arrays.asList(words));
    return Attar.run(line.toArray());
  }

  private static List<String> texts(JsonNode list) {
    List<String> texts = new ArrayList<>();
    list.forEach(text -> texts.add(text.textValue()));
    return texts;
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
