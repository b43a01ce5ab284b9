package dev.attar.cli;

import dev.attar.bench.Benchmark;
import dev.attar.bench.Comparison;
import dev.attar.bench.ModelResult;
import dev.attar.bench.ProgressListener;
import dev.attar.bench.Settings;
import dev.attar.bench.Subject;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * How much faster a model is than the one that it was made of, timed in turn.
 *
 * @param prompt processing of a prompt
 * @param generation of tokens one by one
 */
record MeasuredSpeed(Gain prompt, Gain generation) {
  private static final int REPETITIONS = 7;

  /**
   * Speed over the base's.
   *
   * @param median of the repetitions' ratios
   * @param mean their geometric mean, with its 95 % interval
   */
  record Gain(double median, Ratio mean) {
    private static Gain of(LatencyResult base, LatencyResult variant) {
      double[] ratios = new double[variant.samples().size()];
      Arrays.setAll(ratios, i -> variant.samples().get(i) / base.samples().get(i));
      Arrays.sort(ratios);
      int n = ratios.length;
      double median = (ratios[(n - 1) / 2] + ratios[n / 2]) / 2;
      return new Gain(median, variant.toBase().orElseThrow());
    }

    /** {@code 1.31 (1.28 to 1.34)}. */
    String text() {
      return String.format(Locale.ROOT, "%.2f (%.2f to %.2f)", median, mean.low(), mean.high());
    }

    Map<String, Object> json() {
      Map<String, Object> json = new LinkedHashMap<>();
      json.put("median", median);
      json.put("mean", mean.value());
      json.put("low", mean.low());
      json.put("high", mean.high());
      return json;
    }
  }

  /**
   * Times two models.
   *
   * @throws IOException if one of them cannot be run
   */
  static MeasuredSpeed of(Path base, Path variant, Calibration calibration, ProgressListener listener)
    throws IOException, InterruptedException {
    Settings settings = new Settings(
      Optional.empty(),
      SpeedPrediction.PROMPT_TOKENS,
      OptionalInt.empty(),
      List.of(
        new LatencyTest(LatencyTest.Kind.PROMPT, SpeedPrediction.PROMPT_TOKENS, calibration.threads()),
        new LatencyTest(LatencyTest.Kind.GENERATION, SpeedPrediction.GENERATED_TOKENS, calibration.threads())
      ),
      REPETITIONS,
      calibration.threads(),
      OptionalInt.empty(),
      false,
      Optional.empty(),
      calibration.patience()
    );
    Comparison comparison = Benchmark.run(
      Subject.of("whole", base),
      List.of(Subject.of("pruned", variant)),
      settings,
      "",
      listener
    );
    ModelResult pruned = comparison.variants().getFirst();
    if (pruned.failure().isPresent()) {
      throw new IOException("the pruned model cannot be timed: " + pruned.failure().get().message());
    }
    List<LatencyResult> whole = comparison.base().latency();
    return new MeasuredSpeed(
      Gain.of(whole.get(0), pruned.latency().get(0)),
      Gain.of(whole.get(1), pruned.latency().get(1))
    );
  }

  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("prompt", prompt.json());
    json.put("generation", generation.json());
    return json;
  }
}
