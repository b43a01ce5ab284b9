package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.CalibrationListener;
import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.calibration.Gram;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.MemoryModel;
import dev.attar.compute.DeviceChoice;
import dev.attar.formats.Model;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.prune.PruneException;
import dev.attar.prune.structure.StructureResult.LayerReport;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StructureRunTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int TOKENS = 768;
  private static final int CONTEXT = 256;
  private static final int LAYERS = 4;
  private static final int NEURONS = 512;
  private static final int GROUPS = 4;
  private static final int WIDTH = 256; // of the embedding

  @TempDir
  private static Path models;

  private static Path file;
  private static TestModel model;

  @TempDir
  private Path folder;

  @BeforeAll
  static void write() throws IOException {
    model = TestModel.read(MemoryModel.SAMPLE);
    file = MemoryModel.write(model, models.resolve("model.gguf"));
  }

  /** Keeps what it hears. */
  private static final class Heard implements StructureListener {

    private final Set<String> phases = new HashSet<>();
    private final List<String> warnings = new ArrayList<>();

    @Override
    public void at(String phase, long done, long total, String unit) {
      assertTrue(done >= 0 && done <= total, phase + ": " + done + " of " + total);
      phases.add(phase + " " + unit);
    }

    @Override
    public void device(String line) {
      assertTrue(line.startsWith("device: cpu"), line);
    }

    @Override
    public void warn(String message) {
      warnings.add(message);
    }
  }

  private static StructureOptions options(
    Structure structure,
    int units,
    boolean nonUniform,
    boolean refit,
    long memory
  ) {
    return new StructureOptions(
      structure,
      new Ladder.Step(units, 0.25),
      nonUniform,
      64,
      refit,
      0.01,
      List.of(TEXT),
      TOKENS,
      CONTEXT,
      1,
      DeviceChoice.CPU,
      memory,
      Duration.ofSeconds(60)
    );
  }

  private static StructureOptions options(Structure structure, int units, boolean nonUniform, boolean refit) {
    return options(structure, units, nonUniform, refit, 4L << 30);
  }

  private static double[] nobody(List<Model> candidates, List<String> names) {
    throw new AssertionError("nothing is to be measured, but " + names + " is: " + candidates);
  }

  private StructureResult run(StructureOptions options, boolean sequential, DivergenceMeter meter, Heard heard)
    throws IOException, InterruptedException {
    Path work = Files.createTempDirectory(folder, "work");
    return StructureRun.run(model, file, options, sequential, work, meter, heard);
  }

  private static float[] floats(Path path) throws IOException {
    byte[] bytes = Files.readAllBytes(path);
    float[] values = new float[bytes.length / Float.BYTES];
    MemorySegment.copy(MemorySegment.ofArray(bytes), Elimination.FLOAT, 0, values, 0, values.length);
    return values;
  }

  /** The Gram matrix of what enters a weight. */
  private double[][] gram(String weight) throws IOException {
    Calibrator.Settings settings = new Calibrator.Settings(
      List.of(TEXT),
      TOKENS,
      CONTEXT,
      1,
      DeviceChoice.CPU,
      false,
      false,
      Duration.ofSeconds(60)
    );
    CalibrationListener nobody = (_, _, _) -> {};
    try (Calibrator calibrator = Calibrator.open(file, settings, nobody)) {
      GramRequest request = GramRequest.all(
        calibrator
          .inputs()
          .stream()
          .filter(input -> input.weights().contains(weight))
          .findFirst()
          .orElseThrow()
      );
      GramStore store = GramStore.open(folder.resolve("expected"), "test");
      calibrator.grams(List.of(request), store);
      try (Gram gram = store.find(request).orElseThrow()) {
        int n = gram.columns();
        double[][] values = new double[n][n];
        for (int i = 0; i < n; i++) {
          for (int j = 0; j < n; j++) {
            values[i][j] = gram.get(i, j);
          }
        }
        return values;
      }
    }
  }

  /** {@code trace(E gram E')} of rows. */
  private static double error(double[][] gram, double[][] rows) {
    double error = 0;
    for (double[] e : rows) {
      for (int i = 0; i < e.length; i++) {
        for (int j = 0; j < e.length; j++) {
          error += e[i] * gram[i][j] * e[j];
        }
      }
    }
    return error;
  }

  /**
   * Checks a layer's report against plain loops.
   *
   * @param kept columns that are left
   */
  private void assertErrors(String weight, int[] kept, Path fitted, LayerReport report) throws IOException {
    double[][] gram = gram(weight);
    int n = gram.length;
    float[] before = MemoryModel.values(MemoryModel.tensor(model, weight));
    float[] after = floats(fitted);
    assertEquals(WIDTH * kept.length, after.length);
    double[][] whole = new double[WIDTH][n];
    double[][] zeros = new double[WIDTH][n];
    double[][] change = new double[WIDTH][n];
    for (int row = 0; row < WIDTH; row++) {
      for (int i = 0; i < n; i++) {
        whole[row][i] = before[row * n + i];
        zeros[row][i] = whole[row][i];
        change[row][i] = -whole[row][i];
      }
      for (int k = 0; k < kept.length; k++) {
        zeros[row][kept[k]] = 0;
        change[row][kept[k]] += after[row * kept.length + k];
      }
    }
    double energy = error(gram, whole);
    assertEquals(error(gram, zeros) / energy, report.error(), 1e-3 * report.error());
    assertEquals(error(gram, change) / energy, report.refitError(), 1e-3 * report.refitError());
    assertTrue(report.refitError() < 0.9 * report.error(), report.toString());
  }

  /** Has llama.cpp run what is left. */
  private void assertRuns(StructureResult result) throws IOException {
    Map<String, MemorySegment> refitted = new HashMap<>();
    for (Map.Entry<String, Path> entry : result.refitted().entrySet()) {
      refitted.put(entry.getKey(), MemorySegment.ofArray(Files.readAllBytes(entry.getValue())));
    }
    Path out = MemoryModel.write(CutModel.of(model, result.cut(), refitted), folder.resolve("cut.gguf"));
    try (
      LlamaModel loaded = LlamaModel.open(out, new LlamaModel.Options(OptionalInt.of(0), false, true, _ -> {}));
      LlamaContext context = loaded.context(new LlamaContext.Options(8, 8, 8, 1, 1));
      Batch batch = new Batch(8)
    ) {
      assertEquals(result.cut().layers().size(), loaded.layers());
      batch.add(1, 0, 0, true);
      context.decode(batch);
    }
  }

  @Test
  void neuronsGoAndTheOthersAreFitted() throws IOException, InterruptedException {
    Heard heard = new Heard();
    StructureResult result = run(options(Structure.FFN, 128, false, true), false, StructureRunTest::nobody, heard);
    assertEquals(TOKENS, result.tokens());
    assertFalse(result.sequential());
    assertTrue(result.widths().isEmpty());
    assertEquals(LAYERS, result.cut().layers().size());
    assertEquals(LAYERS, result.refitted().size());
    for (Cut.Layer layer : result.cut().layers()) {
      assertEquals(NEURONS - 128, layer.neurons().length);
      assertArrayEquals(Cut.all(GROUPS), layer.groups());
    }
    String weight = "blk.2.ffn_down.weight";
    int[] kept = result.cut().layers().get(2).neurons();
    assertErrors(weight, kept, result.refitted().get(weight), result.layers().get(2));
    assertEquals(Set.of("measuring inputs windows", "removing neurons layers"), heard.phases);
    assertEquals(List.of("768 tokens are few for rows of 512, better take at least 2048"), heard.warnings);
    assertRuns(result);
  }

  @Test
  void groupsOfHeadsGoAndTheOthersAreFitted() throws IOException, InterruptedException {
    StructureResult result = run(
      options(Structure.HEADS, 1, false, true),
      false,
      StructureRunTest::nobody,
      new Heard()
    );
    for (Cut.Layer layer : result.cut().layers()) {
      assertEquals(GROUPS - 1, layer.groups().length);
      assertArrayEquals(Cut.all(NEURONS), layer.neurons());
    }
    String weight = "blk.1.attn_output.weight";
    int size = WIDTH / GROUPS;
    int[] kept = Arrays.stream(result.cut().layers().get(1).groups())
      .flatMap(group -> IntStream.range(group * size, (group + 1) * size))
      .toArray();
    assertErrors(weight, kept, result.refitted().get(weight), result.layers().get(1));
    assertRuns(result);
  }

  @Test
  void laterLayersAreFittedToWhatEarlierOnesHaveBecome() throws IOException, InterruptedException {
    StructureOptions options = options(Structure.FFN, 256, false, true);
    StructureResult alone = run(options, false, StructureRunTest::nobody, new Heard());
    Heard heard = new Heard();
    StructureResult result = run(options, true, StructureRunTest::nobody, heard);
    assertTrue(result.sequential());
    assertEquals(LAYERS, result.refitted().size());
    // Before the first layer nothing has changed.
    assertEquals(alone.cut().layers().get(0), result.cut().layers().get(0));
    String first = "blk.0.ffn_down.weight";
    assertArrayEquals(floats(alone.refitted().get(first)), floats(result.refitted().get(first)));
    String last = "blk.3.ffn_down.weight";
    assertFalse(Arrays.equals(floats(alone.refitted().get(last)), floats(result.refitted().get(last))));
    assertTrue(heard.phases.contains("measuring what enters blk.3.ffn_down.weight windows"), heard.phases.toString());
    assertTrue(logitsError(result) < 0.97 * logitsError(alone));
    assertRuns(result);
  }

  /** The sum of the squares of what a result changes of the logits. */
  private double logitsError(StructureResult result) throws IOException {
    Map<String, MemorySegment> refitted = new HashMap<>();
    for (Map.Entry<String, Path> entry : result.refitted().entrySet()) {
      refitted.put(entry.getKey(), MemorySegment.ofArray(Files.readAllBytes(entry.getValue())));
    }
    Path out = MemoryModel.write(CutModel.of(model, result.cut(), refitted), folder.resolve("stream.gguf"));
    float[] before = logits(file);
    float[] after = logits(out);
    double sum = 0;
    for (int i = 0; i < before.length; i++) {
      double difference = after[i] - before[i];
      sum += difference * difference;
    }
    return sum;
  }

  /** Logits of the tokens of a part of the calibration text. */
  private static float[] logits(Path gguf) throws IOException {
    int n = 200;
    try (
      LlamaModel loaded = LlamaModel.open(gguf, new LlamaModel.Options(OptionalInt.of(0), false, true, _ -> {}));
      LlamaContext context = loaded.context(new LlamaContext.Options(n, n, n, 1, 1));
      Batch batch = new Batch(n)
    ) {
      int[] tokens = loaded.tokens().encode(Files.readAllBytes(TEXT), true, false);
      for (int i = 0; i < n; i++) {
        batch.add(tokens[i], i, 0, true);
      }
      context.decode(batch);
      MemorySegment logits = context.logits();
      float[] all = new float[(int) (logits.byteSize() / Float.BYTES)];
      MemorySegment.copy(logits, Elimination.FLOAT, 0, all, 0, all.length);
      return all;
    }
  }

  @Test
  void withoutRefitWeightsStayAsTheyAre() throws IOException, InterruptedException {
    StructureResult result = run(
      options(Structure.FFN, 128, false, false),
      true,
      StructureRunTest::nobody,
      new Heard()
    );
    assertEquals(Map.of(), result.refitted());
    assertFalse(result.sequential());
    for (LayerReport report : result.layers()) {
      assertTrue(report.error() > 0 && report.error() < 1, report.toString());
      assertTrue(Double.isNaN(report.refitError()));
    }
    assertRuns(result);
  }

  @Test
  void layersDifferIfItPays() throws IOException, InterruptedException {
    // To this meter only the last layer matters.
    DivergenceMeter meter = (candidates, _) ->
      candidates
        .stream()
        .mapToDouble(candidate -> {
          long columns = MemoryModel.tensor(candidate, "blk.3.ffn_down.weight").info().rowLength();
          return 1e-6 + (NEURONS - columns) / 1e3;
        })
        .toArray();
    StructureResult result = run(options(Structure.FFN, 512, true, true), false, meter, new Heard());
    int[] neurons = result
      .cut()
      .layers()
      .stream()
      .mapToInt(layer -> layer.neurons().length)
      .toArray();
    assertEquals(LAYERS * NEURONS - 512, Arrays.stream(neurons).sum());
    assertEquals(NEURONS, neurons[3]);
    assertTrue(Arrays.stream(neurons).allMatch(n -> n % 64 == 0 && n > 0), Arrays.toString(neurons));
    assertEquals(0.128001, result.widths().orElseThrow().even(), 1e-9);
    assertEquals(1e-6, result.widths().orElseThrow().chosen());
    assertTrue(result.widths().orElseThrow().differ());
    assertRuns(result);
  }

  @Test
  void layersStayAlikeIfItDoesNotPay() throws IOException, InterruptedException {
    List<String> measured = new ArrayList<>();
    DivergenceMeter meter = (candidates, names) -> {
      measured.addAll(names);
      return candidates.size() == LAYERS ? new double[] { 1, 2, 3, 4 } : new double[] { 0.5, 0.6 };
    };
    StructureResult result = run(options(Structure.HEADS, 4, true, true), true, meter, new Heard());
    assertEquals(LAYERS + 2, measured.size());
    for (Cut.Layer layer : result.cut().layers()) {
      assertEquals(GROUPS - 1, layer.groups().length);
    }
    assertFalse(result.widths().orElseThrow().differ());
    assertTrue(result.sequential());
    assertRuns(result);
  }

  @Test
  void theLayersThatHarmLeastGo() throws IOException, InterruptedException {
    // Layers 1 and 2 replace each other: without both, much is lost.
    double[] harm = { 3, 0.1, 0.2, 0.4 };
    List<String> measured = new ArrayList<>();
    DivergenceMeter meter = (candidates, names) -> {
      measured.addAll(names);
      return candidates
        .stream()
        .mapToDouble(candidate -> {
          String left = candidate.metadata().get("attar.prune.layers").orElseThrow().toString();
          double sum = 0;
          for (int i = 0; i < LAYERS; i++) {
            sum += left.contains(String.valueOf(i)) ? 0 : harm[i];
          }
          return sum + (left.contains("1") || left.contains("2") ? 0 : 9);
        })
        .toArray();
    };
    Heard heard = new Heard();
    StructureResult result = run(options(Structure.LAYERS, 2, false, true), true, meter, heard);
    assertArrayEquals(new int[] { 0, 2 }, result.cut().numbers());
    assertEquals(Map.of(), result.refitted());
    assertEquals(LAYERS + LAYERS - 1, measured.size());
    int[] steps = result.layers().stream().mapToInt(LayerReport::step).toArray();
    assertArrayEquals(new int[] { 0, 1, 0, 2 }, steps);
    assertEquals(0.1, result.layers().get(1).divergence());
    assertEquals(0.5, result.layers().get(3).divergence());
    assertTrue(Double.isNaN(result.layers().get(0).divergence()));
    assertTrue(result.layers().get(0).influence() > result.layers().get(1).influence());
    assertEquals(Set.of("measuring the influence of layers windows", "removing layers layers"), heard.phases);
    assertRuns(result);
  }

  @Test
  void memoryIsAskedForInOneLine() {
    StructureOptions options = options(Structure.FFN, 128, false, true, 901L << 20);
    PruneException e = assertThrows(PruneException.class, () ->
      run(options, false, StructureRunTest::nobody, new Heard())
    );
    assertEquals("blk.0.ffn_down.weight needs 908 MiB of memory, --max-memory allows 901 MiB", e.getMessage());
  }

  @Test
  void anInterruptedThreadStops() {
    StructureOptions options = options(Structure.FFN, 128, false, true);
    StructureListener interrupts = new StructureListener() {
      @Override
      public void at(String phase, long done, long total, String unit) {
        if (phase.startsWith("removing") && done == 1) {
          Thread.currentThread().interrupt();
        }
      }

      @Override
      public void device(String line) {}

      @Override
      public void warn(String message) {}
    };
    assertThrows(InterruptedException.class, () ->
      StructureRun.run(model, file, options, false, folder, StructureRunTest::nobody, interrupts)
    );
    assertFalse(Thread.interrupted());
  }

  @Test
  void whatCannotBeReplacedIsNotFittedSequentially() throws IOException, InterruptedException {
    TestModel quantized = TestModel.copy(model, TensorType.Q8_0);
    Path gguf = MemoryModel.write(quantized, folder.resolve("quantized.gguf"));
    Path work = Files.createDirectory(folder.resolve("work"));
    try (Model opened = GgufModel.open(gguf)) {
      StructureOptions options = options(Structure.FFN, 128, false, true);
      StructureResult result = StructureRun.run(opened, gguf, options, work, StructureRunTest::nobody, new Heard());
      assertFalse(result.sequential());
      assertEquals(LAYERS, result.refitted().size());
    }
    Files.createDirectory(folder.resolve("other"));
    assertTrue(
      StructureRun.run(
        model,
        file,
        options(Structure.FFN, 128, false, true),
        folder.resolve("other"),
        StructureRunTest::nobody,
        new Heard()
      ).sequential()
    );
  }
}
