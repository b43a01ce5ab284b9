package dev.attar.quant.budget;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.formats.FormatException;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.TestModels;
import dev.attar.quant.TypeCandidates;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OutputErrorsTest {

  private static final OutputErrors.Settings ALL_ROWS = new OutputErrors.Settings(1 << 20, 2);

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

  private static TypeCandidates candidates(Tensor tensor, TensorType... types) {
    List<TensorType> all = new ArrayList<>(List.of(types));
    all.add(tensor.info().type());
    return new TypeCandidates(tensor.info(), all, false);
  }

  private static TensorErrors measure(
    GgufModel model,
    ImportanceMatrix importance,
    GramSource grams,
    OutputErrors.Settings settings,
    TensorType... types
  ) throws IOException, InterruptedException {
    List<TypeCandidates> candidates = List.of(candidates(model.tensors().getFirst(), types));
    return OutputErrors.measure(model, candidates, importance, grams, device, settings, (_, _, _) -> {}).getFirst();
  }

  /** tr(E H E') and tr(W H W') of a plane, in plain loops. */
  private static double[] expected(Tensor tensor, int plane, TensorType type, float[] importance, double[][] gram)
    throws IOException {
    TensorInfo info = tensor.info();
    int columns = (int) info.rowLength();
    int rows = (int) info.dimension(1);
    float[] w = new float[rows * columns];
    tensor.decodeRows((long) plane * rows, rows, w, 0);
    byte[] encoded = new byte[(int) type.rowBytes(columns) * rows];
    BlockEncoders.scalar(type).orElseThrow().encode(w, 0, columns, rows, importance, plane * columns, encoded, 0);
    float[] decoded = new float[w.length];
    BlockDecoders.of(type).decode(encoded, 0, decoded, 0, w.length);
    double error = 0;
    double energy = 0;
    for (int row = 0; row < rows; row++) {
      for (int i = 0; i < columns; i++) {
        for (int j = 0; j < columns; j++) {
          int a = row * columns + i;
          int b = row * columns + j;
          error += gram[i][j] * (w[a] - decoded[a]) * (w[b] - decoded[b]);
          energy += gram[i][j] * w[a] * w[b];
        }
      }
    }
    return new double[] { error, energy };
  }

  @Test
  void equalsPlainLoops() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 288, 1000)
      .write(folder.resolve("m.gguf"));
    TestGram gram = TestGram.correlated(288, 100, 11);
    try (GgufModel model = GgufModel.open(file)) {
      TensorErrors errors = measure(model, null, gram.source(), ALL_ROWS, TensorType.Q4_0, TensorType.Q8_0);
      assertTrue(errors.observed());
      for (TensorType type : List.of(TensorType.Q4_0, TensorType.Q8_0)) {
        double[] expected = expected(model.tensors().getFirst(), 0, type, null, gram.full());
        assertEquals(expected[1], errors.energy(), 1e-5 * expected[1]);
        assertEquals(expected[0] / expected[1], errors.relative().get(type), (1e-4 * expected[0]) / expected[1]);
      }
      assertEquals(0, errors.relative().get(TensorType.BF16));
    }
  }

  @Test
  void weighsExpertsByTheirTokensAndEncodesWithTheirImportance() throws IOException, InterruptedException {
    TestModels models = new TestModels().tensor("blk.0.ffn_up_exps.weight", TensorType.F32, 256, 40, 3);
    Map<String, float[]> importance = models.importance();
    List<TestGram> grams = List.of(
      TestGram.correlated(256, 700, 1),
      TestGram.correlated(256, 0, 2),
      TestGram.correlated(256, 300, 3)
    );
    try (
      GgufModel model = GgufModel.open(models.write(folder.resolve("m.gguf")));
      ImportanceMatrix matrix = ImportanceMatrix.open(TestModels.write(folder.resolve("i.dat"), importance))
    ) {
      GramSource source = (_, expert) -> Optional.of(grams.get(expert));
      TensorErrors errors = measure(model, matrix, source, ALL_ROWS, TensorType.Q3_K);
      Tensor tensor = model.tensors().getFirst();
      float[] weights = importance.get("blk.0.ffn_up_exps.weight");
      double[] first = expected(tensor, 0, TensorType.Q3_K, weights, grams.get(0).full());
      double[] third = expected(tensor, 2, TensorType.Q3_K, weights, grams.get(2).full());
      double energy = 0.7 * first[1] + 0.3 * third[1];
      assertEquals(energy, errors.energy(), 1e-5 * energy);
      double relative = (0.7 * first[0] + 0.3 * third[0]) / energy;
      assertEquals(relative, errors.relative().get(TensorType.Q3_K), 1e-4 * relative);
    }
  }

  @Test
  void measuresPlainErrorsWithoutAGramMatrix() throws IOException, InterruptedException {
    TestModels models = new TestModels().tensor("token_embd.weight", TensorType.BF16, 256, 100);
    Map<String, float[]> importance = models.importance();
    try (
      GgufModel model = GgufModel.open(models.write(folder.resolve("m.gguf")));
      ImportanceMatrix matrix = ImportanceMatrix.open(TestModels.write(folder.resolve("i.dat"), importance))
    ) {
      for (ImportanceMatrix weighed : new ImportanceMatrix[] { null, matrix }) {
        float[] weights = weighed == null ? null : importance.get("token_embd.weight");
        double[][] diagonal = new double[256][256];
        for (int i = 0; i < 256; i++) {
          diagonal[i][i] = weights == null ? 1 : weights[i];
        }
        double[] expected = expected(model.tensors().getFirst(), 0, TensorType.Q5_K, weights, diagonal);
        TensorErrors errors = measure(model, weighed, GramSource.NONE, ALL_ROWS, TensorType.Q5_K);
        assertFalse(errors.observed());
        assertEquals(expected[1] / 100, errors.energy(), 1e-9 * expected[1]);
        assertEquals(expected[0] / expected[1], errors.relative().get(TensorType.Q5_K), 1e-9);
      }
    }
  }

  @Test
  void takesSomeRowsForAll() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 3000)
      .write(folder.resolve("m.gguf"));
    TestGram gram = TestGram.correlated(256, 100, 5);
    try (GgufModel model = GgufModel.open(file)) {
      TensorErrors all = measure(model, null, gram.source(), ALL_ROWS, TensorType.Q4_K, TensorType.Q2_K);
      OutputErrors.Settings few = new OutputErrors.Settings(500, 1);
      TensorErrors sample = measure(model, null, gram.source(), few, TensorType.Q4_K, TensorType.Q2_K);
      assertEquals(all.energy(), sample.energy(), 0.2 * all.energy());
      for (TensorType type : List.of(TensorType.Q4_K, TensorType.Q2_K)) {
        double expected = all.relative().get(type);
        assertEquals(expected, sample.relative().get(type), 0.2 * expected);
      }
      assertFalse(all.energy() == sample.energy());
      // The number of threads does not matter.
      OutputErrors.Settings threads = new OutputErrors.Settings(500, 5);
      assertEquals(sample, measure(model, null, gram.source(), threads, TensorType.Q4_K, TensorType.Q2_K));
    }
  }

  @Test
  void findsTypesThatCannotHoldAValue() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, x -> x[700] = 3e38f, 256, 8)
      .write(folder.resolve("m.gguf"));
    try (GgufModel model = GgufModel.open(file)) {
      TensorErrors errors = measure(model, null, GramSource.NONE, ALL_ROWS, TensorType.Q8_0, TensorType.F32);
      assertEquals(Double.POSITIVE_INFINITY, errors.relative().get(TensorType.Q8_0));
      assertEquals(0, errors.relative().get(TensorType.F32));
    }
  }

  @Test
  void givesNoErrorToATensorOfZeros() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, x -> Arrays.fill(x, 0), 256, 8)
      .write(folder.resolve("m.gguf"));
    try (GgufModel model = GgufModel.open(file)) {
      TensorErrors errors = measure(model, null, GramSource.NONE, ALL_ROWS, TensorType.Q4_K);
      assertEquals(0, errors.relative().get(TensorType.Q4_K));
    }
  }

  @Test
  void refusesWhatDoesNotFitOrIsNotFinite() throws IOException {
    Path file = new TestModels().tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 8).write(folder.resolve("m.gguf"));
    try (GgufModel model = GgufModel.open(file)) {
      GramSource small = TestGram.correlated(32, 100, 5).source();
      String message = assertThrows(QuantizationException.class, () ->
        measure(model, null, small, ALL_ROWS, TensorType.Q4_K)
      ).getMessage();
      assertEquals("blk.0.attn_q.weight: a Gram matrix of 32 columns in 2112 bytes, expected 256 in 131584", message);
      TestGram gram = TestGram.correlated(256, 100, 5);
      gram.set(7, 9, Float.NaN);
      message = assertThrows(QuantizationException.class, () ->
        measure(model, null, gram.source(), ALL_ROWS, TensorType.Q4_K)
      ).getMessage();
      assertEquals("blk.0.attn_q.weight: the Gram matrix of its input gives its output an energy of NaN", message);
    }
    Path bad = new TestModels()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, x -> x[256 * 5 + 3] = Float.NaN, 256, 8)
      .write(folder.resolve("bad.gguf"));
    try (GgufModel model = GgufModel.open(bad)) {
      String message = assertThrows(FormatException.class, () ->
        measure(model, null, GramSource.NONE, ALL_ROWS, TensorType.Q4_K)
      ).getMessage();
      assertTrue(message.contains("tensor blk.0.attn_q.weight, row 5, column 3"), message);
    }
  }
}
