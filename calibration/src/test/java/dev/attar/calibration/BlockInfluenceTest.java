package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.DeviceChoice;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class BlockInfluenceTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");
  private static final CalibrationListener NOBODY = (_, _, _) -> {};

  @TempDir
  private Path folder;

  private static Calibrator.Settings settings(long tokens, int context, int threads) {
    return new Calibrator.Settings(
      List.of(TEXT),
      tokens,
      context,
      threads,
      DeviceChoice.CPU,
      false,
      false,
      Duration.ofSeconds(60)
    );
  }

  private static double[] influence(Path model, long tokens, int context) throws IOException {
    try (Calibrator calibrator = Calibrator.open(model, settings(tokens, context, 1), NOBODY)) {
      return calibrator.influence();
    }
  }

  /** Copies the residual stream where it is normalized: before each layer's attention, and before the output. */
  private static final class Stream implements NodeObserver {

    private final List<List<float[]>> rows;
    private int next;

    Stream(int layers) {
      rows = IntStream.rangeClosed(0, layers)
        .<List<float[]>>mapToObj(_ -> new ArrayList<>())
        .toList();
    }

    @Override
    public boolean wants(Node node) {
      int layers = rows.size() - 1;
      return next <= layers && node.name().equals(next == layers ? "norm" : "norm-" + next);
    }

    @Override
    public boolean computed(Node node) {
      Node input = node.source(0).orElseThrow();
      for (int i = 0; i < input.ne(1); i++) {
        float[] row = new float[(int) input.ne(0)];
        MemorySegment.copy(input.data(), JAVA_FLOAT, i * input.nb(1), row, 0, row.length);
        rows.get(next).add(row);
      }
      next++;
      return true;
    }
  }

  /** The influence of layers in the text's first window, which is computed in one piece. */
  private static double[] expected(Path file, int context) throws IOException {
    try (
      LlamaModel model = LlamaModel.open(file, new LlamaModel.Options(OptionalInt.of(0), false, true, _ -> {}));
      Batch batch = new Batch(context)
    ) {
      Stream stream = new Stream(model.layers());
      int[] tokens = model.tokens().encode(Files.readAllBytes(TEXT), true, false);
      for (int i = 0; i < context; i++) {
        batch.add(tokens[i], i, 0, true);
      }
      try (LlamaContext running = model.context(new LlamaContext.Options(context, context, context, 1, 1), stream)) {
        running.decode(batch);
      }
      double[] influence = new double[model.layers()];
      for (int layer = 0; layer < influence.length; layer++) {
        List<float[]> before = stream.rows.get(layer);
        List<float[]> after = stream.rows.get(layer + 1);
        assertEquals(context, before.size());
        assertEquals(context, after.size());
        double sum = 0;
        for (int i = 0; i < context; i++) {
          sum += dot(before.get(i), after.get(i)) / norm(before.get(i)) / norm(after.get(i));
        }
        influence[layer] = 1 - sum / context;
      }
      return influence;
    }
  }

  private static double norm(float[] a) {
    return Math.sqrt(dot(a, a));
  }

  private static double dot(float[] a, float[] b) {
    double sum = 0;
    for (int i = 0; i < a.length; i++) {
      sum += (double) a[i] * b[i];
    }
    return sum;
  }

  private static void assertClose(double[] expected, double[] actual) {
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      assertTrue(expected[i] > 0.001 && expected[i] < 1.5, "block " + i + ": " + expected[i]);
      assertEquals(expected[i], actual[i], 1e-4 * expected[i], "block " + i);
    }
  }

  @Test
  void isOneLessTheMeanCosine() throws IOException {
    Path model = TestModels.convert(TestModels.SAMPLE, folder.resolve("model.gguf"));
    // A window of more tokens than are computed at once.
    assertClose(expected(model, 700), influence(model, 700, 700));
  }

  @ParameterizedTest
  @ValueSource(strings = { "qwen2-yarn", "qwen3", "mixtral", "llama-linear" })
  void isFoundInOtherArchitectures(String checkpoint) throws IOException {
    Path model = TestModels.convert(CHECKPOINTS.resolve(checkpoint), folder.resolve("model.gguf"));
    assertClose(expected(model, 64), influence(model, 64, 64));
  }

  @Test
  void aBlockThatAddsNothingHasNone() throws IOException {
    Path model = TestModels.convert(
      TestModels.SAMPLE,
      folder.resolve("model.gguf"),
      metadata -> metadata,
      (tensor, values) ->
        tensor.name().equals("blk.3.attn_output.weight") || tensor.name().equals("blk.3.ffn_down.weight")
          ? new float[values.length]
          : values
    );
    List<Integer> heard = new ArrayList<>();
    double[] influence;
    try (
      Calibrator calibrator = Calibrator.open(model, settings(128, 64, 2), (phase, done, windows) -> {
        assertEquals(CalibrationListener.Phase.INFLUENCE, phase);
        assertEquals(2, windows);
        heard.add(done);
      })
    ) {
      influence = calibrator.influence();
    }
    assertEquals(List.of(1, 2), heard);
    assertEquals(4, influence.length);
    assertEquals(0.0, influence[3]);
    assertTrue(influence[2] > 0);
  }

  @Test
  void aValueThatIsNoNumberIsNamed() throws IOException {
    Path model = TestModels.convert(
      TestModels.SAMPLE,
      folder.resolve("model.gguf"),
      metadata -> metadata,
      (tensor, values) -> {
        if (tensor.name().equals("blk.1.ffn_norm.weight")) {
          values[7] = Float.NaN;
        }
        return values;
      }
    );
    IOException e = assertThrows(IOException.class, () -> influence(model, 64, 32));
    assertTrue(
      e.getMessage().endsWith("model.gguf: what leaves block 1 is not finite in window 1, column 0: NaN"),
      e.getMessage()
    );
  }

  @Test
  void zerosHaveNoDirection() {
    float[] zeros = new float[2];
    assertEquals(1, BlockInfluence.cosine(zeros, new float[2]));
    assertEquals(0, BlockInfluence.cosine(zeros, new float[] { 1, 2 }));
    float[] huge = { Float.MAX_VALUE, -Float.MAX_VALUE };
    assertEquals(1, BlockInfluence.cosine(huge, huge));
    float[] tiny = { Float.MIN_VALUE, Float.MIN_VALUE };
    assertEquals(-1, BlockInfluence.cosine(tiny, new float[] { -1e30f, -1e30f }), 1e-12);
  }

  @Test
  void aGraphWithoutNamedBlocksIsRefused() {
    BlockInfluence influence = new BlockInfluence("m.gguf", 2, () -> {});
    IOException e = assertThrows(IOException.class, influence::influence);
    assertEquals(
      "m.gguf: nothing is found in llama.cpp's graph that belongs to block 0, so the influence of blocks is not known",
      e.getMessage()
    );
  }
}
