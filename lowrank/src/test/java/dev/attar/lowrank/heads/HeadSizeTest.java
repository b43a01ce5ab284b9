package dev.attar.lowrank.heads;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.compute.DeviceChoice;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.TensorType;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.lowrank.LowRankException;
import dev.attar.lowrank.LowRankListener;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Runs on small models, whose smaller ones the real llama.cpp runs. */
class HeadSizeTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int TOKENS = 40;
  private static final String TYPE = "llama.rope.scaling.type";

  @TempDir
  private Path folder;

  /** Keeps what it hears. */
  private static final class Heard implements LowRankListener {

    private final List<String> warnings = new ArrayList<>();

    @Override
    public void at(String phase, long done, long total, String unit) {
      assertTrue(done >= 0 && done <= total, phase + ": " + done + " of " + total);
    }

    @Override
    public void device(String line) {
      assertTrue(line.startsWith("device: cpu") || line.startsWith("cpu"), line);
    }

    @Override
    public void warn(String message) {
      warnings.add(message);
    }
  }

  private HeadOptions options(int size, long memory) throws IOException {
    // A long text would take longer to read than the model.
    Path text = folder.resolve("text.txt");
    Files.writeString(text, Files.readString(TEXT).substring(0, 4096));
    Duration patience = Duration.ofSeconds(60);
    return new HeadOptions(size, 0.01, List.of(text), 512, 128, 1, DeviceChoice.CPU, memory, patience);
  }

  private HeadResult run(Model model, int size) throws IOException, InterruptedException {
    Path file = MemoryModel.write(model, folder.resolve("model.gguf"));
    Path work = Files.createTempDirectory(folder, "work");
    return HeadSize.run(model, file, options(size, 4L << 30), work, new Heard());
  }

  private float[] logits(Model model) throws IOException {
    Path file = MemoryModel.write(model, folder.resolve("logits.gguf"));
    try (
      LlamaModel llama = LlamaModel.open(file, LlamaModel.Options.defaults());
      LlamaContext context = llama.context(new LlamaContext.Options(256, 256, 64, 1, 1));
      Batch batch = new Batch(TOKENS)
    ) {
      for (int i = 0; i < TOKENS; i++) {
        batch.add((31 * i + 5) % context.vocabularySize(), i, 0, true);
      }
      context.decode(batch);
      return context.logits().toArray(JAVA_FLOAT);
    }
  }

  /** The root mean square of the difference, over that of the first. */
  private static double difference(float[] a, float[] b) {
    assertEquals(a.length, b.length);
    double difference = 0;
    double squares = 0;
    for (int i = 0; i < a.length; i++) {
      difference += (a[i] - b[i]) * (double) (a[i] - b[i]);
      squares += a[i] * (double) a[i];
    }
    return Math.sqrt(difference / squares);
  }

  /**
   * Makes a model whose heads need not be as large as they are: all but some pairs of queries and keys are zero, and what meets the values
   * of a group are products of rank {@code rank}.
   */
  private static HeadModel redundant(HeadModel model, int heads, int groups, List<Integer> pairs, int rank)
    throws IOException {
    int size = HeadModel.SIZE;
    Random random = new Random(3);
    return model.map((info, values) -> {
      if (info.name().contains("attn_q.") || info.name().contains("attn_k.")) {
        int columns = info.rank() == 1 ? 1 : HeadModel.EMBEDDING;
        for (int i = 0; i < values.length; i++) {
          values[i] = pairs.contains(((i / columns) % size) / 2) ? values[i] : 0;
        }
      } else if (info.name().contains("attn_output.weight")) {
        int columns = heads * size;
        for (int group = 0; group < groups; group++) {
          double[][] basis = new double[rank][];
          for (int k = 0; k < rank; k++) {
            basis[k] = random.doubles(size, -1, 1).toArray();
          }
          for (int row = 0; row < HeadModel.EMBEDDING; row++) {
            for (int head = (group * heads) / groups; head < ((group + 1) * heads) / groups; head++) {
              for (int i = 0; i < size; i++) {
                values[row * columns + head * size + i] = 0;
              }
              for (int k = 0; k < rank; k++) {
                double factor = 0.2 * random.nextGaussian();
                for (int i = 0; i < size; i++) {
                  values[row * columns + head * size + i] += (float) (factor * basis[k][i]);
                }
              }
            }
          }
        }
      }
    });
  }

  private static List<Fold> whole(int... pairs) {
    return Arrays.stream(pairs)
      .mapToObj(pair -> new Fold(pair, 1, 1, pair))
      .toList();
  }

  private void assertSame(HeadModel model, int heads, int groups, List<Integer> pairs)
    throws IOException, InterruptedException {
    HeadModel redundant = redundant(model, heads, groups, pairs, 2 * pairs.size());
    HeadResult result = run(redundant, 2 * pairs.size());
    assertEquals(pairs, result.pairs());
    assertEquals(0, result.lostPairs(), 1e-4);
    float[] before = logits(redundant);
    try (Model smaller = SmallerHeads.of(redundant, result)) {
      // llama.cpp keeps keys and values in half precision.
      double error = difference(before, logits(smaller));
      assertTrue(error < 1e-3, "error " + error);
    }
    result.layers().forEach(layer -> assertTrue(layer.loss() < 1e-6, layer.toString()));
    // It matters where pairs are taken from: with frequencies of their new places, logits differ.
    HeadResult others = new HeadResult(8, result.size(), whole(0, 1), 0, List.of(), result.values(), 0);
    try (Model wrong = SmallerHeads.of(redundant, others)) {
      assertTrue(difference(before, logits(wrong)) > 0.02);
    }
  }

  @Test
  void nothingIsLostIfHeadsNeedNotBeSoLarge() throws IOException, InterruptedException {
    assertSame(HeadModel.llama(4, 2, false), 4, 2, List.of(1, 3));
  }

  @Test
  void withFrequenciesOfItsOwnLinearScalingAndBiases() throws IOException, InterruptedException {
    HeadModel model = HeadModel.llama(4, 4, true)
      .with(HeadLayout.FREQUENCIES, TensorType.F32, new float[] { 1, 1.5f, 4, 8 }, 4)
      .with(TYPE, MetadataValue.string("linear"))
      .with("llama.rope.scaling.factor", MetadataValue.float32(2));
    assertSame(model, 4, 4, List.of(0, 2));
  }

  @Test
  void whatIsLostIsReported() throws IOException, InterruptedException {
    HeadModel model = HeadModel.llama(6, 2, true);
    HeadResult result = run(model, 6);
    assertEquals(8, result.before());
    assertEquals(6, result.size());
    assertEquals(3, result.pairs().size());
    assertTrue(result.lostPairs() > 0.05 && result.lostPairs() < 0.25, result.toString());
    assertEquals(512, result.tokens());
    assertEquals(HeadModel.LAYERS, result.layers().size());
    result.layers().forEach(layer -> assertTrue(layer.loss() > 0.001 && layer.loss() < 0.25, layer.toString()));
    HeadModel quantized = model.with(
      "blk.0.attn_output.weight",
      TensorType.F16,
      MemoryModel.values(MemoryModel.tensor(model, "blk.0.attn_output.weight")),
      48,
      HeadModel.EMBEDDING
    );
    try (Model smaller = SmallerHeads.of(quantized, result)) {
      assertEquals("F16 [36 x 48]", shape(smaller, "blk.0.attn_output.weight"));
      assertEquals("F32 [48 x 12]", shape(smaller, "blk.1.attn_v.weight"));
      assertEquals("F32 [12]", shape(smaller, "blk.1.attn_v.bias"));
      assertEquals("F32 [36]", shape(smaller, "blk.1.attn_q.bias"));
      assertEquals("F32 [3]", shape(smaller, HeadLayout.FREQUENCIES));
      for (String key : List.of("attention.key_length", "attention.value_length", "rope.dimension_count")) {
        assertEquals(6, smaller.metadata().integer("llama." + key).orElseThrow());
      }
      assertEquals(8, smaller.metadata().integer("attar.lowrank.head_size").orElseThrow());
      assertFalse(smaller.metadata().string("general.size_label").orElseThrow().equals("7B"));
      double change = difference(logits(model), logits(smaller));
      assertTrue(change > 0.01 && change < 0.7, "change " + change);
    }
  }

  private static String shape(Model model, String name) {
    String text = MemoryModel.tensor(model, name).info().toString();
    return text.substring(name.length() + 1);
  }

  private void assertRefused(Model model, int size, String message) {
    LowRankException e = assertThrows(LowRankException.class, () ->
      HeadSize.run(model, folder.resolve("none"), options(size, 4L << 30), folder, new Heard())
    );
    assertEquals("test-model: " + message, e.getMessage());
  }

  @Test
  void refusals() throws IOException {
    HeadModel model = HeadModel.llama(4, 2, false);
    String cannot = "heads cannot be made smaller: ";
    for (int size : new int[] { -2, 0, 5, 8, 10 }) {
      assertRefused(model, size, cannot + "found " + size + " as the new size, expected an even number from 2 to 6");
    }
    assertRefused(
      model.with("general.architecture", MetadataValue.string("qwen3")),
      4,
      cannot + "llama.cpp runs other sizes of heads as llama and deci, this is qwen3"
    );
    assertRefused(
      model.with(TYPE, MetadataValue.string("yarn")),
      4,
      cannot + "rope scaling yarn depends on the frequencies in its own way, only linear can be kept"
    );
    assertRefused(
      model.with("llama.rope.scaling.yarn_ext_factor", MetadataValue.float32(1)),
      4,
      cannot + "llama.rope.scaling.yarn_ext_factor makes rotations depend on the frequencies in their own way"
    );
    assertRefused(
      model.with("llama.rope.dimension_count", MetadataValue.uint32(4)),
      4,
      cannot + "llama.rope.dimension_count is 4, llama.cpp wants the size of keys, 8"
    );
    for (String part : List.of("attn_q_norm.weight", "attn_qkv.weight", "attn_sinks.weight")) {
      assertRefused(
        model.with("blk.1." + part, TensorType.F32, new float[8], 8),
        4,
        cannot + "there is blk.1." + part + ", which is not one of the tensors that can follow"
      );
    }
    assertRefused(
      model.with("llama.attention.head_count_kv", MetadataValue.uint32(4)),
      4,
      "layer 0: found 4 heads of queries and 2 of keys, expected 4 and 4, as the metadata say, of 8 values"
    );
    assertRefused(
      model.withoutTensor("blk.1.attn_v.weight"),
      4,
      "tensor blk.1.attn_v.weight: found nothing, expected a matrix"
    );
    assertRefused(
      model.with("blk.0.attn_q.bias", TensorType.F32, new float[8], 8),
      4,
      "tensor blk.0.attn_q.bias: found 8, expected 32"
    );
    assertRefused(
      model.with(HeadLayout.FREQUENCIES, TensorType.F32, new float[] { 1, 1, 0, 1 }, 4),
      4,
      "tensor rope_freqs.weight: found 0.0, expected numbers above 0"
    );
    assertRefused(
      model.without("llama.block_count"),
      4,
      "llama.block_count: found nothing, expected a whole number from 1 to 16777216"
    );
    LowRankException memory = assertThrows(LowRankException.class, () ->
      HeadSize.run(model, folder.resolve("none"), options(4, 900L << 20), folder, new Heard())
    );
    assertTrue(
      memory
        .getMessage()
        .matches("test-model: blk\\.0\\.attn_q\\.weight needs 90\\d MiB of memory, --max-memory .* 900 MiB"),
      memory.getMessage()
    );
  }

  @Test
  void resultsOfOtherModels() throws IOException {
    HeadModel model = HeadModel.llama(4, 2, false);
    HeadResult other = new HeadResult(16, 4, whole(0, 1), 0, List.of(), Map.of(), 1);
    LowRankException e = assertThrows(LowRankException.class, () -> SmallerHeads.of(model, other));
    assertEquals("test-model: heads of 8 values, expected 16, as were measured", e.getMessage());
    Path file = Files.write(folder.resolve("short"), new byte[4]);
    HeadResult damaged = new HeadResult(8, 4, whole(0, 1), 0, List.of(), Map.of("blk.0.attn_q.weight", file), 1);
    e = assertThrows(LowRankException.class, () -> SmallerHeads.of(model, damaged));
    assertEquals(file + ": found 4 bytes, expected 3072 of 48 x 16", e.getMessage());
  }

  @Test
  void sizesThatBlocksFit() throws IOException {
    HeadModel model = HeadModel.llama(12, 2, false);
    assertEquals(8, HeadSize.of(model));
    assertEquals(List.of(), HeadSize.goodSizes(model, 4, 32));
    HeadModel four = HeadModel.llama(16, 2, false);
    assertEquals(List.of(4, 6), HeadSize.goodSizes(four, 5, 32));
    assertEquals(List.of(6), HeadSize.goodSizes(four, 6, 32));
    assertEquals(List.of(4), HeadSize.goodSizes(four, 4, 64));
    assertEquals(List.of(4), HeadSize.goodSizes(four, 6, 64));
    assertEquals(List.of(), HeadSize.goodSizes(four, 6, 256));
  }
}
