package dev.attar.lowrank;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.calibration.Gram;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.MemoryModel;
import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.compute.DeviceChoice;
import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class FactorRunTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int TOKENS = 768;
  private static final double DAMPING = 0.01;

  @TempDir
  private Path folder;

  /** Keeps what it hears. */
  private static final class Heard implements LowRankListener {

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

  private static FactorOptions options(Metric metric, RankChoice ranks, long memory) {
    return new FactorOptions(
      metric,
      ranks,
      1,
      DAMPING,
      metric == Metric.PLAIN ? List.of() : List.of(TEXT),
      TOKENS,
      256,
      1,
      DeviceChoice.CPU,
      memory,
      Duration.ofSeconds(60)
    );
  }

  private Factorization run(Model model, Model base, Path runnable, FactorOptions options, Heard heard)
    throws IOException, InterruptedException {
    Path work = Files.createTempDirectory(folder, "work");
    return FactorRun.run(model, Optional.ofNullable(base), runnable, options, work, Optional.empty(), heard);
  }

  private Factorization plain(Model model, Model base, RankChoice ranks) throws IOException, InterruptedException {
    return run(model, base, Path.of("no-file"), options(Metric.PLAIN, ranks, 4L << 30), new Heard());
  }

  private static FactoredTensor found(Factorization factors, String name) {
    return factors
      .tensors()
      .stream()
      .filter(tensor -> tensor.source().name().equals(name))
      .findFirst()
      .orElseThrow();
  }

  /** The damped Gram matrix of what enters a weight. */
  private float[] gram(Path file, String weight) throws IOException {
    Calibrator.Settings settings = new Calibrator.Settings(
      List.of(TEXT),
      TOKENS,
      256,
      1,
      DeviceChoice.CPU,
      false,
      false,
      Duration.ofSeconds(60)
    );
    try (Calibrator calibrator = Calibrator.open(file, settings, (_, _, _) -> {})) {
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
        float[] values = new float[n * n];
        double mean = 0;
        for (int i = 0; i < n; i++) {
          mean += gram.get(i, i) / (double) n;
        }
        for (int i = 0; i < n; i++) {
          for (int j = 0; j < n; j++) {
            values[i * n + j] = gram.get(i, j) + (float) (i == j ? DAMPING * mean : 0);
          }
        }
        return values;
      }
    }
  }

  private static double[] doubles(float[] values) {
    double[] doubles = new double[values.length];
    Arrays.setAll(doubles, i -> values[i]);
    return doubles;
  }

  private static float[] minus(float[] a, float[] b) {
    float[] difference = new float[a.length];
    for (int i = 0; i < a.length; i++) {
      difference[i] = a[i] - b[i];
    }
    return difference;
  }

  @Test
  void anAdapterLeavesTheLeastErrorOnTheText() throws IOException, InterruptedException {
    MemoryModel model = MemoryModel.read(MemoryModel.SAMPLE);
    MemoryModel all = MemoryModel.copy(model, TensorType.Q2_K);
    List<Tensor> mixed = new ArrayList<>(model.tensors());
    mixed.replaceAll(t -> t.info().name().startsWith("blk.") ? MemoryModel.tensor(all, t.info().name()) : t);
    MemoryModel base = new MemoryModel(model.metadata(), mixed);
    Path file = MemoryModel.write(model, folder.resolve("model.gguf"));
    int rank = 32;
    Heard heard = new Heard();
    Factorization factors = run(
      model,
      base,
      file,
      options(Metric.ACTIVATION, new RankChoice.Same(rank), 4L << 30),
      heard
    );
    assertEquals(28, factors.tensors().size());
    assertEquals(TOKENS, factors.tokens());
    assertEquals(Set.of("measuring inputs windows", "factorizing weights"), heard.phases);
    assertEquals(List.of("768 tokens are few for rows of 512, better take at least 2048"), heard.warnings);

    String weight = "blk.2.attn_k.weight";
    FactoredTensor of = found(factors, weight);
    float[] before = MemoryModel.values(MemoryModel.tensor(model, weight));
    float[] rounded = MemoryModel.values(MemoryModel.tensor(base, weight));
    float[] gram = gram(file, weight);
    double[] squares = Eigenvalues.ofProduct(minus(before, rounded), 128, 256, doubles(gram));
    double least = Arrays.stream(squares).skip(rank).sum();
    assertEquals(least, of.error(), 1e-3 * least);
    assertEquals(Arrays.stream(squares).sum(), of.energy(), 1e-4 * of.energy());

    Path adapter = folder.resolve("adapter.gguf");
    AdapterFile.write(factors, "llama", TensorType.Q8_0, Metadata.of(Map.of()), adapter, false, OutputCheck.NONE);
    List<TensorInfo> infos = model
      .tensors()
      .stream()
      .map(Tensor::info)
      .filter(info -> info.name().startsWith("blk.") && info.rank() > 1)
      .toList();
    assertEquals(Files.size(adapter), AdapterFile.bytes(infos, rank, TensorType.Q8_0, "llama", Metadata.of(Map.of())));
    try (GgufModel written = GgufModel.open(adapter)) {
      float[] a = MemoryModel.values(MemoryModel.tensor(written, weight + ".lora_a"));
      float[] b = MemoryModel.values(MemoryModel.tensor(written, weight + ".lora_b"));
      float[] corrected = rounded.clone();
      for (int i = 0; i < corrected.length; i++) {
        for (int r = 0; r < rank; r++) {
          corrected[i] += b[(i / 256) * rank + r] * a[r * 256 + (i % 256)];
        }
      }
      double error = MadeUpInputs.error(before, corrected, gram, 256);
      // The factors are rounded too.
      assertTrue(error >= least * (1 - 1e-3) && error < 1.01 * least, error + " instead of " + least);
    }
    Path baseFile = MemoryModel.write(base, folder.resolve("base.gguf"));
    float[] original = logits(file, Optional.empty());
    double alone = distance(original, logits(baseFile, Optional.empty()));
    double together = distance(original, logits(baseFile, Optional.of(adapter)));
    assertTrue(together < 0.75 * alone, together + " with the adapter, " + alone + " without");
  }

  private static float[] logits(Path file, Optional<Path> adapter) throws IOException {
    try (
      LlamaModel llama = LlamaModel.open(file, LlamaModel.Options.defaults());
      LlamaContext context = llama.context(new LlamaContext.Options(64, 64, 64, 1, 1));
      Batch batch = new Batch(32)
    ) {
      if (adapter.isPresent()) {
        context.adapters(List.of(llama.adapter(adapter.get())), new float[] { 1 });
      }
      for (int i = 0; i < 32; i++) {
        batch.add(300 + 7 * i, i, 0, true);
      }
      context.decode(batch);
      return context.logits().toArray(JAVA_FLOAT);
    }
  }

  private static double distance(float[] a, float[] b) {
    double sum = 0;
    for (float x : minus(a, b)) {
      sum += (double) x * x;
    }
    return Math.sqrt(sum);
  }

  @Test
  void furtherRoundsLeaveLessOfTheError() throws IOException, InterruptedException {
    MemoryModel model = made(TensorType.F32);
    MemoryModel base = made(TensorType.Q4_0);
    Path work = Files.createTempDirectory(folder, "work");
    FactorOptions once = options(Metric.PLAIN, new RankChoice.Same(4), 4L << 30);
    FactorOptions thrice = new FactorOptions(
      Metric.PLAIN,
      once.ranks(),
      3,
      DAMPING,
      List.of(),
      TOKENS,
      256,
      1,
      DeviceChoice.CPU,
      4L << 30,
      once.patience()
    );
    Factorization first = run(model, base, Path.of("no-file"), once, new Heard());
    Factorization last = FactorRun.run(
      model,
      Optional.of(base),
      Path.of("no-file"),
      thrice,
      work,
      Optional.empty(),
      new Heard()
    );
    try (Model anew = FactoredModel.base(base, last)) {
      for (int i = 0; i < 2; i++) {
        FactoredTensor of = last.tensors().get(i);
        assertTrue(of.error() < 0.95 * first.tensors().get(i).error(), of + " after " + first.tensors().get(i));
        assertEquals(first.tensors().get(i).energy(), of.energy(), 1e-9, "what the first base lacked");
        TensorInfo info = base.tensors().get(i).info();
        assertEquals(info, anew.tensors().get(i).info());
        // The base as it is written, and the product, against the weights.
        Tensor product = ProductTensor.of(
          model.tensors().get(i).info(),
          Optional.of(anew.tensors().get(i)),
          List.of(product(of))
        );
        double error = 0;
        for (float x : minus(MemoryModel.values(model.tensors().get(i)), MemoryModel.values(product))) {
          error += (double) x * x;
        }
        assertEquals(of.error(), error, 1e-3 * error);
      }
      for (int i = 2; i < model.tensors().size(); i++) {
        assertSame(base.tensors().get(i), anew.tensors().get(i));
      }
    }
  }

  private static Product product(FactoredTensor of) throws IOException {
    TensorInfo info = of.source();
    long matrices = info.rows() / info.dimension(1);
    TensorInfo a = new TensorInfo("a", TensorType.F32, new long[] { info.rowLength(), of.stored(), matrices });
    TensorInfo b = new TensorInfo("b", TensorType.F32, new long[] { of.stored(), info.dimension(1), matrices });
    return new Product(
      new MappedTensor(a, MemorySegment.ofArray(Files.readAllBytes(of.a()))),
      new MappedTensor(b, MemorySegment.ofArray(Files.readAllBytes(of.b()))),
      of.rank(),
      1
    );
  }

  @Test
  void ranksOfASizeGoWhereErrorsDoMost() throws IOException, InterruptedException {
    MemoryModel model = made(TensorType.F32);
    List<String> tried = new ArrayList<>();
    // Predictions depend on the experts alone.
    DivergenceMeter meter = (candidates, names) -> {
      tried.addAll(names);
      double[] divergences = new double[candidates.size()];
      for (int i = 0; i < divergences.length; i++) {
        float[] change = minus(
          MemoryModel.values(MemoryModel.tensor(model, "blk.0.ffn_up_exps.weight")),
          MemoryModel.values(MemoryModel.tensor(candidates.get(i), "blk.0.ffn_up_exps.weight"))
        );
        divergences[i] = distance(change, new float[change.length]);
      }
      return divergences;
    };
    Factorization alike = plain(model, null, new RankChoice.Size(0.5));
    Factorization weighed = FactorRun.run(
      model,
      Optional.empty(),
      Path.of("no-file"),
      options(Metric.PLAIN, new RankChoice.Size(0.5), 4L << 30),
      Files.createTempDirectory(folder, "work"),
      Optional.of(meter),
      new Heard()
    );
    assertEquals(List.of("with blk.0.ffn_up_exps.weight of rank 6", "with blk.0.attn_q.weight of rank 5"), tried);
    String experts = "blk.0.ffn_up_exps.weight";
    assertTrue(found(weighed, experts).rank() > found(alike, experts).rank(), weighed + " instead of " + alike);
    assertEquals(1, found(weighed, "blk.0.attn_q.weight").rank());
    assertTrue(weighed.numbersAfter() <= 0.5 * weighed.numbersBefore());
  }

  /** A layer of three experts, a plain layer, and what is not factorized. */
  private static MemoryModel made(TensorType type) {
    long[][] shapes = { { 32, 24, 3 }, { 32, 16 }, { 32, 3 }, { 32 }, { 32, 40 } };
    String[] names = {
      "blk.0.ffn_up_exps.weight",
      "blk.0.attn_q.weight",
      "blk.0.ffn_gate_inp.weight",
      "blk.0.attn_norm.weight",
      "output.weight"
    };
    List<Tensor> tensors = new ArrayList<>();
    for (int i = 0; i < names.length; i++) {
      TensorInfo info = new TensorInfo(names[i], shapes[i].length > 1 ? type : TensorType.F32, shapes[i]);
      tensors.add(MemoryModel.tensor(info, MadeUpInputs.weights((int) info.rows(), 32, i + 1)));
    }
    Metadata metadata = Metadata.of(Map.of("general.architecture", MetadataValue.string("llama")));
    return new MemoryModel(metadata, tensors);
  }

  @Test
  void productsOfAllExpertsTakeTheirPlace() throws IOException, InterruptedException {
    MemoryModel model = made(TensorType.F32);
    Factorization factors = plain(model, null, new RankChoice.Same(5));
    assertEquals(
      List.of("blk.0.ffn_up_exps.weight", "blk.0.attn_q.weight"),
      factors
        .tensors()
        .stream()
        .map(tensor -> tensor.source().name())
        .toList()
    );
    assertEquals(3 * 24 * 32 + 16 * 32, factors.numbersBefore());
    assertEquals(5 * (3 * (24 + 32) + 16 + 32), factors.numbersAfter());
    try (Model factored = FactoredModel.of(model, factors)) {
      for (int i = 2; i < model.tensors().size(); i++) {
        assertSame(model.tensors().get(i), factored.tensors().get(i));
      }
      float[] before = MemoryModel.values(model.tensors().getFirst());
      float[] after = MemoryModel.values(factored.tensors().getFirst());
      double least = 0;
      double error = 0;
      for (int expert = 0; expert < 3; expert++) {
        float[] own = Arrays.copyOfRange(before, expert * 768, (expert + 1) * 768);
        least += Arrays.stream(Eigenvalues.ofProduct(own, 24, 32, null)).skip(5).sum();
      }
      for (float x : minus(before, after)) {
        error += (double) x * x;
      }
      assertEquals(least, error, 1e-3 * least);
      assertEquals(least, found(factors, "blk.0.ffn_up_exps.weight").error(), 1e-3 * least);
    }
  }

  @Test
  void adaptersHaveAsManyMatricesAsTensorsAndRanksThatMayDiffer() throws IOException, InterruptedException {
    Factorization factors = plain(made(TensorType.F32), null, new RankChoice.Same(5));
    FactoredTensor experts = found(factors, "blk.0.ffn_up_exps.weight");
    FactoredTensor query = found(factors, "blk.0.attn_q.weight");
    FactoredTensor less = new FactoredTensor(
      query.source(),
      3,
      query.stored(),
      query.a(),
      query.b(),
      Optional.empty(),
      1,
      1,
      0
    );
    Factorization differing = new Factorization(List.of(experts, less), List.of(), 0);
    Path file = folder.resolve("experts.gguf");
    AdapterFile.write(differing, "llama", TensorType.F32, Metadata.of(Map.of()), file, false, OutputCheck.NONE);
    try (GgufModel written = GgufModel.open(file)) {
      TensorInfo a = MemoryModel.tensor(written, "blk.0.ffn_up_exps.weight.lora_a").info();
      TensorInfo b = MemoryModel.tensor(written, "blk.0.ffn_up_exps.weight.lora_b").info();
      assertEquals("32 x 5 x 3", a.shapeText());
      assertEquals("5 x 24 x 3", b.shapeText());
      // Ranks differ, so that no alpha over the rank is right for all.
      assertEquals(0, written.metadata().number("adapter.lora.alpha").orElseThrow());
    }
  }

  @Test
  void ranksOfABudgetAreCutFromLargerOnes() throws IOException, InterruptedException {
    MemoryModel model = made(TensorType.F32);
    Factorization factors = plain(model, null, new RankChoice.Size(0.7));
    assertTrue(factors.numbersAfter() <= 0.7 * factors.numbersBefore());
    FactoredTensor experts = found(factors, "blk.0.ffn_up_exps.weight");
    assertTrue(experts.rank() < experts.stored(), experts.toString());
    try (Model factored = FactoredModel.of(model, factors)) {
      double error = 0;
      for (float x : minus(
        MemoryModel.values(model.tensors().getFirst()),
        MemoryModel.values(factored.tensors().getFirst())
      )) {
        error += (double) x * x;
      }
      assertEquals(experts.error(), error, 1e-3 * error);
    }
    Factorization most = plain(model, null, new RankChoice.Energy(0.999999));
    assertEquals(2, most.whole().size(), "factors as large as the tensors do not replace them");
  }

  private void assertRefused(String message, Model model, Model base, RankChoice ranks) {
    LowRankException e = assertThrows(LowRankException.class, () -> plain(model, base, ranks));
    assertEquals(message, e.getMessage());
  }

  @Test
  void refusesWhatCannotBe() {
    MemoryModel model = made(TensorType.F32);
    assertRefused(
      "test-model: tensor blk.0.attn_q.weight: rank 17 for matrices of 32 x 16, expected at most 16",
      model,
      null,
      new RankChoice.Same(17)
    );
    assertRefused(
      "test-model: factors of rank 1 have 216 numbers, 140 are allowed",
      model,
      null,
      new RankChoice.Size(0.05)
    );
    assertRefused(
      "test-model: no linear layer is quantized in test-model, there is nothing to correct",
      model,
      model,
      new RankChoice.Same(2)
    );
    MemoryModel other = new MemoryModel(
      model.metadata(),
      List.of(
        MemoryModel.tensor(new TensorInfo("blk.0.attn_q.weight", TensorType.Q8_0, new long[] { 32, 8 }), new float[256])
      )
    );
    assertRefused(
      "test-model: tensor blk.0.attn_q.weight: shape 32 x 8, expected 32 x 16 as test-model has it",
      model,
      other,
      new RankChoice.Same(2)
    );
    float[] broken = MadeUpInputs.weights(16, 32, 2);
    broken[40] = Float.NaN;
    MemoryModel damaged = new MemoryModel(
      model.metadata(),
      List.of(MemoryModel.tensor(new TensorInfo("blk.0.attn_q.weight", TensorType.F32, new long[] { 32, 16 }), broken))
    );
    assertRefused(
      "test-model: tensor blk.0.attn_q.weight, row 1: found NaN, expected a finite number",
      damaged,
      null,
      new RankChoice.Same(2)
    );
    LowRankException e = assertThrows(LowRankException.class, () ->
      run(model, null, Path.of("no-file"), options(Metric.PLAIN, new RankChoice.Same(2), 900L << 20), new Heard())
    );
    assertTrue(e.getMessage().matches(".* needs 901 MiB of memory, --max-memory allows 900 MiB"), e.getMessage());
  }
}
