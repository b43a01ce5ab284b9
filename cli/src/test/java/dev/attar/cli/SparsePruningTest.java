package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code prune --method} on the sample: 28 matrices in 4 layers. All results are loaded in llama.cpp by it. */
class SparsePruningTest {

  private static final int WEIGHTS = 2_359_296;

  @TempDir
  private Path folder;

  private static Attar.Result prune(Path model, List<Object> text, Object... words) {
    List<Object> line = new ArrayList<>(List.of("prune", model));
    line.addAll(text);
    line.addAll(Arrays.asList(words));
    return Attar.run(line.toArray());
  }

  private static Attar.Result prune(Object... words) {
    return prune(TestModels.SAMPLE, TestModels.SHORT_CALIBRATION, words);
  }

  private static JsonNode json(Attar.Result result) throws IOException {
    return new ObjectMapper().readTree(result.out());
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }

  private static Map<String, float[]> values(Path file) throws IOException {
    Map<String, float[]> values = new HashMap<>();
    try (Model model = Models.open(file)) {
      for (Tensor tensor : model.tensors()) {
        TensorInfo info = tensor.info();
        float[] of = new float[(int) info.elements()];
        tensor.decodeRows(0, (int) info.rows(), of, 0);
        values.put(info.name(), of);
      }
    }
    return values;
  }

  /** Counts the groups of so many weights that do not have half of them zero; of all matrices in layers. */
  private static int uneven(Map<String, float[]> values, int of) {
    int uneven = 0;
    for (Map.Entry<String, float[]> tensor : values.entrySet()) {
      float[] x = tensor.getValue();
      for (int first = 0; tensor.getKey().startsWith("blk.") && x.length > 512 && first < x.length; first += of) {
        int zeros = 0;
        for (int i = first; i < first + of; i++) {
          zeros += x[i] == 0 ? 1 : 0;
        }
        uneven += zeros < of / 2 ? 1 : 0;
      }
    }
    return uneven;
  }

  @ParameterizedTest
  @CsvSource({ "magnitude", "wanda", "sparsegpt" })
  void aPatternIsKeptAndAFolderHoldsTheSame(String method) throws IOException {
    List<Object> text = new ArrayList<>(method.equals("magnitude") ? List.of() : TestModels.SHORT_CALIBRATION);
    if (method.equals("sparsegpt")) {
      text.add("--no-sequential");
    }
    Path file = folder.resolve("out.gguf");
    Object[] options = { "--method", method, "--sparsity", "2:4", "--json", "-o", file };
    Attar.Result result = prune(TestModels.SAMPLE, text, options).expect(0);
    assertEquals(List.of(file), files());
    JsonNode written = json(result);
    assertEquals(WEIGHTS, written.get("removed").get("of").intValue());
    assertEquals(0.5, written.get("removed").get("ratio").doubleValue(), 0.002);
    assertEquals(28, written.get("removed").get("matrices").intValue());
    assertEquals(SparseReport.NO_GAIN, written.get("gain").textValue());
    assertTrue(result.err().contains(SparseReport.NO_GAIN), result.err());
    long compressed = written.get("compressed_bytes").longValue();
    assertTrue(compressed < 0.85 * written.get("compressed_bytes_before").longValue(), written::toString);
    Map<String, float[]> values = values(file);
    assertEquals(0, uneven(values, 4));
    String inspected = Attar.run("inspect", file).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.method +string +\"prune\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.method +string +\"" + method + "\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.sparsity +string +\"2:4\".*"), inspected);
    // The report of attar bench shows what a file says of how it was made.
    assertTrue(inspected.contains("ggml has no sparse kernels"), inspected);
    assertFalse(inspected.contains("attar.quantize.type"), inspected);

    Path student = folder.resolve("student");
    Attar.Result ofFolder = prune(TestModels.SAMPLE, text, "--method", method, "--sparsity", "2:4", "-o", student);
    assertTrue(ofFolder.expect(0).out().contains("\n  " + SparseReport.NO_GAIN), ofFolder.out());
    assertEquals(List.of(file, student), files());
    Map<String, float[]> ofStudent = values(student);
    assertEquals(values.keySet(), ofStudent.keySet());
    values.forEach((name, x) -> assertArrayEquals(x, ofStudent.get(name), name));
  }

  @Test
  void zerosStayZeroInTheTypesOfAMixture() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] options = { "--method", "sparsegpt", "--sparsity", "4:8", "-t", "Q4_K", "--no-sequential" };
    Attar.Result result = prune(Stream.concat(Arrays.stream(options), Stream.of("-o", out, "--json")).toArray());
    JsonNode json = json(result.expect(0));
    assertTrue(json.get("types").has("Q4_K") && json.get("types").has("Q6_K"), json::toString);
    assertTrue(json.get("gptq").get("error_ratio").doubleValue() < 0.9, json::toString);
    assertEquals(0, uneven(values(out), 8));
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.method +string +\"gptq\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.method +string +\"sparsegpt\".*"), inspected);

    Path again = folder.resolve("again.gguf");
    json = json(prune(out, List.of(), "--method", "magnitude", "--sparsity", "0.75", "-o", again, "--json").expect(0));
    assertTrue(json.get("warnings").toString().contains("the model is quantized already"), json::toString);
    assertTrue(json.get("types").has("F16") && !json.get("types").has("Q4_K"), json::toString);
    assertEquals(0.75, json.get("removed").get("ratio").doubleValue(), 0.001);
  }

  @Test
  void whatCannotBeIsToldAndLeavesNothing() throws IOException {
    Path out = folder.resolve("out.gguf");
    String error = prune("--method", "wanda", "--sparsity", "0.5", "-t", "IQ4_XS", "-o", out).error(Main.FAILURE);
    assertTrue(error.endsWith(": pruned weights cannot be kept at 0 in IQ4_XS"), error);
    error = prune("--method", "wanda", "--sparsity", "0.0001", "-o", out).error(Main.FAILURE);
    assertTrue(error.contains("blk.0.attn_"), error);
    assertTrue(error.endsWith("weights is less than one"), error);
    error = prune("--method", "sparsegpt", "--sparsity", "0.5", "-o", folder.resolve("student"), "--resume").error(
      Main.USAGE
    );
    assertTrue(error.contains("--resume is for a GGUF file"), error);
    assertEquals(List.of(), files());
  }
}
