package dev.attar.lowrank;

import dev.attar.compute.DeviceChoice;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/**
 * How matrices are factorized.
 *
 * @param metric what is made small
 * @param ranks how many columns the factors get
 * @param rounds how often a base is corrected: after the first time, what a product leaves of the weights is rounded anew, and the next
 *     one corrects that. The base needs its adapter then. At least 1; more only with a base
 * @param damping what is added to the diagonal of a Gram matrix, as a part of its mean; above 0 and at most 1
 * @param texts calibration texts; at least one unless the metric is {@link Metric#PLAIN}
 * @param tokens how many of their tokens to use
 * @param context tokens in a window
 * @param threads how many compute
 * @param device what does the algebra
 * @param maxMemory how many bytes parent and worker may use together, beyond mapped files
 * @param patience how long the worker may show no sign of life
 */
public record FactorOptions(
  Metric metric,
  RankChoice ranks,
  int rounds,
  double damping,
  List<Path> texts,
  long tokens,
  int context,
  int threads,
  DeviceChoice device,
  long maxMemory,
  Duration patience
) {
  public FactorOptions {
    texts = List.copyOf(texts);
    if (!(damping > 0 && damping <= 1)) {
      throw new IllegalArgumentException("damping " + damping + ", expected above 0 and at most 1");
    }
    if (rounds < 1) {
      throw new IllegalArgumentException(rounds + " rounds, expected at least 1");
    }
    if (metric == Metric.ACTIVATION && texts.isEmpty()) {
      throw new IllegalArgumentException("no texts");
    }
  }
}
