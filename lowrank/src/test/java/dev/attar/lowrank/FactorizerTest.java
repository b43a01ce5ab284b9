package dev.attar.lowrank;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class FactorizerTest {

  private static final double DAMPING = 0.01;

  /** A product as it is used: B A, row-major. */
  private record Result(Factorizer.Product product, float[] values) {}

  private static float[] download(Device device, Matrix matrix) {
    float[] values = new float[matrix.rows() * matrix.columns()];
    device.download(matrix, MemorySegment.ofArray(values));
    return values;
  }

  private static Result run(float[] weights, int rows, int columns, float[] gram, int rank) throws IOException {
    try (Devices.Opened opened = Devices.open(DeviceChoice.CPU, 1); Scope scope = opened.device().scope()) {
      Device device = opened.device();
      Matrix matrix = scope.matrix(rows, columns);
      device.upload(MemorySegment.ofArray(weights), matrix);
      Factorizer.Product product;
      if (gram == null) {
        product = new Factorizer(device).product(scope, matrix, null, rank);
      } else {
        try (PreparedGram input = MadeUpInputs.prepare(device, gram, columns, PreparedGram.Use.solving(DAMPING))) {
          product = new Factorizer(device).product(scope, matrix, input.root(), rank);
        }
      }
      assertTrue(Arrays.equals(weights, download(device, matrix)), "the matrix was changed");
      float[] a = download(device, product.a());
      float[] b = download(device, product.b());
      float[] values = new float[rows * columns];
      for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
          double sum = 0;
          for (int r = 0; r < rank; r++) {
            sum += (double) b[r * rows + i] * a[r * columns + j];
          }
          values[i * columns + j] = (float) sum;
        }
      }
      return new Result(product, values);
    }
  }

  /** The Gram matrix with what is added to its diagonal. */
  private static float[] damped(float[] gram, int n) {
    float[] damped = gram.clone();
    double mean = 0;
    for (int i = 0; i < n; i++) {
      mean += gram[i * n + i] / (double) n;
    }
    for (int i = 0; i < n; i++) {
      damped[i * n + i] += (float) (DAMPING * mean);
    }
    return damped;
  }

  private static double[] doubles(float[] values) {
    double[] doubles = new double[values.length];
    Arrays.setAll(doubles, i -> values[i]);
    return doubles;
  }

  @ParameterizedTest(name = "{0} x {1}, rank {2}, on a text: {3}")
  @CsvSource(
    {
      "24, 40, 12, true",
      "40, 24, 23, true",
      "40, 24, 24, true",
      "24, 40, 1, true",
      "24, 40, 4, true",
      "40, 24, 3, true",
      "24, 40, 12, false",
      "40, 24, 2, false",
      "5, 40, 5, true",
      "1, 3, 1, true"
    }
  )
  void leavesTheLeastErrorThereIs(int rows, int columns, int rank, boolean onText) throws IOException {
    float[] weights = MadeUpInputs.weights(rows, columns, 3);
    float[] gram = onText ? MadeUpInputs.correlated(columns, 4) : null;
    double[] metric = onText ? doubles(damped(gram, columns)) : null;
    double[] squares = Eigenvalues.ofProduct(weights, rows, columns, metric);
    double energy = Arrays.stream(squares).sum();
    double least = Arrays.stream(squares).skip(rank).sum();
    Result result = run(weights, rows, columns, gram, rank);
    float[] unit = new float[columns * columns];
    for (int i = 0; i < columns; i++) {
      unit[i * columns + i] = 1;
    }
    double error = MadeUpInputs.error(weights, result.values, onText ? damped(gram, columns) : unit, columns);
    assertEquals(least, error, 1e-3 * least + 1e-6 * energy);
    assertEquals(energy, result.product.energy(), 1e-5 * energy);
    double[] found = result.product.squares();
    for (int i = 0; i < rank; i++) {
      assertEquals(squares[i], found[i], 1e-3 * squares[i] + 1e-6 * energy, "singular value " + i);
    }
  }

  @Test
  void findsTheFewLargestOfManyThatAreNearlyEqual() throws IOException {
    // The error of rounding is like noise: nothing stands out, which is where an iteration takes longest.
    int rows = 160;
    int columns = 192;
    float[] weights = MadeUpInputs.weights(rows, columns, 5);
    int rank = 16;
    Result result = run(weights, rows, columns, null, rank);
    double[] squares = Eigenvalues.ofProduct(weights, rows, columns, null);
    double least = Arrays.stream(squares).skip(rank).sum();
    double error = 0;
    for (int i = 0; i < weights.length; i++) {
      error += Math.pow((double) weights[i] - result.values[i], 2);
    }
    assertEquals(least, error, 1e-3 * least);
    assertTrue(result.product.squares().length < Math.min(rows, columns), "all singular values were computed");
  }

  @Test
  void takesMatricesOfLowerRankAndZeros() throws IOException {
    int n = 64;
    Random random = new Random(6);
    float[] left = new float[n];
    float[] right = new float[n];
    for (int i = 0; i < n; i++) {
      left[i] = random.nextFloat() - 0.5f;
      right[i] = random.nextFloat() - 0.5f;
    }
    float[] weights = new float[n * n];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = left[i / n] * right[i % n];
    }
    for (int rank : new int[] { 4, 40 }) {
      Result one = run(weights, n, n, MadeUpInputs.correlated(n, 8), rank);
      for (int i = 0; i < weights.length; i++) {
        assertEquals(weights[i], one.values[i], 1e-5, "rank " + rank + ", value " + i);
      }
      Result zeros = run(new float[n * n], n, n, MadeUpInputs.correlated(n, 8), rank);
      assertEquals(0, zeros.product.energy());
      for (float value : zeros.values) {
        assertEquals(0, value);
      }
    }
  }
}
