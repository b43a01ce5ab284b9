package dev.attar.distill.teacher;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Comparator;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class TopTokensTest {

  /** Compares with plain loops in float64. */
  static void assertRows(
    float[] logits,
    int vocabulary,
    int k,
    float temperature,
    int[] tokens,
    float[] logProbabilities
  ) {
    int rows = logits.length / vocabulary;
    assertEquals(rows * k, tokens.length);
    assertEquals(rows * (k + 1), logProbabilities.length);
    for (int row = 0; row < rows; row++) {
      float[] x = Arrays.copyOfRange(logits, row * vocabulary, (row + 1) * vocabulary);
      int[] order = IntStream.range(0, vocabulary)
        .boxed()
        .sorted(Comparator.<Integer>comparingDouble(i -> 0.0 - x[i]).thenComparing(i -> i))
        .mapToInt(i -> i)
        .toArray();
      assertArrayEquals(Arrays.copyOf(order, k), Arrays.copyOfRange(tokens, row * k, (row + 1) * k));
      double all = logSum(x, order, 0, temperature);
      for (int i = 0; i < k; i++) {
        assertLog((double) x[order[i]] / temperature - all, logProbabilities[row * (k + 1) + i]);
      }
      assertLog(logSum(x, order, k, temperature) - all, logProbabilities[row * (k + 1) + k]);
    }
  }

  /** Of the tokens from a place in the order on. */
  private static double logSum(float[] x, int[] order, int from, float temperature) {
    double greatest = (double) x[order[from]] / temperature;
    double sum = 0;
    for (int i = from; i < order.length; i++) {
      sum += Math.exp((double) x[order[i]] / temperature - greatest);
    }
    return greatest + Math.log(sum);
  }

  private static void assertLog(double expected, float actual) {
    assertEquals(expected, actual, 2e-6 + 1e-6 * Math.abs(expected));
  }

  private static void check(float[] logits, int vocabulary, int k, float temperature) {
    int rows = logits.length / vocabulary;
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, logits);
      MemorySegment tokens = arena.allocate(4L * rows * k, 4);
      MemorySegment logs = arena.allocate(4L * rows * (k + 1), 4);
      TopTokens top = new TopTokens(vocabulary, k, temperature);
      for (int row = 0; row < rows; row++) {
        top.find(in, 4L * row * vocabulary, tokens, 4L * row * k, logs, 4L * row * (k + 1));
      }
      assertRows(
        logits,
        vocabulary,
        k,
        temperature,
        tokens.toArray(ValueLayout.JAVA_INT),
        logs.toArray(ValueLayout.JAVA_FLOAT)
      );
    }
  }

  @Test
  void findsWhatPlainLoopsFind() {
    SplittableRandom random = new SplittableRandom(1);
    for (int round = 0; round < 60; round++) {
      int vocabulary = random.nextInt(2, 600);
      int k = random.nextInt(1, Math.min(vocabulary, 80));
      float temperature = (float) random.nextDouble(0.1, 5);
      // Whole numbers are often equal, at the edge of the k too; -0 is 0.
      double scale = new double[] { 0, 1, 3, 100 }[round % 4];
      boolean whole = round % 3 == 0;
      float[] logits = new float[3 * vocabulary];
      for (int i = 0; i < logits.length; i++) {
        double x = random.nextDouble(-scale, scale + 1e-9);
        logits[i] = (float) (whole ? Math.rint(x) : x);
      }
      check(logits, vocabulary, k, temperature);
    }
    float[] ascending = new float[5000];
    for (int i = 0; i < ascending.length; i++) {
      ascending[i] = i / 7f;
    }
    check(ascending, 5000, 64, 2);
    check(Arrays.copyOf(ascending, 900), 900, 899, 1);
  }

  @Test
  void theRestsMassIsRightHoweverSmall() {
    float[] logits = new float[40];
    Arrays.fill(logits, -300);
    logits[17] = 5;
    logits[3] = 5;
    check(logits, 40, 2, 1);
    logits[30] = -1e30f;
    check(logits, 40, 2, 0.01f);
    // So small that even its logarithm is beyond float32.
    float[] none = { 0, -3e38f, -3e38f };
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, none);
      MemorySegment logs = arena.allocate(8, 4);
      new TopTokens(3, 1, 0.1f).find(in, 0, arena.allocate(4, 4), 0, logs, 0);
      assertArrayEquals(new float[] { 0, Float.NEGATIVE_INFINITY }, logs.toArray(ValueLayout.JAVA_FLOAT));
    }
  }

  @Test
  void whatIsNotFiniteIsSeenAnywhere() {
    for (int n : new int[] { 1, 7, 16, 37 }) {
      float[] values = new float[n];
      Arrays.fill(values, Float.MAX_VALUE);
      assertTrue(TopTokens.areFinite(MemorySegment.ofArray(values), 0, n));
      for (float bad : new float[] { Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
        for (int i = 0; i < n; i++) {
          float[] copy = values.clone();
          copy[i] = bad;
          assertFalse(TopTokens.areFinite(MemorySegment.ofArray(copy), 0, n), n + ": " + i);
        }
      }
    }
  }
}
