package dev.attar.bench.accuracy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.bench.Estimate;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class StatisticsTest {

  private static final double EXACT = 1e-12;

  /** Percentiles come from bins that are 0.192 % wide. */
  private static final double BIN = 0.002;

  private static TokenComparison forty() {
    TokenComparison scores = new TokenComparison(40);
    for (int i = 0; i < 40; i++) {
      scores.baseNll[i] = 3 + 2 * Math.sin(i);
      scores.nll[i] = scores.baseNll[i] + 0.1 * Math.cos(2.0 * i) + 0.02;
      scores.divergence[i] = Math.exp(-4 + 2 * Math.sin(5.0 * i));
      scores.deltaP[i] = 0.1 * Math.sin(3.0 * i);
      scores.sameTop[i] = i % 4 != 0;
    }
    return scores;
  }

  /** Golden values: numpy and scipy 1.17.1; the ratio's error both as √(var a + var b - 2 cov) and as √var(a - b). */
  @Test
  void agreesWithScipy() {
    PerplexityStatistics perplexity = new PerplexityStatistics();
    perplexity.add(forty());
    Perplexity p = perplexity.result(4, 22);
    assertEquals(21.720253922133786, p.value(), 1e-11);
    assertEquals(4.8973929099432905, p.error(), 1e-11);
    assertEquals(new Perplexity(p.value(), p.error(), 40, 4, 22), p);

    DivergenceStatistics divergence = new DivergenceStatistics();
    divergence.add(forty());
    Divergence d = divergence.result();
    assertEstimate(0.04129207779373294, 0.007140458973673882, d.mean());
    assertEquals(0.13474092173400310, d.max());
    assertEquals(0.017540122817480554, d.median(), 0.017540122817480554 * BIN);
    assertEquals(0.11447278730233154, d.p90(), 0.11447278730233154 * BIN);
    assertEquals(0.13474071161943607, d.p99(), 0.13474071161943607 * BIN);
    assertEquals(0.13474090072254638, d.p999(), 0.13474090072254638 * BIN);
    assertEstimate(1.0208037154525664, 0.01169260743002455, d.perplexityRatio());
    assertEstimate(-0.0007092923208359174, 0.011736303276646938, d.meanDeltaP());
    assertEstimate(0.0732966224668798, 0.003832489334279678, d.rmsDeltaP());
    assertEstimate(0.75, 0.06933752452815364, d.sameTop());
  }

  private static void assertEstimate(double value, double error, Estimate actual) {
    assertEquals(value, actual.value(), EXACT);
    assertEquals(error, actual.error(), EXACT);
  }

  @Test
  void doesNotDependOnHowTheTokensWereCut() {
    DivergenceStatistics whole = new DivergenceStatistics();
    whole.add(forty());
    DivergenceStatistics parts = new DivergenceStatistics();
    PerplexityStatistics nll = new PerplexityStatistics();
    TokenComparison all = forty();
    for (int i = 0; i < 40; i += 10) {
      TokenComparison part = new TokenComparison(10);
      System.arraycopy(all.nll, i, part.nll, 0, 10);
      System.arraycopy(all.baseNll, i, part.baseNll, 0, 10);
      System.arraycopy(all.divergence, i, part.divergence, 0, 10);
      System.arraycopy(all.deltaP, i, part.deltaP, 0, 10);
      System.arraycopy(all.sameTop, i, part.sameTop, 0, 10);
      parts.add(part);
      TokenScores scores = new TokenScores(10);
      System.arraycopy(all.nll, i, scores.nll, 0, 10);
      nll.add(scores);
    }
    assertEquals(whole.result(), parts.result());
    PerplexityStatistics wholeNll = new PerplexityStatistics();
    wholeNll.add(all);
    assertEquals(wholeNll.result(1, 1), nll.result(1, 1));
  }

  @Test
  void equalModelsDoNotDiffer() {
    TokenComparison scores = forty();
    System.arraycopy(scores.baseNll, 0, scores.nll, 0, 40);
    Arrays.fill(scores.divergence, 0);
    Arrays.fill(scores.deltaP, 0);
    Arrays.fill(scores.sameTop, true);
    DivergenceStatistics statistics = new DivergenceStatistics();
    statistics.add(scores);
    Divergence d = statistics.result();
    Estimate zero = new Estimate(0, 0);
    Estimate one = new Estimate(1, 0);
    assertEquals(new Divergence(zero, 0, 0, 0, 0, 0, one, zero, zero, one, d.histogram()), d);
    assertArrayEquals(new long[] { 40 }, d.histogram().counts());
    assertTrue(d.histogram().edges()[0] > 0);
  }

  @Test
  void fewTokensHaveNoError() {
    TokenComparison one = new TokenComparison(1);
    one.nll[0] = 2;
    one.baseNll[0] = 1;
    one.divergence[0] = 0.25;
    one.deltaP[0] = -0.5;
    DivergenceStatistics statistics = new DivergenceStatistics();
    statistics.add(one);
    Divergence d = statistics.result();
    assertEquals(new Estimate(0.25, 0), d.mean());
    assertEquals(0.25, d.median());
    assertEquals(0.25, d.p999());
    assertEquals(new Estimate(Math.E, 0), d.perplexityRatio());
    assertEquals(new Estimate(0.5, 0), d.rmsDeltaP());
    assertEquals(new Estimate(0, 0), d.sameTop());
  }

  @Test
  void nothingHasNoResult() {
    assertThrows(IllegalStateException.class, () -> new DivergenceStatistics().result());
    assertThrows(IllegalStateException.class, () -> new PerplexityStatistics().result(1, 4));
    DivergenceStatistics empty = new DivergenceStatistics();
    empty.add(new TokenComparison(0));
    assertThrows(IllegalStateException.class, empty::result);
  }

  @Test
  void infinityAndNaNShow() {
    TokenComparison scores = forty();
    scores.nll[3] = Double.POSITIVE_INFINITY;
    scores.divergence[3] = Double.POSITIVE_INFINITY;
    DivergenceStatistics statistics = new DivergenceStatistics();
    statistics.add(scores);
    Divergence d = statistics.result();
    assertEquals(Double.POSITIVE_INFINITY, d.mean().value());
    assertEquals(Double.POSITIVE_INFINITY, d.max());
    assertEquals(Double.POSITIVE_INFINITY, d.p99());
    assertTrue(d.p90() < 0.14);
    assertEquals(Double.POSITIVE_INFINITY, d.perplexityRatio().value());
    assertEquals(40, Arrays.stream(d.histogram().counts()).sum());

    scores.divergence[5] = Double.NaN;
    DivergenceStatistics invalid = new DivergenceStatistics();
    invalid.add(scores);
    assertTrue(Double.isNaN(invalid.result().mean().value()));
    assertTrue(Double.isNaN(invalid.result().median()));
    assertTrue(Double.isNaN(invalid.result().max()));
  }

  @Test
  void percentilesAreThoseOfSortedValues() {
    SplittableRandom random = new SplittableRandom(1);
    for (double spread : new double[] { 0.5, 1.5, 3 }) {
      double[] values = new double[100_000];
      Arrays.setAll(values, i -> Math.exp(-5 + spread * random.nextGaussian()));
      Distribution distribution = new Distribution();
      Arrays.stream(values).forEach(distribution::add);
      Arrays.sort(values);
      for (double fraction : new double[] { 0, 1e-4, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 0.99999, 1 }) {
        double rank = fraction * (values.length - 1);
        int index = (int) rank;
        double next = values[Math.min(index + 1, values.length - 1)];
        double expected = values[index] + (rank - index) * (next - values[index]);
        assertEquals(expected, distribution.percentile(fraction), Math.max(1e-12, expected * BIN), "at " + fraction);
      }
      assertEquals(values[0], distribution.percentile(0));
      assertEquals(values[values.length - 1], distribution.percentile(1));
    }
  }

  @Test
  void anyValueKeepsItsSize() {
    for (double value = 1.1e-12; value < 1e4; value *= 1.0137) {
      Distribution distribution = new Distribution();
      distribution.add(0);
      distribution.add(value);
      distribution.add(2e4);
      assertEquals(value, distribution.percentile(0.5), value * BIN);
    }
  }

  @Test
  void valuesOutsideTheBinsCount() {
    Distribution distribution = new Distribution();
    for (double value : new double[] { 0, 0, 1e-300, Double.MIN_VALUE, 1, 1e5, 1e300, Double.POSITIVE_INFINITY }) {
      distribution.add(value);
    }
    assertEquals(0, distribution.percentile(0));
    assertEquals(0, distribution.percentile(3 / 7.0), EXACT);
    assertEquals(1, distribution.percentile(4 / 7.0), BIN);
    assertEquals(1e300, distribution.percentile(6 / 7.0));
    assertEquals(Double.POSITIVE_INFINITY, distribution.percentile(1));
    assertEquals(8, Arrays.stream(distribution.histogram().counts()).sum());
  }

  @Test
  void theChartHoldsEveryValueInItsBin() {
    SplittableRandom random = new SplittableRandom(2);
    Distribution distribution = new Distribution();
    double[] values = new double[20_000];
    Arrays.setAll(values, i -> Math.exp(-7 + 3 * random.nextGaussian()));
    Arrays.stream(values).forEach(distribution::add);
    Histogram histogram = distribution.histogram();
    double[] edges = histogram.edges();
    int bins = histogram.counts().length;
    assertTrue(bins > 30 && bins <= 60, () -> bins + " bins");
    double ratio = edges[1] / edges[0];
    long[] expected = new long[bins];
    for (int i = 0; i < bins; i++) {
      assertEquals(ratio, edges[i + 1] / edges[i], 1e-9);
      for (double value : values) {
        expected[i] += value >= edges[i] && value < edges[i + 1] ? 1 : 0;
      }
    }
    assertArrayEquals(expected, histogram.counts());
    assertTrue(expected[0] > 0 && expected[bins - 1] > 0);
  }
}
