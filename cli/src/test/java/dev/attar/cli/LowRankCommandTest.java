package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** {@code lowrank} on the sample: 4 layers of 8 heads of 32 values and 512 neurons. All results are loaded in llama.cpp by it. */
class LowRankCommandTest {

  @TempDir
  private Path folder;

  @Test
  void productsAreMultipliedBack() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] options = { "--ratio", 0.5, "--method", "svd", "--threads", 1, "-o", out, "--json" };
    JsonNode planned = json(Attar.run(with("lowrank", TestModels.SAMPLE, options, "--dry-run")).expect(0));
    assertEquals(List.of(), files());
    assertFalse(planned.has("output"), planned::toString);
    Attar.Result result = Attar.run(with("lowrank", TestModels.SAMPLE, options)).expect(0);
    JsonNode written = json(result);
    assertEquals(List.of(out), files());
    JsonNode ranks = written.get("ranks");
    long before = ranks.get("numbers_before").longValue();
    long numbers = 0;
    long saved = 0;
    for (JsonNode tensor : ranks.get("tensors")) {
      long columns = tensor.get("shape").get(0).longValue();
      long rows = tensor.get("shape").get(1).longValue();
      numbers += tensor.get("rank").longValue() * (rows + columns);
      saved += 2 * (rows * columns - tensor.get("rank").longValue() * (rows + columns)); // bytes of BF16
    }
    assertEquals(before - saved / 2, ranks.get("numbers").longValue());
    assertTrue(numbers > 0 && ranks.get("numbers").longValue() <= before / 2, ranks::toString);
    assertEquals(Files.size(out) - saved, written.get("factor_bytes").longValue());
    assertEquals(Files.size(out), written.get("file_bytes").longValue());
    // What is said of tokens and text makes no difference to plain SVD, so what is said beforehand is what comes.
    assertEquals(planned.get("file_bytes"), written.get("file_bytes"));
    assertTrue(result.err().contains("\n  products for "), result.err());
    assertTrue(result.err().contains("\n  squared error of the weights: 0."), result.err());
    assertTrue(result.err().contains(" of the 2.36 M numbers in the matrices\n"), result.err());
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.method +string +\"lowrank\"\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.form +string +\"dense\"\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.metric +string +\"svd\"\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.ratio +float32 +0\\.5\n.*"), inspected);
  }

  @Test
  void anAdapterCorrectsItsBaseAndIsCompared() throws IOException {
    Path out = folder.resolve("x.gguf");
    Path adapter = folder.resolve("x.adapter.gguf");
    Path report = folder.resolve("report.html");
    Object[] down = TestModels.DOWN_ONLY.toArray();
    Object[] options = with("--form", "adapter", "--base-type", "q2_k", "--rank", 32, "-o", out, "--json", down);
    Object[] calibration = TestModels.SHORT_CALIBRATION.toArray();
    JsonNode planned = json(lowRank(with(options, "--dry-run")).expect(0));
    assertEquals(List.of(), files());
    Object[] comparison = { "--text", TestModels.TEXT, "--chunks", 2, "--no-latency", "--report", report };
    Attar.Result result = lowRank(with(options, comparison)).expect(0);
    JsonNode written = json(result);
    assertEquals(List.of(report, adapter, out), files());
    assertEquals(Files.size(out), written.get("base_bytes").longValue());
    assertEquals(Files.size(adapter), written.get("adapter_bytes").longValue());
    assertEquals(Files.size(out) + Files.size(adapter), written.get("file_bytes").longValue());
    assertEquals(planned.get("adapter_bytes").longValue(), Files.size(adapter), 100);
    assertEquals(planned.get("base_bytes").longValue(), Files.size(out), 200);
    assertTrue(written.get("ranks").get("loss").doubleValue() < 0.9, written::toString);

    // The base is what there would be without an adapter.
    Path plain = folder.resolve("q2_k.gguf");
    Attar.run(with("quantize", TestModels.SAMPLE, "-t", "q2_k", "-o", plain, calibration, down)).expect(0);
    assertArrayEquals(Files.readAllBytes(plain), Files.readAllBytes(out));

    JsonNode compared = written.get("comparison");
    assertEquals(written.get("file_bytes"), compared.get("bytes"));
    JsonNode models = compared.get("results");
    List<String> names = new ArrayList<>();
    models.forEach(model -> names.add(model.get("model").textValue()));
    assertEquals(List.of("sample (BF16)", EqualBytes.PLAIN, "Q2_K", "Q2_K + adapter"), names);
    assertTrue(models.get(1).get("bytes").longValue() <= written.get("file_bytes").longValue(), compared::toString);
    double base = models.get(2).get("kld_mean").doubleValue();
    double corrected = models.get(3).get("kld_mean").doubleValue();
    assertTrue(corrected < base, compared::toString);
    assertEquals(corrected, compared.get("kl_divergence").doubleValue());
    assertEquals(models.get(1).get("kld_mean"), compared.get("plain_kl_divergence"));
    boolean plainIsBetter = compared.get("plain_kl_divergence").doubleValue() < corrected;
    assertEquals(plainIsBetter ? "plain" : "lowrank", compared.get("better").textValue());
    String verdict = compared.get("verdict").textValue();
    assertTrue(result.err().endsWith("\n" + verdict + "\n"), result.err());
    assertTrue(Files.readString(report).contains("Q2_K + adapter"));
    String inspected = Attar.run("inspect", adapter).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.base_type +string +\"Q2_K\"\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.tokens +uint64 +256\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*blk\\.3\\.ffn_down\\.weight\\.lora_a +Q8_0 +512 x 32 .*"), inspected);
  }

  @Test
  void thereMayBeNoPlainQuantizationOfTheSize() throws IOException {
    try (Model model = Models.open(TestModels.SAMPLE)) {
      QuantizeOptions options = QuantizeOptions.of(FileType.Q8_0);
      assertEquals(
        Optional.of("no smaller than the model itself, which takes 6.92 MB"),
        EqualBytes.obstacle(model, options, 6_920_000, 6_920_000)
      );
      assertEquals(Optional.empty(), EqualBytes.obstacle(model, options, 6_919_999, 6_920_000));
      String small = EqualBytes.obstacle(model, options, 1_000_000, 6_920_000).orElseThrow();
      assertTrue(small.matches("plain quantization cannot become so small, it takes 1\\.\\d\\d MB at least"), small);
    }
  }

  @Test
  void aModelShrinks() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] options = { "--form", "shrink", "--ratio", 0.5, "--head-ratio", 0.6, "-o", out, "--json" };
    JsonNode planned = json(lowRank(with(options, "--dry-run")).expect(0));
    assertEquals(List.of(), files());
    Attar.Result result = lowRank(options).expect(0);
    JsonNode written = json(result);
    assertEquals(List.of(out), files());
    assertEquals(16, written.get("heads").get("size").intValue());
    assertEquals(8, written.get("heads").get("pairs").size());
    assertEquals(256, written.get("pruning").get("removed").get("units").intValue());
    // 256 neurons of three matrices, and half of the values of 8 heads twice and of 4 groups twice, each of 256 numbers.
    long gone = 4 * 256 * (3 * 256 + 16 * (2 * 8 + 2 * 4));
    JsonNode pruning = written.get("pruning");
    assertEquals(
      gone - 8, // divisors of the frequencies are new
      pruning.get("parameters_before").longValue() - pruning.get("parameters").longValue()
    );
    for (String key : List.of("parameters", "bytes", "types", "predicted_speed")) {
      assertEquals(planned.get("pruning").get(key), pruning.get(key), key);
    }
    assertTrue(
      result
        .err()
        .contains(
          "\n  heads of 16 values (from 32, 50 % of them, asked for 60 %): queries and keys have 8 rotary pairs"
        ),
      result.err()
    );
    assertEquals(1, result.err().split("attar: device: ", -1).length - 1, result.err());
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.method +string +\"lowrank\"\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.prune\\.removed +uint32 +256\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*attar\\.lowrank\\.head_ratio +float32 +0\\.6\n.*"), inspected);
    assertTrue(inspected.matches("(?s).*llama\\.attention\\.key_length +uint32 +16\n.*"), inspected);
  }

  @Test
  void headsAloneShrink() throws IOException {
    Path out = folder.resolve("out.gguf");
    Object[] options = { "--form", "shrink", "--head-size", 20, "-o", out };
    String planned = lowRank(with(options, "--dry-run")).expect(0).out();
    assertTrue(planned.startsWith("would take "), planned);
    assertTrue(planned.contains("\n  heads of 20 values (from 32)"), planned);
    Attar.Result result = lowRank(options).expect(0);
    assertTrue(result.err().contains("heads of 20 values are no multiple of 16"), result.err());
    String printed = result.out();
    assertTrue(printed.contains("\n  error of attention's outputs on the calibration text"), printed);
    assertTrue(printed.contains("\n  predicted speed: prompt 1."), printed);
    String error = lowRank("--form", "shrink", "--head-size", 33, "-o", out, "--overwrite").error(Main.FAILURE);
    assertTrue(error.startsWith(TestModels.SAMPLE + ": "), error);
    assertEquals(List.of(out), files());
  }

  private static Attar.Result lowRank(Object... words) {
    return Attar.run(with("lowrank", TestModels.SHORT_CALIBRATION.toArray(), words, TestModels.SAMPLE));
  }

  private static JsonNode json(Attar.Result result) throws IOException {
    return new ObjectMapper().readTree(result.out());
  }

  /** A line of words, and of arrays of words. */
  private static Object[] with(Object... parts) {
    return Arrays.stream(parts)
      .flatMap(part -> part instanceof Object[] words ? Arrays.stream(words) : Stream.of(part))
      .toArray();
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
