package dev.attar.bench.accuracy;

import dev.attar.bench.Estimate;

/**
 * Mean of values and its standard error, as llama-perplexity computes them. Plain sums in float64 do: the values added here spread about
 * as widely as they are large, so the difference of the sums cancels little, and a sum of 10⁹ of them is right to 10 digits. Differences
 * of nearly equal quantities must be taken before they are added.
 */
final class Moments {

  /** With fewer values nothing is said of the error. */
  private static final int FEW = 10;

  private long count;
  private double sum;
  private double squares;

  void add(double value) {
    count++;
    sum += value;
    squares += value * value;
  }

  long count() {
    return count;
  }

  double mean() {
    return sum / count;
  }

  /** Standard error of the mean; 0 for 10 values or fewer, NaN if a value was infinite or NaN. */
  double error() {
    double mean = mean();
    double variance = squares / count - mean * mean;
    return count <= FEW || variance <= 0 ? 0 : Math.sqrt(variance / (count - 1));
  }

  Estimate estimate() {
    return new Estimate(mean(), error());
  }

  /** Of e to the mean. */
  Estimate exponential() {
    double value = Math.exp(mean());
    return new Estimate(value, value * error());
  }

  /** Of the root of the mean. */
  Estimate root() {
    double value = Math.sqrt(mean());
    return new Estimate(value, value == 0 ? 0 : (0.5 / value) * error());
  }
}
