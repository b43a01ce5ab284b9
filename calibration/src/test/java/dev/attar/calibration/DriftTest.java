package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.FormatException;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DriftTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final Path BIASED = Path.of("../formats/src/test/resources/checkpoints/llama-yarn");
  private static final String REPLACED = "blk.0.ffn_up.weight";
  // A window of two batches.
  private static final Calibrator.Settings SETTINGS = settings(520, 520);

  @TempDir
  private static Path folder;

  private static Path model;
  private static Calibrator calibrator;
  private static List<String> weights;
  private static GramStore unchanged; // with nothing replaced
  private static GramStore drifted; // with one weight replaced

  private static Calibrator.Settings settings(int tokens, int context) {
    return new Calibrator.Settings(
      List.of(TEXT),
      tokens,
      context,
      1,
      DeviceChoice.CPU,
      false,
      true,
      Duration.ofMinutes(2)
    );
  }

  @BeforeAll
  static void measure() throws IOException {
    model = TestModels.convert(TestModels.SAMPLE, folder.resolve("sample.gguf"));
    calibrator = Calibrator.open(model, SETTINGS, (_, _, _) -> {});
    weights = weights(calibrator);
    unchanged = GramStore.open(folder.resolve("unchanged"), "unchanged");
    calibrator.grams(List.of(), weights, unchanged);
    replace(calibrator, model, REPLACED, TensorType.Q2_K);
    drifted = GramStore.open(folder.resolve("drifted"), "drifted");
    calibrator.grams(all(calibrator), weights, drifted);
  }

  @AfterAll
  static void close() {
    calibrator.close();
  }

  private static List<String> weights(Calibrator of) {
    return of
      .inputs()
      .stream()
      .flatMap(input -> input.weights().stream())
      .toList();
  }

  private static List<GramRequest> all(Calibrator of) {
    return of.inputs().stream().map(GramRequest::all).toList();
  }

  private static void replace(Calibrator in, Path of, String tensor, TensorType type) throws IOException {
    TensorInfo as = TestModels.info(of, tensor, type);
    Path encoded = folder.resolve(of.getFileName() + "." + type);
    in.replace(tensor, type, Files.write(encoded, TestModels.encode(TestModels.values(of, tensor), as)));
  }

  private static float[] drift(GramStore store, String weight) throws IOException {
    try (Drift drift = store.findDrift(weight).orElseThrow()) {
      float[] values = drift.values().toArray(JAVA_FLOAT_UNALIGNED);
      assertEquals(values.length, drift.rows() * drift.columns());
      return values;
    }
  }

  private static float largest(float[] values) {
    float largest = 0;
    for (float value : values) {
      largest = Math.max(largest, Math.abs(value));
    }
    return largest;
  }

  @Test
  void nothingDriftsBeforeAWeightIsReplaced() throws IOException {
    assertEquals(28, weights.size());
    for (String weight : weights) {
      float[] before = drift(unchanged, weight);
      assertTrue(largest(before) < 1e-5, () -> weight + " " + largest(before));
    }
  }

  @Test
  void onlyWhatComesAfterTheReplacedWeightDrifts() throws IOException {
    int replaced = weights.indexOf(REPLACED);
    for (int i = 0; i < weights.size(); i++) {
      float largest = largest(drift(drifted, weights.get(i)));
      boolean after = i >= replaced && !weights.get(i).equals("blk.0.ffn_gate.weight");
      assertEquals(after, largest > 1e-3, weights.get(i) + " " + largest);
    }
  }

  @Test
  void theShapeIsTheWeights() throws IOException {
    try (Drift drift = drifted.findDrift("blk.1.ffn_down.weight").orElseThrow()) {
      assertEquals(List.of(256, 512, 520L), List.of(drift.rows(), drift.columns(), drift.tokens()));
    }
  }

  @Test
  void isThatOfTheDefinition() throws IOException {
    Path variant = variant(TestModels.SAMPLE, "variant.gguf", REPLACED, TensorType.Q2_K);
    Map<String, String> places = Map.of(
      "blk.1.attn_q.weight",
      "",
      "blk.1.ffn_gate.weight",
      "",
      "blk.1.attn_output.weight",
      "ffn_inp-1",
      "blk.1.ffn_down.weight",
      "l_out-1",
      "blk.3.attn_output.weight",
      "ffn_inp-3",
      "blk.3.ffn_down.weight",
      "l_out-3"
    );
    requireDefinition(drifted, model, variant, SETTINGS, places);
  }

  @Test
  void aBiasPrecedesTheResidualStream() throws IOException {
    Path biased = TestModels.convert(BIASED, folder.resolve("biased.gguf"));
    Calibrator.Settings settings = settings(128, 64);
    GramStore store = GramStore.open(folder.resolve("biased"), "biased");
    Map<String, String> places = Map.of(
      "blk.0.attn_output.weight",
      "ffn_inp-0",
      "blk.0.ffn_up.weight",
      "",
      "blk.0.ffn_down.weight",
      "l_out-0",
      "blk.1.attn_k.weight",
      "",
      "blk.1.attn_output.weight",
      "ffn_inp-1",
      "blk.1.ffn_down.weight",
      "l_out-1"
    );
    try (Calibrator of = Calibrator.open(biased, settings, (_, _, _) -> {})) {
      replace(of, biased, "blk.0.attn_v.weight", TensorType.Q4_0);
      of.grams(List.of(), List.copyOf(places.keySet()), store);
    }
    Path variant = variant(BIASED, "biased-variant.gguf", "blk.0.attn_v.weight", TensorType.Q4_0);
    requireDefinition(store, biased, variant, settings, places);
  }

  /** The checkpoint with a tensor as coarse as an encoding has it. */
  private static Path variant(Path checkpoint, String name, String tensor, TensorType type) throws IOException {
    return TestModels.convert(
      checkpoint,
      folder.resolve(name),
      metadata -> metadata,
      (info, values) -> {
        if (info.name().equals(tensor)) {
          byte[] encoded = TestModels.encode(values, info.withType(type));
          BlockDecoders.of(type).decode(encoded, 0, values, 0, values.length);
        }
        return values;
      }
    );
  }

  /**
   * Compares with plain loops over what two models compute.
   *
   * @param places the names of the nodes that hold y, empty for the product itself, by weight
   */
  private static void requireDefinition(
    GramStore store,
    Path base,
    Path running,
    Calibrator.Settings settings,
    Map<String, String> places
  ) throws IOException {
    Map<String, float[]> ofBase = dump(base, settings, places);
    Map<String, float[]> ofRunning = dump(running, settings, places);
    int tokens = (int) settings.tokens();
    for (String weight : places.keySet()) {
      float[] x = ofRunning.get("x " + weight);
      float[] yBase = ofBase.get("y " + weight);
      float[] yRunning = ofRunning.get("y " + weight);
      int rows = yBase.length / tokens;
      int columns = x.length / tokens;
      float[] found = drift(store, weight);
      assertEquals(rows * columns, found.length);
      double[] expected = new double[found.length];
      for (int token = 0; token < tokens; token++) {
        for (int row = 0; row < rows; row++) {
          double difference = (double) yBase[token * rows + row] - yRunning[token * rows + row];
          for (int column = 0; column < columns; column++) {
            expected[row * columns + column] += (difference * x[token * columns + column]) / tokens;
          }
        }
      }
      float largest = largest(found);
      assertTrue(largest > 0, weight);
      for (int i = 0; i < found.length; i++) {
        assertEquals(expected[i], found[i], 1e-4 * largest, weight);
      }
    }
  }

  private static Map<String, float[]> dump(Path file, Calibrator.Settings settings, Map<String, String> places)
    throws IOException {
    Map<String, float[]> dumped = new HashMap<>();
    NodeObserver observer = new NodeObserver() {
      @Override
      public boolean wants(Node node) {
        return places.containsKey(weight(node)) || (!node.name().isEmpty() && places.containsValue(node.name()));
      }

      @Override
      public boolean computed(Node node) {
        String weight = weight(node);
        if (places.containsKey(weight)) {
          append("x " + weight, node.source(1).orElseThrow());
        }
        places.forEach((of, place) -> {
          if (place.isEmpty() ? of.equals(weight) : place.equals(node.name())) {
            append("y " + of, node);
          }
        });
        return true;
      }

      private String weight(Node node) {
        return node.op() == Node.Op.MUL_MAT ? node.source(0).orElseThrow().name() : "";
      }

      private void append(String key, Node node) {
        assertEquals(node.bytes(), Float.BYTES * node.ne(0) * node.ne(1));
        float[] values = node.data().toArray(JAVA_FLOAT_UNALIGNED);
        float[] before = dumped.getOrDefault(key, new float[0]);
        float[] both = new float[before.length + values.length];
        System.arraycopy(before, 0, both, 0, before.length);
        System.arraycopy(values, 0, both, before.length, values.length);
        dumped.put(key, both);
      }
    };
    LlamaModel.Options plain = new LlamaModel.Options(OptionalInt.of(0), false, true, null);
    int window = settings.context();
    // Of the same size as the worker's: values are rounded to bfloat16 on the way, and the least difference can grow there.
    int size = Math.min(512, window);
    try (
      LlamaModel opened = LlamaModel.open(file, plain);
      LlamaContext context = opened.context(new LlamaContext.Options(window, size, size, 1, 1), observer);
      Batch batch = new Batch(size)
    ) {
      TokenWindows windows = TokenWindows.read(
        opened.tokens(),
        settings.texts(),
        OptionalLong.of(settings.tokens()),
        window,
        () -> {}
      );
      for (int i = 0; i < windows.count(); i++) {
        context.clear();
        for (int from = 0; from < window; from += size) {
          batch.clear();
          for (int position = from; position < Math.min(window, from + size); position++) {
            batch.add(windows.token(i, position), position, 0, true);
          }
          assertTrue(context.decode(batch));
        }
      }
    }
    return dumped;
  }

  @Test
  void doesNotDependOnWhatIsMeasuredWithIt() throws IOException {
    List<String> some = List.of("blk.2.attn_v.weight", "blk.1.attn_output.weight");
    GramRequest gram = all(calibrator).get(2);
    for (String name : List.of("again", "and again")) {
      GramStore again = GramStore.open(folder.resolve(name), "drifted");
      calibrator.grams(List.of(gram), some, again);
      for (String weight : some) {
        assertArrayEquals(drift(drifted, weight), drift(again, weight));
      }
      assertEquals(-1, Files.mismatch(drifted.file(gram), again.file(gram)));
      try (Stream<Path> files = Files.list(again.folder())) {
        assertEquals(3, files.count());
      }
    }
    GramStore alone = GramStore.open(folder.resolve("alone"), "drifted");
    calibrator.grams(List.of(gram), alone);
    assertEquals(-1, Files.mismatch(drifted.file(gram), alone.file(gram)));
  }

  @Test
  void computesAsFarAsBothObserversNeed() throws IOException {
    LinearInput input = calibrator.inputs().get(5);
    String output = "blk.0.attn_output.weight";
    List<String> seen = new ArrayList<>();
    for (boolean inputIsLast : new boolean[] { true, false }) {
      for (boolean stops : new boolean[] { true, false }) {
        String weight = inputIsLast ? output : "blk.2.ffn_down.weight";
        ObserverPair pair = new ObserverPair(
          new InputObserver("m", List.of(input), stops, (of, _) -> seen.add(of.name()), () -> {}),
          new OutputObserver("m", Set.of(weight), Set.of(weight), stops, (of, _) -> seen.add(of), () -> {})
        );
        try (
          LlamaModel opened = LlamaModel.open(model, new LlamaModel.Options(OptionalInt.of(0), false, true, null));
          LlamaContext context = opened.context(new LlamaContext.Options(256, 8, 8, 1, 1), pair);
          Batch batch = new Batch(8)
        ) {
          for (int position = 0; position < 3; position++) {
            batch.clear();
            batch.add(5, position, 0, true);
            seen.clear();
            assertEquals(!stops, context.decode(batch));
            assertEquals(inputIsLast ? List.of(output, input.name()) : List.of(input.name(), weight), seen);
          }
        }
      }
    }
  }

  @Test
  void expertsHaveNoDrift() throws IOException {
    Path experts = TestModels.convert(TestModels.EXPERTS, folder.resolve("experts.gguf"));
    GramStore store = GramStore.open(folder.resolve("experts"), "experts");
    try (Calibrator of = Calibrator.open(experts, settings(64, 32), (_, _, _) -> {})) {
      of.grams(List.of(), List.of("blk.0.ffn_up_exps.weight"), store);
      replace(of, experts, "blk.0.attn_v.weight", TensorType.Q4_0);
      of.grams(all(of), weights(of), store);
      for (LinearInput input : of.inputs()) {
        assertTrue(store.contains(GramRequest.all(input)));
        for (String weight : input.weights()) {
          assertEquals(
            input.experts() == 1,
            store
              .findDrift(weight)
              .map(drift -> close(drift))
              .isPresent(),
            weight
          );
        }
      }
    }
    assertTrue(largest(drift(store, "blk.1.attn_q.weight")) > 0);
  }

  private static boolean close(Drift drift) {
    drift.close();
    return true;
  }

  @Test
  void asksForAWritableModelAndItsWeights() throws IOException {
    Exception unknown = assertThrows(IllegalArgumentException.class, () ->
      calibrator.grams(List.of(), List.of("blk.9.attn_q.weight"), drifted)
    );
    assertTrue(unknown.getMessage().contains("blk.9.attn_q.weight"), unknown.getMessage());
    Calibrator.Settings mapped = new Calibrator.Settings(
      List.of(TEXT),
      64,
      64,
      1,
      DeviceChoice.CPU,
      false,
      false,
      Duration.ofMinutes(2)
    );
    try (Calibrator of = Calibrator.open(model, mapped, (_, _, _) -> {})) {
      assertThrows(IllegalStateException.class, () -> of.grams(List.of(), List.of(REPLACED), drifted));
    }
  }

  @Test
  void theStoreFindsAndDeletesWhatIsWhole() throws IOException {
    String weight = "blk.1.attn_q.weight";
    GramStore store = GramStore.open(folder.resolve("store"), "drifted");
    assertTrue(store.findDrift(weight).isEmpty());
    Files.copy(drifted.driftFile(weight), store.driftFile(weight));
    assertArrayEquals(drift(drifted, weight), drift(store, weight));

    GramStore other = GramStore.open(folder.resolve("store"), "another model");
    Exception identity = assertThrows(FormatException.class, () -> other.findDrift(weight));
    assertTrue(identity.getMessage().contains("another model"), identity.getMessage());

    Files.copy(drifted.driftFile(weight), store.driftFile("blk.2.attn_q.weight"));
    assertThrows(FormatException.class, () -> store.findDrift("blk.2.attn_q.weight"));
    GramRequest gram = all(calibrator).getFirst();
    Files.copy(drifted.file(gram), store.driftFile(gram.input().name()));
    assertThrows(FormatException.class, () -> store.findDrift(gram.input().name()));

    byte[] bytes = Files.readAllBytes(store.driftFile(weight));
    for (int length : new int[] { 0, 20, 200, bytes.length - 1 }) {
      Files.write(store.driftFile(weight), Arrays.copyOf(bytes, length));
      assertThrows(IOException.class, () -> store.findDrift(weight));
    }
    store.deleteDrift(weight);
    store.deleteDrift(weight);
    assertTrue(store.findDrift(weight).isEmpty());
  }

  @Test
  void thePlanCountsWhatADriftTakes() {
    // The sum; 520 results; differences of 512, and 512 rows of inputs twice.
    assertEquals(4 * (256 * 512 + 520 * 256 + 512 * 256 + 2 * 512 * 512), GramPlan.driftBytes(256, 512, 520));
    assertEquals(
      4L * (100_000L * 50_000 + 32 * 100_000 + 32 * 100_000 + 2 * 32 * 50_000),
      GramPlan.driftBytes(100_000, 50_000, 32)
    );
  }
}
