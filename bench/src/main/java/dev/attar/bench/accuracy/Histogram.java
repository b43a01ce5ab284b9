package dev.attar.bench.accuracy;

import java.util.Arrays;

/**
 * A distribution for a chart: counts between edges that are spaced evenly on a logarithmic scale.
 *
 * @param edges limits of the bins, ascending and above 0: bin i holds values from {@code edges[i]} (with it) to {@code edges[i + 1]}
 *     (without); values below the first edge are in the first bin, those above the last edge in the last
 * @param counts number of values in each bin, one fewer than edges
 */
public record Histogram(double[] edges, long[] counts) {
  public Histogram {
    if (edges.length != counts.length + 1) {
      throw new IllegalArgumentException(edges.length + " edges for " + counts.length + " bins");
    }
  }

  @Override
  public boolean equals(Object other) {
    return (other instanceof Histogram that && Arrays.equals(edges, that.edges) && Arrays.equals(counts, that.counts));
  }

  @Override
  public int hashCode() {
    return 31 * Arrays.hashCode(edges) + Arrays.hashCode(counts);
  }

  @Override
  public String toString() {
    return "Histogram of " + Arrays.stream(counts).sum() + " values in " + counts.length + " bins";
  }
}
