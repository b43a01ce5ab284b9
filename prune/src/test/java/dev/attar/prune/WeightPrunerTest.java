package dev.attar.prune;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.formats.imatrix.ImportanceMatrixWriter;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Single weights that are removed: the same as by plain loops, and with as little error as the methods promise. */
class WeightPrunerTest {

  private static final Path SAMPLE = Path.of("../samples/sample");
  private static final int N = 256;
  private static final int ROWS = 40;
  private static final float[] GRAM = MadeUpInputs.correlated(N, 1);
  private static final float[] WEIGHTS = MadeUpInputs.weights(ROWS, N, 2);

  private static Device device;

  @TempDir
  private Path folder;

  @BeforeAll
  static void openDevice() throws IOException {
    device = Devices.cpu(2);
  }

  @AfterAll
  static void closeDevice() {
    device.close();
  }

  /** Which weights go, as the papers say: those of least score among those that are chosen from together. */
  private static boolean[] reference(float[] weights, int columns, float[] squares, Amount amount, boolean acrossRows) {
    int n = weights.length;
    int together = amount instanceof Amount.PerGroup pattern ? pattern.of() : acrossRows ? n : columns;
    double[] score = new double[n];
    for (int i = 0; i < n; i++) {
      score[i] = Math.abs((double) weights[i]) * (squares == null ? 1 : Math.sqrt(squares[i % columns]));
    }
    boolean[] removed = new boolean[n];
    for (int first = 0; first < n; first += together) {
      Integer[] order = IntStream.range(first, first + together)
        .boxed()
        .sorted(Comparator.comparingDouble(i -> score[i]))
        .toArray(Integer[]::new);
      for (int i = 0; i < Math.round(amount.part() * together); i++) {
        removed[order[i]] = true;
      }
    }
    return removed;
  }

  @ParameterizedTest
  @CsvSource(
    {
      "MAGNITUDE, 0.5, false",
      "MAGNITUDE, 0.5, true",
      "MAGNITUDE, 0.3, true",
      "MAGNITUDE, 2:4, false",
      "WANDA, 0.5, false",
      "WANDA, 0.7, false",
      "WANDA, 2:4, false",
      "WANDA, 4:8, false"
    }
  )
  void masksOfTheSampleAreThoseOfPlainLoops(PruneMethod method, String sparsity, boolean acrossRows)
    throws IOException, InterruptedException {
    WeightPruner pruner = new WeightPruner(method, Amount.parse(sparsity), acrossRows);
    long same = 0;
    long all = 0;
    try (
      Model model = Models.open(SAMPLE);
      ImportanceMatrix importance = ImportanceMatrix.open(SAMPLE.resolve("imatrix.gguf"))
    ) {
      Map<String, Path> files = DirectPruning.run(
        model,
        pruner,
        importance,
        TensorInfo::type,
        device,
        2,
        folder,
        (done, total) -> assertTrue(done <= total)
      );
      for (Tensor tensor : model.tensors()) {
        TensorInfo info = tensor.info();
        assertEquals(
          info.name().matches("blk\\.\\d+\\.(attn|ffn)_[a-z]+\\.weight") && info.rank() > 1,
          files.containsKey(info.name())
        );
        if (!files.containsKey(info.name())) {
          continue;
        }
        int columns = (int) info.rowLength();
        float[] before = new float[(int) info.elements()];
        tensor.decodeRows(0, (int) info.rows(), before, 0);
        byte[] encoded = Files.readAllBytes(files.get(info.name()));
        assertEquals(info.bytes(), encoded.length);
        float[] after = new float[before.length];
        BlockDecoders.of(info.type()).decode(encoded, 0, after, 0, after.length);
        float[] squares = method == PruneMethod.WANDA ? importance.weights(info.name()).orElseThrow() : null;
        boolean[] removed = reference(before, columns, squares, pruner.amount(), acrossRows);
        int gone = 0;
        for (int i = 0; i < before.length; i++) {
          gone += after[i] == 0 ? 1 : 0;
          same += (after[i] == 0) == (removed[i] || before[i] == 0) ? 1 : 0;
          assertTrue(after[i] == 0 || after[i] == before[i]);
        }
        assertEquals(pruner.amount().part(), (double) gone / before.length, 0.01, info.name());
        all += before.length;
      }
    }
    // Weights of equal score are chosen by their places: BF16 has many.
    assertTrue(same >= 0.999 * all, same + " of " + all);
  }

  private static Matrix transposed(Scope scope, float[] rows) {
    Matrix result = scope.matrix(N, ROWS);
    Matrix straight = scope.matrix(ROWS, N);
    device.upload(MemorySegment.ofArray(rows), straight);
    device.transpose(straight, result);
    return result;
  }

  private static float[] prune(WeightPruner pruner) {
    PreparedGram.Use use = new PreparedGram.Use(0.01, PreparedGram.Order.NATURAL, false);
    float[] pruned = new float[WEIGHTS.length];
    try (PreparedGram input = MadeUpInputs.prepare(device, GRAM, N, use); Scope scope = device.scope()) {
      Matrix left = scope.matrix(N, ROWS);
      Matrix weights = transposed(scope, WEIGHTS);
      pruner.prune(device, input, weights, left);
      Matrix rows = scope.matrix(ROWS, N);
      device.transpose(left, rows);
      device.download(rows, MemorySegment.ofArray(pruned));
      device.transpose(weights, rows);
      float[] after = new float[WEIGHTS.length];
      device.download(rows, MemorySegment.ofArray(after));
      assertTrue(Arrays.equals(WEIGHTS, after));
    }
    return pruned;
  }

  /** The order that the papers report: knowing the inputs' norms helps, and making up for what is removed helps more. */
  @ParameterizedTest
  @ValueSource(strings = { "0.5", "2:4", "4:8" })
  void theMoreAMethodKnowsTheLessIsLost(String sparsity) {
    Map<PruneMethod, Double> errors = new HashMap<>();
    for (PruneMethod method : PruneMethod.values()) {
      WeightPruner pruner = new WeightPruner(method, Amount.parse(sparsity), false);
      float[] pruned = prune(pruner);
      errors.put(method, MadeUpInputs.error(WEIGHTS, pruned, GRAM, N));
      int length = pruner.amount() instanceof Amount.PerGroup pattern ? pattern.of() : N;
      if (pruner.amount() instanceof Amount.PerGroup || method != PruneMethod.SPARSEGPT) {
        for (int first = 0; first < pruned.length; first += length) {
          int zeros = 0;
          for (int i = first; i < first + length; i++) {
            zeros += pruned[i] == 0 ? 1 : 0;
          }
          assertEquals(length / 2, zeros, method + ", weights from " + first);
        }
      }
    }
    assertTrue(errors.get(PruneMethod.WANDA) < errors.get(PruneMethod.MAGNITUDE), errors.toString());
    assertTrue(errors.get(PruneMethod.SPARSEGPT) < 0.8 * errors.get(PruneMethod.WANDA), errors.toString());
  }

  @Test
  void saysWhatCannotBeRemoved() {
    TensorInfo odd = new TensorInfo("blk.0.ffn_down.weight", TensorType.BF16, new long[] { 102, 8 });
    assertEquals(
      Optional.of("rows of 102 weights are not divisible by 4 of the pattern 2:4"),
      new WeightPruner(PruneMethod.WANDA, Amount.parse("2:4"), false).problem(odd)
    );
    assertEquals(
      Optional.of("0.001 of rows of 102 weights is less than one"),
      new WeightPruner(PruneMethod.WANDA, Amount.parse("0.001"), false).problem(odd)
    );
    assertEquals(
      Optional.of("0.999 of rows of 102 weights is all of them"),
      new WeightPruner(PruneMethod.WANDA, Amount.parse("0.999"), false).problem(odd)
    );
    WeightPruner across = new WeightPruner(PruneMethod.MAGNITUDE, Amount.parse("0.001"), true);
    assertEquals(Optional.empty(), across.problem(odd));
    TensorInfo vast = new TensorInfo("blk.0.ffn_down.weight", TensorType.BF16, new long[] { 1 << 20, 1 << 20 });
    assertTrue(across.problem(vast).orElseThrow().startsWith("choosing from all of its 1099511627776 weights takes "));
    Amount pattern = Amount.parse("2:4");
    assertThrows(IllegalArgumentException.class, () -> new WeightPruner(PruneMethod.MAGNITUDE, pattern, true));
  }

  @Test
  void leavesWhatIsNoLayersMatrix() {
    WeightPruner pruner = new WeightPruner(PruneMethod.WANDA, Amount.parse("0.5"), false);
    assertTrue(pruner.prunes(new TensorInfo("blk.3.attn_q.weight", TensorType.Q4_K, new long[] { 256, 8 })));
    assertTrue(pruner.prunes(new TensorInfo("blk.3.ffn_up_exps.weight", TensorType.F16, new long[] { 64, 8, 4 })));
    assertFalse(pruner.prunes(new TensorInfo("blk.3.ffn_gate_inp.weight", TensorType.F32, new long[] { 64, 4 })));
    assertFalse(pruner.prunes(new TensorInfo("blk.3.attn_norm.weight", TensorType.F32, new long[] { 64 })));
    assertFalse(pruner.prunes(new TensorInfo("token_embd.weight", TensorType.F16, new long[] { 64, 99 })));
    assertFalse(pruner.prunes(new TensorInfo("output.weight", TensorType.F16, new long[] { 64, 99 })));
  }

  @Test
  void aMatrixWithoutImportanceIsToldBeforeItIsPruned() throws IOException {
    Path file = folder.resolve("imatrix.gguf");
    try (Model model = Models.open(SAMPLE)) {
      ImportanceMatrixWriter.write(
        file,
        List.of(new ImportanceMatrixWriter.Entry("blk.9.attn_q.weight", new double[256], new long[] { 1 })),
        List.of("text"),
        1,
        512,
        true
      );
      try (ImportanceMatrix importance = ImportanceMatrix.open(file)) {
        WeightPruner pruner = new WeightPruner(PruneMethod.WANDA, Amount.parse("0.5"), false);
        IOException e = assertThrows(IOException.class, () ->
          DirectPruning.run(model, pruner, importance, TensorInfo::type, device, 1, folder, (_, _) -> {})
        );
        assertTrue(e.getMessage().endsWith(": nothing, expected the mean squares of 512 columns"), e.getMessage());
      }
    }
  }
}
