package dev.attar.bench.latency;

/**
 * A model's timing over its base's, with a 95 % confidence interval.
 *
 * @param value the estimate
 * @param low lower end of the interval; 0 if there were too few repetitions to know
 * @param high upper end; infinite if there were too few repetitions to know
 */
public record Ratio(double value, double low, double high) {
  /** Whether the interval contains 1: then nothing is known about which is faster. */
  public boolean isNoDifference() {
    return low <= 1 && high >= 1;
  }
}
