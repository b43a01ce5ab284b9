package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class EliminationTest {

  private static final double DAMPING = 0.01;
  private static final int ROWS = 7;

  private static Device device;

  @BeforeAll
  static void openDevice() throws IOException {
    device = Devices.cpu(1);
  }

  @AfterAll
  static void closeDevice() {
    device.close();
  }

  /** What is done with a weight. */
  @FunctionalInterface
  private interface Work {
    void run(Elimination elimination, Scope scope);
  }

  /**
   * @param weights a row for each of the weight's
   */
  private static void with(Device on, float[] gram, float[] weights, int n, int size, Work work) {
    PreparedGram.Use use = new PreparedGram.Use(DAMPING, PreparedGram.Order.SORTED, true);
    try (PreparedGram input = MadeUpInputs.prepare(on, gram, n, use); Scope scope = on.scope()) {
      int rows = weights.length / n;
      Matrix straight = scope.matrix(rows, n);
      on.upload(MemorySegment.ofArray(weights), straight);
      Matrix turned = scope.matrix(n, rows);
      on.transpose(straight, turned);
      work.run(new Elimination(on, input, turned, size), scope);
    }
  }

  private static float[] values(Device on, Matrix matrix) {
    float[] values = new float[matrix.rows() * matrix.columns()];
    on.download(matrix, MemorySegment.ofArray(values));
    return values;
  }

  /** Both triangles, in double precision, with what damping adds. */
  private static double[][] damped(float[] gram, int n, double damping) {
    double[][] h = new double[n][n];
    double mean = 0;
    for (int i = 0; i < n; i++) {
      mean += (double) gram[i * n + i] / n;
      for (int j = 0; j < n; j++) {
        h[i][j] = gram[Math.min(i, j) * n + Math.max(i, j)];
      }
    }
    for (int i = 0; i < n; i++) {
      h[i][i] += damping * mean;
    }
    return h;
  }

  private static double ridge(float[] gram, int n) {
    return damped(gram, n, DAMPING)[0][0] - gram[0];
  }

  /** The solution of a x = b by Gauss's elimination with pivots. */
  private static double[] solve(double[][] a, double[] b) {
    int n = b.length;
    double[][] m = new double[n][];
    for (int i = 0; i < n; i++) {
      m[i] = Arrays.copyOf(a[i], n + 1);
      m[i][n] = b[i];
    }
    for (int k = 0; k < n; k++) {
      int pivot = k;
      for (int i = k + 1; i < n; i++) {
        pivot = Math.abs(m[i][k]) > Math.abs(m[pivot][k]) ? i : pivot;
      }
      double[] row = m[k];
      m[k] = m[pivot];
      m[pivot] = row;
      for (int i = k + 1; i < n; i++) {
        double factor = m[i][k] / m[k][k];
        for (int j = k; j <= n; j++) {
          m[i][j] -= factor * m[k][j];
        }
      }
    }
    double[] x = new double[n];
    for (int i = n - 1; i >= 0; i--) {
      double sum = m[i][n];
      for (int j = i + 1; j < n; j++) {
        sum -= m[i][j] * x[j];
      }
      x[i] = sum / m[i][i];
    }
    return x;
  }

  /** The best change of a row: what must go is -w there, the others are free. */
  private static double[] bestChange(double[][] h, double[] w, boolean[] gone) {
    int n = w.length;
    int[] left = IntStream.range(0, n)
      .filter(i -> !gone[i])
      .toArray();
    double[][] part = new double[left.length][left.length];
    double[] pull = new double[left.length];
    for (int i = 0; i < left.length; i++) {
      for (int j = 0; j < left.length; j++) {
        part[i][j] = h[left[i]][left[j]];
      }
      for (int r = 0; r < n; r++) {
        pull[i] += gone[r] ? h[left[i]][r] * w[r] : 0;
      }
    }
    double[] change = new double[n];
    double[] x = solve(part, pull);
    for (int i = 0; i < left.length; i++) {
      change[left[i]] = x[i];
    }
    for (int i = 0; i < n; i++) {
      change[i] = gone[i] ? -w[i] : change[i];
    }
    return change;
  }

  private static double cost(double[][] h, double[] e) {
    double cost = 0;
    for (int i = 0; i < e.length; i++) {
      for (int j = 0; j < e.length; j++) {
        cost += e[i] * h[i][j] * e[j];
      }
    }
    return cost;
  }

  private static double[] row(float[] weights, int n, int row) {
    return IntStream.range(0, n)
      .mapToDouble(i -> weights[row * n + i])
      .toArray();
  }

  private static boolean[] columns(int n, int size, int... groups) {
    boolean[] gone = new boolean[n];
    for (int group : groups) {
      Arrays.fill(gone, group * size, (group + 1) * size, true);
    }
    return gone;
  }

  private static double costWithRefit(double[][] h, double ridge, float[] weights, boolean[] gone) {
    int n = h.length;
    double cost = 0;
    for (int row = 0; row < weights.length / n; row++) {
      double[] change = bestChange(h, row(weights, n, row), gone);
      cost += cost(h, change);
      for (int i = 0; i < n; i++) {
        cost -= gone[i] ? ridge * change[i] * change[i] : 0; // it is for those that stay
      }
    }
    return cost;
  }

  private static double costWithoutRefit(double[][] h, float[] weights, boolean[] gone) {
    int n = h.length;
    double cost = 0;
    for (int row = 0; row < weights.length / n; row++) {
      double[] e = row(weights, n, row);
      for (int i = 0; i < n; i++) {
        e[i] = gone[i] ? -e[i] : 0;
      }
      cost += cost(h, e);
    }
    return cost;
  }

  /** What sets cost. */
  @FunctionalInterface
  private interface Cost {
    double of(boolean[] gone);
  }

  /** Checks that each group that went is, but for rounding, the one that costs least together with those before it. */
  private static void assertGreedy(Elimination.Order order, int n, int size, Cost cost) {
    for (int step = 0; step < order.groups().length; step++) {
      int[] before = Arrays.copyOf(order.groups(), step);
      double least = Double.MAX_VALUE;
      for (int group = 0; group < n / size; group++) {
        int candidate = group;
        if (Arrays.stream(before).noneMatch(g -> g == candidate)) {
          int[] with = Arrays.copyOf(before, step + 1);
          with[step] = group;
          least = Math.min(least, cost.of(columns(n, size, with)));
        }
      }
      double chosen = cost.of(columns(n, size, Arrays.copyOf(order.groups(), step + 1)));
      assertEquals(least, chosen, 1e-3 * least, "step " + step);
      assertEquals(chosen, order.costs()[step], 1e-3 * chosen, "step " + step);
    }
  }

  @ParameterizedTest
  @CsvSource({ "12, 1, 1", "12, 1, 2", "24, 3, 3", "32, 8, 4", "5, 5, 5" })
  void eachTimeTheGroupOfLeastCostGoes(int n, int size, long seed) {
    float[] gram = MadeUpInputs.correlated(n, seed);
    float[] weights = MadeUpInputs.weights(ROWS, n, seed + 100);
    int most = n / size - 1;
    with(device, gram, weights, n, size, (elimination, _) -> {
      double[][] h = damped(gram, n, DAMPING);
      assertGreedy(elimination.withRefit(most), n, size, gone -> costWithRefit(h, ridge(gram, n), weights, gone));
      double[][] plain = damped(gram, n, 0);
      assertGreedy(elimination.withoutRefit(most), n, size, gone -> costWithoutRefit(plain, weights, gone));
    });
  }

  @Test
  void isNotFarFromTheBestSet() {
    int n = 12;
    int size = 4; // of the set
    for (int seed = 0; seed < 5; seed++) {
      float[] gram = MadeUpInputs.correlated(n, seed);
      float[] weights = MadeUpInputs.weights(ROWS, n, seed);
      double[][] h = damped(gram, n, DAMPING);
      double best = Double.MAX_VALUE;
      double sum = 0;
      int sets = 0;
      for (int set = 0; set < 1 << n; set++) {
        if (Integer.bitCount(set) == size) {
          boolean[] gone = new boolean[n];
          for (int i = 0; i < n; i++) {
            gone[i] = ((set >> i) & 1) == 1;
          }
          double cost = costWithRefit(h, ridge(gram, n), weights, gone);
          best = Math.min(best, cost);
          sum += cost;
          sets++;
        }
      }
      double least = best;
      double mean = sum / sets;
      with(device, gram, weights, n, 1, (elimination, _) -> {
        double cost = elimination.withRefit(size).costs()[size - 1];
        assertTrue(cost > 0.998 * least && cost < 1.1 * least, cost + ", the best is " + least);
        assertTrue(cost < 0.7 * mean, cost + ", the mean is " + mean);
      });
    }
  }

  @Test
  void roundsOfSeveralKnowTheirWholeCost() {
    int n = 192;
    float[] gram = MadeUpInputs.correlated(n, 1);
    float[] weights = MadeUpInputs.weights(ROWS, n, 2);
    double[][] h = damped(gram, n, DAMPING);
    with(device, gram, weights, n, 1, (elimination, _) -> {
      Elimination.Order order = elimination.withRefit(n / 3);
      assertEquals(n / 3, Arrays.stream(order.groups()).distinct().count());
      for (int i = 1; i < n / 3; i++) {
        assertTrue(order.costs()[i] >= order.costs()[i - 1]);
      }
      // Three go in a round.
      for (int removed : new int[] { 3, 33, n / 3 }) {
        boolean[] gone = columns(n, 1, Arrays.copyOf(order.groups(), removed));
        double expected = costWithRefit(h, ridge(gram, n), weights, gone);
        assertEquals(expected, order.costs()[removed - 1], 1e-3 * expected);
      }
      double plain = costWithRefit(h, ridge(gram, n), weights, columns(n, 1, Cut.all(n / 3)));
      assertTrue(order.costs()[n / 3 - 1] < 0.8 * plain);
      assertArrayEquals(new int[] { order.groups()[0] }, missing(order.left(1, n), n));
      assertEquals(n, order.left(0, n).length);
    });
  }

  private static int[] missing(int[] left, int n) {
    return IntStream.range(0, n)
      .filter(i -> Arrays.binarySearch(left, i) < 0)
      .toArray();
  }

  @ParameterizedTest
  @CsvSource({ "20, 1", "24, 4" })
  void whatIsLeftIsFittedByLeastSquares(int n, int size) {
    float[] gram = MadeUpInputs.correlated(n, 7);
    float[] weights = MadeUpInputs.weights(ROWS, n, 8);
    double[][] h = damped(gram, n, DAMPING);
    int[] kept = IntStream.range(0, n / size)
      .filter(group -> group % 3 != 1)
      .toArray();
    boolean[] gone = columns(n, size, missing(kept, n / size));
    with(device, gram, weights, n, size, (elimination, scope) -> {
      Matrix fitted = elimination.refit(kept, scope);
      assertEquals(kept.length * size, fitted.rows());
      assertEquals(ROWS, fitted.columns());
      float[] values = values(device, fitted);
      double without = 0;
      double with = 0;
      for (int row = 0; row < ROWS; row++) {
        double[] w = row(weights, n, row);
        double[] expected = bestChange(h, w, gone);
        double[] change = new double[n];
        for (int i = 0, k = 0; i < n; i++) {
          change[i] = gone[i] ? -w[i] : values[k++ * ROWS + row] - w[i];
          assertEquals(expected[i], change[i], 1e-5);
        }
        // The gradient by what is free.
        for (int i = 0; i < n; i++) {
          double gradient = 0;
          for (int j = 0; j < n; j++) {
            gradient += h[i][j] * change[j];
          }
          assertTrue(gone[i] || Math.abs(gradient) < 1e-5 * h[i][i], "column " + i + ": " + gradient);
        }
        double[][] plain = damped(gram, n, 0);
        with += cost(plain, change);
        for (int i = 0; i < n; i++) {
          change[i] = gone[i] ? -w[i] : 0;
        }
        without += cost(plain, change);
      }
      assertEquals(with, elimination.error(kept, fitted), 1e-3 * with);
      assertEquals(without, elimination.error(kept), 1e-3 * without);
      assertTrue(with < 0.5 * without);
      double energy = costWithoutRefit(damped(gram, n, 0), weights, columns(n, 1, Cut.all(n)));
      assertEquals(energy, elimination.energy(), 1e-4 * energy);
    });
  }

  @Test
  void whereNothingGoesNothingChanges() {
    int n = 9;
    float[] weights = MadeUpInputs.weights(ROWS, n, 3);
    with(device, MadeUpInputs.correlated(n, 3), weights, n, 3, (elimination, scope) -> {
      float[] fitted = values(device, elimination.refit(Cut.all(3), scope));
      for (int i = 0; i < n; i++) {
        for (int row = 0; row < ROWS; row++) {
          assertEquals(weights[row * n + i], fitted[i * ROWS + row]);
        }
      }
      assertEquals(0, elimination.error(Cut.all(3)));
      assertEquals(0, elimination.withRefit(0).groups().length);
    });
  }

  @Test
  void deadColumnsGoFirstAndCostNothing() {
    int n = 32;
    float[] gram = MadeUpInputs.correlated(n, 4);
    MadeUpInputs.kill(gram, n, 3, 17, 30);
    float[] weights = MadeUpInputs.weights(ROWS, n, 5);
    // What is not used needs no input.
    for (int row = 0; row < ROWS; row++) {
      weights[row * n + 8] = 0;
    }
    with(device, gram, weights, n, 1, (elimination, scope) -> {
      Elimination.Order without = elimination.withoutRefit(4);
      assertArrayEquals(new int[] { 3, 8, 17, 30 }, Arrays.stream(without.groups()).sorted().toArray());
      assertEquals(0, without.costs()[3]);
      Elimination.Order order = elimination.withRefit(4);
      assertArrayEquals(new int[] { 3, 8, 17, 30 }, Arrays.stream(order.groups()).sorted().toArray());
      int[] left = order.left(4, n);
      // Nothing is lost, so that nothing is to be made up for.
      assertEquals(0, elimination.error(left, elimination.refit(left, scope)), 1e-6 * elimination.energy());
    });
  }

  @Test
  void aTwinTakesOver() {
    int n = 16;
    float[] gram = MadeUpInputs.correlated(n, 6);
    for (int i = 0; i < n; i++) {
      gram[9 * n + i] = gram[2 * n + i];
    }
    for (int i = 0; i < n; i++) {
      gram[i * n + 9] = gram[i * n + 2];
    }
    float[] weights = MadeUpInputs.weights(ROWS, n, 6);
    for (int row = 0; row < ROWS; row++) {
      // Large enough that they would never go without a refit.
      weights[row * n + 2] = 1;
      weights[row * n + 9] = 1;
    }
    with(device, gram, weights, n, 1, (elimination, scope) -> {
      int[] left = IntStream.range(0, n)
        .filter(i -> i != 9)
        .toArray();
      float[] fitted = values(device, elimination.refit(left, scope));
      for (int row = 0; row < ROWS; row++) {
        assertEquals(2, fitted[2 * ROWS + row], 0.1);
      }
      assertTrue(elimination.error(left, elimination.refit(left, scope)) < 0.01 * elimination.error(left));
    });
  }

  @Test
  void columnsThatAreAllTheSameAreBorne() {
    int n = 128;
    float[] gram = new float[n * n];
    Arrays.fill(gram, 1e20f);
    float[] weights = MadeUpInputs.weights(ROWS, n, 6);
    with(device, gram, weights, n, 1, (elimination, scope) -> {
      Elimination.Order order = elimination.withRefit(n - 1);
      assertEquals(n - 1, Arrays.stream(order.groups()).distinct().count());
      for (double cost : order.costs()) {
        assertTrue(cost >= 0 && cost < Float.MAX_VALUE, "cost " + cost);
      }
      int[] left = order.left(n - 1, n);
      assertTrue(elimination.error(left, elimination.refit(left, scope)) < 0.01 * elimination.energy());
    });
  }

  @Test
  void doesNotDependOnThreads() throws IOException {
    int n = 256;
    float[] gram = MadeUpInputs.correlated(n, 11);
    float[] weights = MadeUpInputs.weights(40, n, 12);
    for (int size : new int[] { 1, 32 }) {
      with(device, gram, weights, n, size, (one, scope) -> {
        try (Device other = Devices.cpu(2)) {
          with(other, gram, weights, n, size, (two, otherScope) -> {
            int most = n / size / 2;
            Elimination.Order order = one.withRefit(most);
            assertArrayEquals(order.groups(), two.withRefit(most).groups());
            assertArrayEquals(order.costs(), two.withRefit(most).costs());
            int[] left = order.left(most, n / size);
            assertArrayEquals(values(device, one.refit(left, scope)), values(other, two.refit(left, otherScope)));
          });
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      });
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    int n = 8;
    float[] gram = MadeUpInputs.correlated(n, 1);
    float[] weights = MadeUpInputs.weights(ROWS, n, 1);
    with(device, gram, weights, n, 2, (elimination, _) -> {
      assertThrows(IllegalArgumentException.class, () -> elimination.withRefit(4));
      assertThrows(IllegalArgumentException.class, () -> elimination.withoutRefit(-1));
    });
    assertThrows(IllegalArgumentException.class, () -> with(device, gram, weights, n, 3, (_, _) -> {}));
  }
}
