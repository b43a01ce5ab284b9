package dev.attar.bench.accuracy;

import java.util.Arrays;

/**
 * How values of at least 0 are distributed, in constant memory: counts in bins that are evenly spaced on a logarithmic scale, 1200 per
 * factor of ten, so that each is 0.192 % wide, from 1e-12 to 1e4. Smaller values count as 0; larger ones as the largest finite value
 * seen. The least and the greatest value are exact.
 */
final class Distribution {

  private static final int PER_DECADE = 1200;
  private static final int LOWEST_DECADE = -12;
  private static final int DECADES = 16;

  /** The most bins that a chart has. */
  private static final int CHART_BINS = 60;

  private final long[] bins = new long[DECADES * PER_DECADE];
  private long below;
  private long above;
  private long infinite;
  private long invalid;
  private long count;
  private double min = Double.POSITIVE_INFINITY;
  private double max;
  private double maxFinite;

  void add(double value) {
    count++;
    if (Double.isNaN(value)) {
      invalid++;
      return;
    }
    min = Math.min(min, value);
    max = Math.max(max, value);
    if (value == Double.POSITIVE_INFINITY) {
      infinite++;
      return;
    }
    maxFinite = Math.max(maxFinite, value);
    double bin = Math.floor((Math.log10(value) - LOWEST_DECADE) * PER_DECADE);
    if (bin < 0) {
      below++;
    } else if (bin >= bins.length) {
      above++;
    } else {
      bins[(int) bin]++;
    }
  }

  /**
   * A percentile: that of llama-perplexity and numpy, which interpolates linearly between the two values nearest to rank {@code
   * fraction × (n - 1)}. Off by at most 0.2 % or 1e-12, whichever is larger, up to 1e4. NaN if there are no values, or a value was.
   *
   * @param fraction from 0 to 1
   */
  double percentile(double fraction) {
    if (invalid > 0 || count == 0) {
      return Double.NaN;
    }
    double rank = fraction * (count - 1);
    long index = (long) rank;
    double part = rank - index;
    double low = ordered(index);
    return part == 0 ? low : (1 - part) * low + part * ordered(index + 1);
  }

  /** The value at a place, from 0, of all values in ascending order. */
  private double ordered(long index) {
    if (index == 0) {
      return min;
    }
    if (index == count - 1) {
      return max;
    }
    if (index < below) {
      return 0;
    }
    if (index >= count - infinite) {
      return Double.POSITIVE_INFINITY;
    }
    long before = below;
    for (int i = 0; i < bins.length; i++) {
      if (index < before + bins[i]) {
        // The values of a bin are taken to lie evenly in it.
        double place = (index - before + 0.5) / bins[i];
        return Math.clamp(edge(i + place), min, maxFinite);
      }
      before += bins[i];
    }
    return maxFinite;
  }

  /** The lower limit of a bin, or a place within it. */
  private static double edge(double bin) {
    return Math.pow(10, LOWEST_DECADE + bin / PER_DECADE);
  }

  /** The distribution for a chart: at most 60 bins over the range in which there are values. NaN is in none of them. */
  Histogram histogram() {
    int last = bins.length - 1;
    while (last > 0 && bins[last] == 0) {
      last--;
    }
    int start = 0;
    while (start < last && bins[start] == 0) {
      start++;
    }
    int first = start;
    int width = Math.ceilDiv(last - first + 1, CHART_BINS);
    long[] counts = new long[Math.ceilDiv(last - first + 1, width)];
    double[] edges = new double[counts.length + 1];
    Arrays.setAll(edges, i -> edge(first + (double) i * width));
    for (int i = first; i <= last; i++) {
      counts[(i - first) / width] += bins[i];
    }
    counts[0] += below;
    counts[counts.length - 1] += above + infinite;
    return new Histogram(edges, counts);
  }
}
