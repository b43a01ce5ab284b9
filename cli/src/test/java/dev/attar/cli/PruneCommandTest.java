package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
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
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** {@code prune --structure} on the sample: 4 layers of 512 neurons and 4 groups of heads. All results are loaded in llama.cpp by it. */
class PruneCommandTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource({ "ffn, 0.5, 256, 512, 256, 4, 4", "heads, 0.25, 1, 4, 512, 3, 4", "layers, 0.25, 1, 4, 512, 4, 3" })
  void aFileAndAFolderHoldTheSame(
    String structure,
    double ratio,
    int units,
    int of,
    int neurons,
    int groups,
    int layers
  ) throws IOException {
    Path file = folder.resolve("out.gguf");
    Path student = folder.resolve("student");
    Object[] options = { "--structure", structure, "--ratio", ratio, "--json" };
    JsonNode planned = json(prune(with(options, "-o", file, "--dry-run")).expect(0));
    assertEquals(List.of(), files());
    assertFalse(planned.has("output") || planned.has("layers"), planned::toString);

    Attar.Result result = prune(with(options, "-o", file)).expect(0);
    JsonNode written = json(result);
    assertEquals(List.of(file), files());
    assertEquals("gguf", written.get("format").textValue());
    assertEquals(Files.size(file), written.get("file_bytes").longValue());
    assertEquals(structure, written.get("structure").textValue());
    assertEquals(ratio, written.get("asked").get("ratio").doubleValue());
    assertEquals(units, written.get("removed").get("units").intValue());
    assertEquals(of, written.get("removed").get("of").intValue());
    assertEquals(ratio, written.get("removed").get("ratio").doubleValue());
    assertTrue(written.get("predicted_speed").get("prompt").doubleValue() > 1, written::toString);
    assertTrue(written.get("predicted_speed").get("generation").doubleValue() > 1, written::toString);
    assertEquals(4, written.get("layers").size());
    int left = 0;
    for (JsonNode layer : written.get("layers")) {
      if (layer.get("neurons").intValue() > 0) {
        assertEquals(neurons, layer.get("neurons").intValue(), layer::toString);
        assertEquals(groups, layer.get("head_groups").intValue(), layer::toString);
        left++;
      }
    }
    assertEquals(layers, left);
    // What is said beforehand is what comes.
    for (String key : List.of("asked", "removed", "parameters", "bytes", "file_bytes", "types", "predicted_speed")) {
      assertEquals(planned.get(key), written.get(key), key);
    }
    assertTrue(result.err().contains("out.gguf: "), result.err());
    assertTrue(result.err().contains("\n  removed " + units + " of " + of + " "), result.err());
    assertTrue(result.err().contains("as asked for)"), result.err());

    if (structure.equals("layers")) {
      return; // to measure the layers again takes long, and their numbers in a folder are HuggingFaceWriter's
    }
    JsonNode ofFolder = json(prune(with(options, "-o", student)).expect(0));
    assertEquals("huggingface", ofFolder.get("format").textValue());
    assertEquals(List.of(file, student), files());
    try (Model gguf = Models.open(file); Model checkpoint = Models.open(student)) {
      assertEquals(infos(gguf), infos(checkpoint));
      Map<String, Tensor> others = byName(checkpoint);
      for (Tensor tensor : gguf.tensors()) {
        String name = tensor.info().name();
        assertArrayEquals(bytes(tensor), bytes(others.get(name)), name);
      }
      assertEquals(architecture(gguf.metadata()), architecture(checkpoint.metadata()));
    }
  }

  @Test
  void layersMayDiffer() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] options = { "--structure", "heads", "--ratio", 0.25, "--non-uniform", "--verbose", "--json" };
    Attar.Result result = prune(with(options, "-o", out)).expect(0);
    assertTrue(result.err().contains("\n  removed 4 of 16 groups of heads of all layers, layers keep "), result.err());
    assertTrue(result.err().contains("\n  layers differ in width: KL divergence "), result.err());
    assertTrue(result.err().contains("\n  layer "), result.err());
    JsonNode json = json(result);
    JsonNode widths = json.get("widths");
    assertTrue(widths.get("differ").booleanValue(), json::toString);
    assertTrue(widths.get("kl_divergence").doubleValue() < widths.get("kl_divergence_even").doubleValue());
    int groups = 0;
    for (JsonNode layer : json.get("layers")) {
      groups += layer.get("head_groups").intValue();
      assertTrue(layer.get("refit_error").doubleValue() <= layer.get("error").doubleValue(), layer::toString);
    }
    assertEquals(12, groups);
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*general\\.architecture +string +\"deci\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.structure +string +\"heads\".*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.removed +uint32 +4\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.refit +bool +true\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.non_uniform +bool +true\n.*"), inspected);
  }

  @Test
  void aSizeIsMetByAsLittleAsPossible() throws IOException {
    Object[] options = { "--structure", "ffn", "--multiple-of", 32, "--dry-run", "--json" };
    JsonNode json = json(prune(with(options, "--target-size", "5.5M")).expect(0));
    long limit = (long) (5.5 * (1 << 20));
    assertEquals(limit, json.get("asked").get("file_bytes").longValue());
    // A step is 32 neurons of 4 layers, each with three rows or columns of 256 values of 2 bytes.
    long step = 32 * 4 * 3 * 256 * 2;
    long bytes = json.get("file_bytes").longValue();
    assertTrue(bytes <= limit && bytes > limit - step, bytes + " of " + limit);
    String error = prune(with(options, "--target-size", "1M")).error(Main.FAILURE);
    assertTrue(error.contains(": cannot become smaller than "), error);
    assertTrue(error.endsWith(" bytes by --structure ffn, the target is 1048576 bytes"), error);
    error = prune(with(options, "--target-size", "1G")).error(Main.FAILURE);
    assertTrue(error.contains(": fits without pruning: it takes "), error);
    assertEquals(List.of(), files());
  }

  /** Whether a machine keeps it cannot be tested, that it is measured can. */
  @Test
  void aSpeedIsMeasured() throws IOException {
    Path out = folder.resolve("out.gguf");
    // There is but one step, so that there is but one try.
    Object[] options = { "--structure", "ffn", "--no-refit", "--target-speed", "1.2x", "-o", out, "--json" };
    JsonNode json = json(prune(options).expect(0));
    assertEquals(1.2, json.get("asked").get("generation_speed").doubleValue());
    for (JsonNode layer : json.get("layers")) {
      assertTrue(layer.has("error") && !layer.has("refit_error"), layer::toString);
    }
    JsonNode generation = json.get("measured_speed").get("generation");
    assertTrue(generation.get("low").doubleValue() <= generation.get("mean").doubleValue(), json::toString);
    assertTrue(generation.get("high").doubleValue() >= generation.get("mean").doubleValue(), json::toString);
    assertTrue(json.get("predicted_speed").get("generation").doubleValue() >= 1.2, json::toString);
    boolean missed = json
      .get("warnings")
      .toString()
      .contains("the target of 1.2 times the speed of generation is missed");
    assertEquals(generation.get("median").doubleValue() < 1.2, missed, json::toString);
    String error = prune("--structure", "ffn", "--target-speed", "9", "--dry-run").error(Main.FAILURE);
    assertTrue(error.endsWith(" times by --structure ffn, the target is 9"), error);
  }

  @Test
  void whatIsQuantizedIsReadBack() throws IOException {
    Path quantized = folder.resolve("q8_0.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", quantized).expect(0);
    Path out = folder.resolve("out.gguf");
    JsonNode json = json(pruneModel(quantized, "--structure", "ffn", "--ratio", 0.5, "-o", out, "--json").expect(0));
    assertTrue(json.get("warnings").toString().contains("the model is quantized already"), json::toString);
    assertEquals(4, json.get("types").get("F16").get("tensors").intValue(), json::toString);
    assertEquals(25, json.get("types").get("Q8_0").get("tensors").intValue(), json::toString);
    Object[] options = { "--structure", "layers", "--ratio", 0.5, "--dry-run", "--json" };
    json = json(pruneModel(quantized, options).expect(0));
    assertEquals(0, json.get("warnings").size(), json::toString);
    assertFalse(json.get("types").has("F16"), json::toString);
    json = json(pruneModel(quantized, with(options, "-t", "q4_0")).expect(0));
    assertTrue(json.get("warnings").toString().contains("to quantize it again costs accuracy"), json::toString);
    assertTrue(json.get("types").has("Q4_0"), json::toString);
  }

  @Test
  void whatIsAskedForAndWhatComesOfItIsTold() throws IOException {
    Attar.Result result = prune("--structure", "ffn", "--ratio", 0.375, "--dry-run").expect(0);
    assertTrue(
      result
        .out()
        .contains(
          "would remove 256 of 512 neurons of each layer (50 %; asked for 37.5 %: widths stay multiples of 256, " +
            "--multiple-of 64 comes nearer)"
        ),
      result.out()
    );
    assertTrue(result.out().contains("\n  predicted speed: prompt 1."), result.out());
    String error = prune("--structure", "layers", "--ratio", 0.99, "--dry-run").error(Main.FAILURE);
    assertTrue(error.startsWith(TestModels.SAMPLE + ": ratio 0.99 leaves no layers"), error);
    assertEquals(List.of(), files());
  }

  private static Attar.Result prune(Object... words) {
    return pruneModel(TestModels.SAMPLE, words);
  }

  private static Attar.Result pruneModel(Path model, Object... words) {
    List<Object> line = new ArrayList<>(List.of("prune", model));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(Arrays.asList(words));
    return Attar.run(line.toArray());
  }

  private static JsonNode json(Attar.Result result) throws IOException {
    return new ObjectMapper().readTree(result.out());
  }

  private static Object[] with(Object[] line, Object... more) {
    return Stream.concat(Arrays.stream(line), Arrays.stream(more)).toArray();
  }

  private static Map<String, Tensor> byName(Model model) {
    Map<String, Tensor> tensors = new TreeMap<>();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    return tensors;
  }

  private static List<TensorInfo> infos(Model model) {
    return byName(model).values().stream().map(Tensor::info).toList();
  }

  private static byte[] bytes(Tensor tensor) throws IOException {
    byte[] bytes = new byte[(int) tensor.info().bytes()];
    tensor.readRows(0, (int) tensor.info().rows(), bytes, 0);
    return bytes;
  }

  /** What llama.cpp computes by. */
  private static Map<String, String> architecture(Metadata metadata) {
    Map<String, String> values = new TreeMap<>();
    metadata
      .values()
      .forEach((key, value) -> {
        if (key.startsWith("llama.")) {
          values.put(key, value.toString());
        }
      });
    return values;
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
