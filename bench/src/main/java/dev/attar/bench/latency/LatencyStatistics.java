package dev.attar.bench.latency;

import java.util.Arrays;
import java.util.Optional;
import java.util.stream.DoubleStream;
import org.apache.commons.statistics.distribution.TDistribution;

/** Statistics of repeated timings. */
public final class LatencyStatistics {

  private static final double CONFIDENCE = 0.95;

  private LatencyStatistics() {}

  /**
   * Median, quartiles and ratio to the base.
   *
   * <p>The ratio is the geometric mean of the ratios of samples of the same repetition, which were taken close together, so that a
   * drift of the machine cancels. Its interval is Student's, with n - 1 degrees of freedom, on the ratios' logarithms. It was preferred
   * to rank methods, which bear outliers better, because those know nothing at 95 % from fewer than six repetitions, and five are
   * usual. A repetition that something else disturbed widens Student's interval: the result is then rather 'no difference' than wrong.
   * One repetition gives an interval from 0 to infinity; equal ratios give one without width.
   *
   * @param test what was timed
   * @param samples one value per repetition in the test's unit, finite and above 0
   * @param baseSamples the base's in the same repetitions; empty for the base itself
   * @throws IllegalArgumentException if there are no samples, one is not above 0 and finite, or the base has another number of them
   */
  public static LatencyResult result(LatencyTest test, double[] samples, Optional<double[]> baseSamples) {
    check(test, samples);
    double[] sorted = samples.clone();
    Arrays.sort(sorted);
    return new LatencyResult(
      test,
      DoubleStream.of(samples).boxed().toList(),
      quantile(sorted, 0.5),
      quantile(sorted, 0.25),
      quantile(sorted, 0.75),
      baseSamples.map(base -> ratio(test, samples, base))
    );
  }

  private static void check(LatencyTest test, double[] samples) {
    if (samples.length == 0) {
      throw new IllegalArgumentException(test.name() + ": no samples");
    }
    for (double sample : samples) {
      if (!(sample > 0 && sample < Double.POSITIVE_INFINITY)) {
        throw new IllegalArgumentException(test.name() + ": sample " + sample + ", expected one above 0 and finite");
      }
    }
  }

  private static Ratio ratio(LatencyTest test, double[] samples, double[] base) {
    check(test, base);
    int n = samples.length;
    if (base.length != n) {
      throw new IllegalArgumentException(test.name() + ": " + n + " samples, but " + base.length + " of the base");
    }
    double[] logs = new double[n];
    Arrays.setAll(logs, i -> Math.log(samples[i] / base[i]));
    double mean = Arrays.stream(logs).sum() / n;
    if (n == 1) {
      return new Ratio(Math.exp(mean), 0, Double.POSITIVE_INFINITY);
    }
    double squares = Arrays.stream(logs)
      .map(log -> (log - mean) * (log - mean))
      .sum();
    double t = TDistribution.of(n - 1).inverseSurvivalProbability((1 - CONFIDENCE) / 2);
    double margin = t * Math.sqrt(squares / (n - 1) / n);
    return new Ratio(Math.exp(mean), Math.exp(mean - margin), Math.exp(mean + margin));
  }

  /** Quantile of sorted values with linear interpolation (type 7 of Hyndman and Fan 1996, numpy's and R's default). */
  private static double quantile(double[] sorted, double fraction) {
    double rank = fraction * (sorted.length - 1);
    int index = (int) rank;
    double part = rank - index;
    return part == 0 ? sorted[index] : (1 - part) * sorted[index] + part * sorted[index + 1];
  }
}
