package dev.attar.bench.latency;

import java.util.List;
import java.util.Optional;

/**
 * Timings of one model in one test.
 *
 * @param test what was timed
 * @param samples one value per repetition in the test's unit, in the order of the repetitions
 * @param median their median
 * @param low the lower quartile (the spread)
 * @param high the upper quartile
 * @param toBase ratio to the base's values, paired by repetition; empty for the base
 */
public record LatencyResult(
  LatencyTest test,
  List<Double> samples,
  double median,
  double low,
  double high,
  Optional<Ratio> toBase
) {
  public LatencyResult {
    samples = List.copyOf(samples);
  }
}
