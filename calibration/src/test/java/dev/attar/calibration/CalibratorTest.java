package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.NativeFailure;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CalibratorTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int CONTEXT = 512;
  private static final int WINDOWS = 4;
  private static final int THREADS = 1; // ggml's would spend more time on one another than on so little
  private static final CalibrationListener NOBODY = (_, _, _) -> {};

  @TempDir
  private static Path models;

  private static Path sample;
  private static Path experts;
  private static Calibrator calibrator;

  @TempDir
  private Path folder;

  @BeforeAll
  static void open() throws IOException {
    sample = TestModels.convert(TestModels.SAMPLE, models.resolve("sample.gguf"));
    experts = TestModels.convert(TestModels.EXPERTS, models.resolve("experts.gguf"));
    calibrator = Calibrator.open(sample, settings(WINDOWS * CONTEXT, CONTEXT, TEXT), NOBODY);
  }

  @AfterAll
  static void close() {
    calibrator.close();
  }

  private static Calibrator.Settings settings(long tokens, int context, Path... texts) {
    return new Calibrator.Settings(
      List.of(texts),
      tokens,
      context,
      THREADS,
      DeviceChoice.CPU,
      false,
      false,
      Duration.ofSeconds(60)
    );
  }

  private static Calibrator.Settings writable() {
    return new Calibrator.Settings(
      List.of(TEXT),
      2L * CONTEXT,
      CONTEXT,
      THREADS,
      DeviceChoice.CPU,
      false,
      true,
      Duration.ofSeconds(60)
    );
  }

  private static LinearInput input(Calibrator calibrator, String weight) {
    return calibrator
      .inputs()
      .stream()
      .filter(input -> input.weights().contains(weight))
      .findFirst()
      .orElseThrow();
  }

  private static void assertClose(double expected, double actual, double tolerance, String what) {
    assertTrue(
      Math.abs(actual - expected) <= tolerance * Math.abs(expected),
      () -> what + ": " + actual + ", expected " + expected
    );
  }

  /** Compares with what llama-imatrix wrote. Its own sums are in single precision. */
  private static void assertSameImportance(String golden, Path found) throws IOException {
    try (
      ImportanceMatrix theirs = ImportanceMatrix.open(Path.of("src/test/resources/imatrix", golden));
      ImportanceMatrix ours = ImportanceMatrix.open(found)
    ) {
      assertEquals(List.copyOf(theirs.tensors()), List.copyOf(ours.tensors()));
      assertEquals(theirs.chunks(), ours.chunks());
      assertEquals(theirs.datasets().size(), ours.datasets().size());
      for (String tensor : theirs.tensors()) {
        float[] expected = theirs.weights(tensor).orElseThrow();
        float[] actual = ours.weights(tensor).orElseThrow();
        assertEquals(expected.length, actual.length, tensor);
        for (int i = 0; i < expected.length; i++) {
          assertClose(expected[i], actual[i], 0.005, tensor + ", column " + i);
        }
      }
    }
  }

  @Test
  void importanceIsThatOfLlamaImatrix() throws IOException {
    Path out = folder.resolve("sample.gguf");
    calibrator.importance(out);
    assertSameImportance("sample.gguf", out);
  }

  @Test
  void importanceOfExpertsIsThatOfLlamaImatrix() throws IOException {
    try (Calibrator moe = Calibrator.open(experts, settings(6 * 128, 128, TEXT), NOBODY)) {
      Path out = folder.resolve("experts.gguf");
      moe.importance(out);
      assertSameImportance("mixtral.gguf", out);
    }
  }

  @Test
  void findsTheInputsInTheOrderOfTheComputation() {
    List<LinearInput> inputs = calibrator.inputs();
    assertEquals(4 * 4, inputs.size());
    assertEquals("blk.0.attn_q.weight", inputs.getFirst().name());
    assertEquals(
      List.of("blk.0.attn_k.weight", "blk.0.attn_q.weight", "blk.0.attn_v.weight"),
      inputs.getFirst().weights().stream().sorted().toList()
    );
    assertEquals(256, inputs.getFirst().columns());
    assertEquals(new LinearInput("blk.3.ffn_down.weight", List.of("blk.3.ffn_down.weight"), 512, 1), inputs.getLast());
    assertEquals(
      List.of("blk.2.ffn_gate.weight", "blk.2.ffn_up.weight"),
      input(calibrator, "blk.2.ffn_up.weight").weights()
    );
    assertEquals(WINDOWS, calibrator.windows());
    assertEquals(WINDOWS * CONTEXT, calibrator.tokens());
    assertEquals(List.of(), calibrator.warnings());
  }

  @Test
  void theOutputHeadIsAnInputWhereItIsWanted() throws IOException {
    Calibrator.Settings settings = new Calibrator.Settings(
      List.of(TEXT),
      64,
      64,
      2,
      DeviceChoice.CPU,
      true,
      false,
      Duration.ofSeconds(60)
    );
    try (Calibrator calibrator = Calibrator.open(sample, settings, NOBODY)) {
      // Tied: the head is the token embedding.
      assertEquals("token_embd.weight", calibrator.inputs().getLast().name());
      Path out = folder.resolve("head.gguf");
      calibrator.importance(out);
      try (ImportanceMatrix importance = ImportanceMatrix.open(out)) {
        assertEquals(OptionalInt.of(256), importance.columns("token_embd.weight"));
      }
    }
  }

  @Test
  void theDiagonalOfAGramMatrixIsTheImportance() throws IOException {
    Path out = folder.resolve("importance.gguf");
    GramStore store = GramStore.open(folder.resolve("gram"), "test");
    List<GramRequest> all = calibrator.inputs().stream().map(GramRequest::all).toList();
    List<Integer> heard = new ArrayList<>();
    calibrator.importance(out);
    try (
      Calibrator other = Calibrator.open(sample, settings(WINDOWS * CONTEXT, CONTEXT, TEXT), (phase, done, windows) -> {
        assertEquals(CalibrationListener.Phase.GRAMS, phase);
        assertEquals(WINDOWS, windows);
        heard.add(done);
      })
    ) {
      other.grams(all, store);
    }
    assertEquals(List.of(1, 2, 3, 4), heard);
    try (ImportanceMatrix importance = ImportanceMatrix.open(out)) {
      for (GramRequest request : all) {
        float[] expected = importance.weights(request.input().name()).orElseThrow();
        try (Gram gram = store.find(request).orElseThrow()) {
          assertEquals(WINDOWS * CONTEXT, gram.tokens());
          assertEquals(expected.length, gram.columns());
          for (int i = 0; i < expected.length; i++) {
            assertClose(expected[i], gram.get(i, i), 1e-5, request + ", column " + i);
          }
        }
      }
    }
  }

  /** Copies what enters one layer. */
  private static final class Dump implements NodeObserver {

    private final String weight;
    private final List<float[]> rows = new ArrayList<>();

    Dump(String weight) {
      this.weight = weight;
    }

    @Override
    public boolean wants(Node node) {
      return node.op() == Node.Op.MUL_MAT && node.source(0).orElseThrow().name().equals(weight);
    }

    @Override
    public boolean computed(Node node) {
      Node input = node.source(1).orElseThrow();
      for (int i = 0; i < input.ne(1); i++) {
        float[] row = new float[(int) input.ne(0)];
        MemorySegment.copy(input.data(), JAVA_FLOAT, i * input.nb(1), row, 0, row.length);
        rows.add(row);
      }
      return true;
    }
  }

  /** What enters a layer in the text's first windows, each computed in one piece. */
  private static List<float[]> activations(String weight, int context, int windows) throws IOException {
    Dump dump = new Dump(weight);
    try (
      LlamaModel model = LlamaModel.open(sample, LlamaModel.Options.defaults());
      LlamaContext running = model.context(new LlamaContext.Options(context, context, context, 1, 2), dump);
      Batch batch = new Batch(context)
    ) {
      int[] tokens = model.tokens().encode(Files.readAllBytes(TEXT), true, false);
      for (int window = 0; window < windows; window++) {
        running.clear();
        batch.clear();
        for (int i = 0; i < context; i++) {
          int token = i == 0 ? model.tokens().bos().orElseThrow() : tokens[window * context + i];
          batch.add(token, i, 0, true);
        }
        running.decode(batch);
      }
    }
    return dump.rows;
  }

  @Test
  void aGramMatrixIsTheMeanProductOfTheActivations() throws IOException {
    // A window of more tokens than are computed at once; more columns than a tile would have are tested with RowBatch.
    int context = 700;
    String weight = "blk.2.ffn_down.weight";
    GramStore store = GramStore.open(folder.resolve("gram"), "test");
    try (Calibrator calibrator = Calibrator.open(sample, settings(2 * context, context, TEXT), NOBODY)) {
      calibrator.grams(List.of(GramRequest.all(input(calibrator, weight))), store);
      List<float[]> rows = activations(weight, context, 2);
      assertEquals(2 * context, rows.size());
      double[][] expected = products(rows);
      try (Gram gram = store.find(GramRequest.all(input(calibrator, weight))).orElseThrow()) {
        assertEquals(2 * context, gram.tokens());
        for (int i = 0; i < expected.length; i++) {
          for (int j = i; j < expected.length; j++) {
            double scale = Math.sqrt(expected[i][i] * expected[j][j]);
            assertEquals(expected[i][j], gram.get(i, j), 1e-4 * scale, "element " + i + ", " + j);
            assertEquals(gram.get(i, j), gram.get(j, i));
          }
        }
      }
    }
  }

  private static double[][] products(List<float[]> rows) {
    int columns = rows.getFirst().length;
    double[][] sums = new double[columns][columns];
    for (float[] row : rows) {
      for (int i = 0; i < columns; i++) {
        for (int j = i; j < columns; j++) {
          sums[i][j] += ((double) row[i] * row[j]) / rows.size();
        }
      }
    }
    return sums;
  }

  @Test
  void passesDoNotChangeTheResult() throws IOException {
    List<GramRequest> all = calibrator.inputs().subList(0, 8).stream().map(GramRequest::all).toList();
    GramStore once = GramStore.open(folder.resolve("once"), "test");
    GramStore parts = GramStore.open(folder.resolve("parts"), "test");
    calibrator.grams(all, once);
    List<List<GramRequest>> passes = GramPlan.passes(all, 4 << 20, GramPlan.TILE);
    assertTrue(passes.size() > 2);
    for (List<GramRequest> pass : passes.reversed()) {
      calibrator.grams(pass, parts);
    }
    for (GramRequest request : all) {
      assertEquals(-1, Files.mismatch(once.file(request), parts.file(request)), request.toString());
    }
  }

  @Test
  void expertsHaveMatricesOfTheirOwnAndOneTogether() throws IOException {
    try (Calibrator moe = Calibrator.open(experts, settings(6 * 128, 128, TEXT), NOBODY)) {
      Path out = folder.resolve("importance.gguf");
      moe.importance(out);
      GramStore store = GramStore.open(folder.resolve("gram"), "test");
      LinearInput up = input(moe, "blk.1.ffn_up_exps.weight");
      LinearInput down = input(moe, "blk.1.ffn_down_exps.weight");
      assertEquals(
        List.of("blk.1.ffn_gate_exps.weight", "blk.1.ffn_up_exps.weight"),
        up.weights().stream().sorted().toList()
      );
      assertEquals(3, up.experts());
      List<GramRequest> wanted = new ArrayList<>();
      for (LinearInput input : List.of(up, down)) {
        for (int expert = 0; expert < 3; expert++) {
          wanted.add(new GramRequest(input, expert));
        }
        wanted.add(GramRequest.all(input));
      }
      moe.grams(wanted, store);
      try (ImportanceMatrix importance = ImportanceMatrix.open(out)) {
        // The token counts are llama-imatrix's.
        assertExperts(store, up, importance, 1);
        assertExperts(store, down, importance, 2);
      }
    }
  }

  /**
   * @param rowsPerToken how many rows the experts of a token share out among them: one that all meet, or one for each
   */
  private static void assertExperts(GramStore store, LinearInput input, ImportanceMatrix importance, int rowsPerToken)
    throws IOException {
    long[] counts = { 738, 322, 476 };
    int n = input.columns();
    double[][] sums = new double[n][n];
    float[] weights = importance.weights(input.name()).orElseThrow();
    for (int expert = 0; expert < 3; expert++) {
      try (Gram gram = store.find(new GramRequest(input, expert)).orElseThrow()) {
        assertEquals(counts[expert], gram.tokens());
        for (int i = 0; i < n; i++) {
          assertClose(weights[expert * n + i], gram.get(i, i), 1e-4, input + ", expert " + expert + ", column " + i);
          for (int j = 0; j < n; j++) {
            sums[i][j] += ((double) gram.get(i, j) * counts[expert]) / Arrays.stream(counts).sum();
          }
        }
      }
    }
    try (Gram pooled = store.find(new GramRequest(input, GramRequest.POOLED)).orElseThrow()) {
      assertEquals(768L * rowsPerToken, pooled.tokens());
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          double scale = Math.sqrt(sums[i][i] * sums[j][j]);
          assertEquals(sums[i][j], pooled.get(i, j), 1e-5 * scale);
        }
      }
    }
  }

  @Test
  void aReplacedWeightActsAsIfTheFileHadIt() throws IOException {
    String weight = "blk.0.ffn_down.weight";
    TensorInfo q4 = TestModels.info(sample, weight, TensorType.Q4_0);
    byte[] encoded = TestModels.encode(TestModels.values(sample, weight), q4);
    float[] decoded = new float[(int) q4.elements()];
    BlockDecoders.of(TensorType.Q4_0).decode(encoded, 0, decoded, 0, decoded.length);
    Path file = Files.write(folder.resolve("encoded"), encoded);
    Path changed = TestModels.convert(
      TestModels.SAMPLE,
      folder.resolve("changed.gguf"),
      metadata -> metadata,
      (tensor, values) -> tensor.name().equals(weight) ? decoded : values
    );
    GramStore before = GramStore.open(folder.resolve("before"), "test");
    GramStore after = GramStore.open(folder.resolve("after"), "test");
    GramStore expected = GramStore.open(folder.resolve("expected"), "test");
    GramRequest itself;
    GramRequest later;
    try (Calibrator calibrator = Calibrator.open(sample, writable(), NOBODY)) {
      itself = GramRequest.all(input(calibrator, weight));
      later = GramRequest.all(input(calibrator, "blk.1.ffn_up.weight"));
      calibrator.grams(List.of(itself, later), before);
      calibrator.replace(weight, TensorType.Q4_0, file);
      calibrator.grams(List.of(itself, later), after);
    }
    try (Calibrator calibrator = Calibrator.open(changed, writable(), NOBODY)) {
      calibrator.grams(List.of(itself, later), expected);
    }
    assertEquals(-1, Files.mismatch(before.file(itself), after.file(itself)));
    assertNotEquals(-1, Files.mismatch(before.file(later), after.file(later)));
    assertEquals(-1, Files.mismatch(expected.file(later), after.file(later)));
  }

  @Test
  void aReplacementMustFit() throws IOException {
    Path file = Files.write(folder.resolve("short"), new byte[100]);
    Calibrator.Settings settings = writable();
    try (Calibrator calibrator = Calibrator.open(sample, settings, NOBODY)) {
      IOException e = assertThrows(IOException.class, () ->
        calibrator.replace("blk.0.ffn_down.weight", TensorType.Q4_0, file)
      );
      assertEquals(
        file + ": size: found 100 bytes, expected " + (256 * 512 * 18) / 32 + " for blk.0.ffn_down.weight in Q4_0",
        e.getMessage()
      );
    }
    assertThrows(IllegalStateException.class, () -> calibrator.replace("blk.0.ffn_down.weight", TensorType.Q4_0, file));
  }

  @Test
  void anExpertsWeightIsReplacedWhole() throws IOException {
    String weight = "blk.0.ffn_up_exps.weight";
    TensorInfo q8 = TestModels.info(experts, weight, TensorType.Q8_0);
    Path file = Files.write(folder.resolve("zeros"), new byte[(int) q8.bytes()]);
    GramStore store = GramStore.open(folder.resolve("gram"), "test");
    Calibrator.Settings settings = new Calibrator.Settings(
      List.of(TEXT),
      64,
      64,
      1,
      DeviceChoice.CPU,
      false,
      true,
      Duration.ofSeconds(60)
    );
    try (Calibrator moe = Calibrator.open(experts, settings, NOBODY)) {
      moe.replace(weight, TensorType.Q8_0, file);
      GramRequest down = GramRequest.all(input(moe, "blk.0.ffn_down_exps.weight"));
      moe.grams(List.of(down), store);
      try (Gram gram = store.find(down).orElseThrow()) {
        assertEquals(0, gram.get(3, 3)); // gate times up
      }
    }
  }

  @Test
  void aKilledWorkerLeavesNoHalfFileAndAnotherGoesOn() throws IOException {
    GramStore store = GramStore.open(folder.resolve("gram"), "test");
    GramRequest request = GramRequest.all(calibrator.inputs().getFirst());
    long[] pid = new long[1];
    CalibrationListener killer = (_, done, _) -> {
      if (done == 2) {
        ProcessHandle.of(pid[0]).orElseThrow().destroyForcibly();
      }
    };
    try (Calibrator doomed = Calibrator.open(sample, settings(64 * 32, 32, TEXT), killer)) {
      pid[0] = doomed.pid();
      NativeFailure e = assertThrows(NativeFailure.class, () -> doomed.grams(List.of(request), store));
      assertTrue(e.getMessage().contains("killed"), e.getMessage());
    }
    assertTrue(store.find(request).isEmpty());
    // As if it had been killed while it wrote.
    Path leftover = Files.write(store.folder().resolve(".blk.0.attn_q.weight.gguf.1f0e.part"), new byte[] { 1 });
    GramStore again = GramStore.open(store.folder(), "test");
    assertFalse(Files.exists(leftover));
    calibrator.grams(List.of(request), again);
    again.find(request).orElseThrow().close();
    try (Stream<Path> files = Files.list(again.folder())) {
      assertEquals(List.of(again.file(request)), files.toList());
    }
  }

  @Test
  void aValueThatIsNoNumberIsNamed() throws IOException {
    Path broken = TestModels.convert(
      TestModels.SAMPLE,
      folder.resolve("broken.gguf"),
      metadata -> metadata,
      (tensor, values) -> {
        if (tensor.name().equals("blk.1.ffn_norm.weight")) {
          values[7] = Float.NaN;
        }
        return values;
      }
    );
    try (Calibrator calibrator = Calibrator.open(broken, settings(64, 32, TEXT), NOBODY)) {
      IOException e = assertThrows(IOException.class, () -> calibrator.importance(folder.resolve("out.gguf")));
      assertTrue(
        e
          .getMessage()
          .endsWith("broken.gguf: what enters blk.1.ffn_gate.weight is not finite in window 1, column 7: NaN"),
        e.getMessage()
      );
      assertFalse(Files.exists(folder.resolve("out.gguf")));
    }
    try (Calibrator calibrator = Calibrator.open(broken, settings(64, 32, TEXT), NOBODY)) {
      GramStore store = GramStore.open(folder.resolve("gram"), "test");
      GramRequest request = GramRequest.all(input(calibrator, "blk.1.ffn_up.weight"));
      IOException e = assertThrows(IOException.class, () -> calibrator.grams(List.of(request), store));
      assertTrue(
        e.getMessage().endsWith("what enters blk.1.ffn_gate.weight is not finite in window 1, column 7: NaN"),
        e.getMessage()
      );
    }
  }

  @Test
  void windowsLongerThanInTrainingAreWarnedOf() throws IOException {
    try (Calibrator moe = Calibrator.open(experts, settings(300, 300, TEXT), NOBODY)) {
      assertEquals(1, moe.windows());
      assertEquals(List.of("windows of 300 tokens, the model was trained on 256"), moe.warnings());
    }
  }

  @Test
  void aTextOfNoUseIsRefusedInOneLine() throws IOException {
    Path text = Files.writeString(folder.resolve("short.txt"), "the hen in the wood");
    IOException e = assertThrows(IOException.class, () ->
      Calibrator.open(sample, settings(64, 64, text), NOBODY).close()
    );
    assertTrue(e.getMessage().matches("\\Q" + text + "\\E: \\d+ tokens, expected at least 64, the length of a window"));
  }
}
