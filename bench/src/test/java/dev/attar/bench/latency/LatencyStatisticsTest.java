package dev.attar.bench.latency;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class LatencyStatisticsTest {

  private static final LatencyTest TEST = new LatencyTest(LatencyTest.Kind.GENERATION, 128, 4);
  private static final double EXACT = 1e-12;

  private static Ratio ratio(double[] samples, double[] base) {
    return LatencyStatistics.result(TEST, samples, Optional.of(base)).toBase().orElseThrow();
  }

  /** Golden values: numpy and scipy 1.17.1. */
  @Test
  void agreesWithScipy() {
    double[] samples = { 101.2, 99.8, 103.5, 98.1, 100.4 };
    double[] base = { 90.3, 91.7, 89.9, 92.5, 90.8 };
    LatencyResult result = LatencyStatistics.result(TEST, samples, Optional.of(base));
    assertEquals(List.of(101.2, 99.8, 103.5, 98.1, 100.4), result.samples());
    assertEquals(100.4, result.median(), EXACT);
    assertEquals(99.8, result.low(), EXACT);
    assertEquals(101.2, result.high(), EXACT);
    Ratio ratio = result.toBase().orElseThrow();
    assertEquals(1.104897403428747, ratio.value(), EXACT);
    assertEquals(1.0634086745077904, ratio.low(), EXACT);
    assertEquals(1.1480048088460877, ratio.high(), EXACT);
    assertFalse(ratio.isNoDifference());

    Ratio two = ratio(new double[] { 10, 12 }, new double[] { 10, 10 });
    assertEquals(1.0954451150103321, two.value(), EXACT);
    assertEquals(0.34398860889853167, two.low(), EXACT);
    assertEquals(3.4884876096405004, two.high(), 1e-11);
    assertTrue(two.isNoDifference());
  }

  /** Percentiles of Student's distribution from printed tables. */
  @ParameterizedTest
  @CsvSource({ "2, 12.706", "3, 4.303", "5, 2.776", "10, 2.262", "31, 2.042" })
  void theIntervalIsStudents(int n, double t) {
    double[] samples = new double[n];
    double[] base = new double[n];
    Arrays.fill(base, 1);
    Arrays.setAll(samples, i -> Math.exp(i));
    Ratio ratio = ratio(samples, base);
    double standardError = Math.sqrt((n + 1) / 12.0); // of 0, 1, ..., n - 1: their variance is n (n + 1) / 12
    assertEquals(t, Math.log(ratio.high() / ratio.value()) / standardError, 0.0006);
    assertEquals(t, Math.log(ratio.value() / ratio.low()) / standardError, 0.0006);
  }

  @Test
  void quartilesLieBetweenSamples() {
    LatencyResult result = LatencyStatistics.result(TEST, new double[] { 5, 1, 4, 2 }, Optional.empty());
    assertEquals(1.75, result.low());
    assertEquals(3, result.median());
    assertEquals(4.25, result.high());
    assertEquals(Optional.empty(), result.toBase());
    LatencyResult one = LatencyStatistics.result(TEST, new double[] { 7 }, Optional.empty());
    assertEquals(new LatencyResult(TEST, List.of(7.0), 7, 7, 7, Optional.empty()), one);
  }

  @Test
  void oneRepetitionTellsNothing() {
    assertEquals(new Ratio(2, 0, Double.POSITIVE_INFINITY), ratio(new double[] { 6 }, new double[] { 3 }));
  }

  @Test
  void withoutSpreadTheIntervalIsAPoint() {
    double[] samples = { 31.7, 29.3, 30.1 };
    assertEquals(new Ratio(1, 1, 1), ratio(samples, samples));
    assertEquals(new Ratio(2, 2, 2), ratio(new double[] { 6, 8, 6, 6 }, new double[] { 3, 4, 3, 3 }));
  }

  @Test
  void oneDisturbedRepetitionDoesNotMakeADifference() {
    double[] base = { 100, 101, 99, 100.5, 99.5 };
    double[] samples = { 100.5, 100, 40, 99.8, 100.1 };
    assertTrue(ratio(samples, base).isNoDifference());
  }

  /** 95 of 100 intervals contain the true ratio. The bounds are those of the binomial distribution at 99.99 %. */
  @ParameterizedTest
  @ValueSource(ints = { 2, 3, 5, 20 })
  void intervalsContainTheTruthAsOftenAsTheyClaim(int repetitions) {
    SplittableRandom random = new SplittableRandom(repetitions);
    int contained = 0;
    for (int trial = 0; trial < 1000; trial++) {
      double[] samples = new double[repetitions];
      double[] base = new double[repetitions];
      for (int i = 0; i < repetitions; i++) {
        double drift = 100 * Math.exp(0.3 * random.nextGaussian());
        samples[i] = drift * Math.exp(0.05 * random.nextGaussian());
        base[i] = drift * Math.exp(0.05 * random.nextGaussian());
      }
      contained += ratio(samples, base).isNoDifference() ? 1 : 0;
    }
    assertTrue(contained >= 921 && contained <= 975, contained + " of 1000");
  }

  @Test
  void whatIsNoTimingIsRefused() {
    refused("tg128: no samples", new double[0], new double[0]);
    refused("tg128: sample 0.0, expected one above 0 and finite", new double[] { 1, 0 }, new double[] { 1, 1 });
    refused("tg128: sample NaN, expected one above 0 and finite", new double[] { 1 }, new double[] { Double.NaN });
    refused("tg128: sample Infinity, expected one above 0 and finite", new double[] { 1 / 0.0 }, new double[] { 1 });
    refused("tg128: 2 samples, but 1 of the base", new double[] { 1, 2 }, new double[] { 1 });
  }

  private static void refused(String message, double[] samples, double[] base) {
    Throwable error = assertThrows(IllegalArgumentException.class, () -> ratio(samples, base));
    assertEquals(message, error.getMessage());
  }
}
