package dev.attar.calibration.linear;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import java.lang.foreign.MemorySegment;
import java.util.Random;

/** Made-up inputs of layers for tests: Gram matrices, (n, n) row-major. */
public final class MadeUpInputs {

  private MadeUpInputs() {}

  /** Activations that have a few directions in common, in columns of different strength. */
  public static float[] correlated(int n, long seed) {
    Random random = new Random(seed);
    int tokens = 2 * n;
    double[] strength = random.doubles(n, 0.2, 2).toArray();
    double[][] directions = new double[4][];
    for (int k = 0; k < directions.length; k++) {
      directions[k] = random.doubles(n, -1, 1).toArray();
    }
    double[] sums = new double[n * n];
    double[] x = new double[n];
    for (int token = 0; token < tokens; token++) {
      double[] common = random.doubles(directions.length, -2, 2).toArray();
      for (int i = 0; i < n; i++) {
        x[i] = 0.7 * random.nextGaussian();
        for (int k = 0; k < directions.length; k++) {
          x[i] += common[k] * directions[k][i];
        }
        x[i] *= strength[i];
      }
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          sums[i * n + j] += (x[i] * x[j]) / tokens;
        }
      }
    }
    float[] gram = new float[n * n];
    for (int i = 0; i < gram.length; i++) {
      gram[i] = (float) sums[i];
    }
    return gram;
  }

  /** Makes some columns those of dead inputs. */
  public static void kill(float[] gram, int n, int... columns) {
    for (int column : columns) {
      for (int i = 0; i < n; i++) {
        gram[column * n + i] = 0;
        gram[i * n + column] = 0;
      }
    }
  }

  /** The diagonal of a matrix. */
  public static float[] diagonal(float[] gram, int n) {
    float[] diagonal = new float[n];
    for (int i = 0; i < n; i++) {
      diagonal[i] = gram[i * n + i];
    }
    return diagonal;
  }

  /** A matrix ready for use. */
  public static PreparedGram prepare(Device device, float[] gram, int n, PreparedGram.Use use) {
    return PreparedGram.of(
      device,
      diagonal(gram, n),
      (Matrix to) -> device.upload(MemorySegment.ofArray(gram), to),
      use
    );
  }

  /** Rows of weights. */
  public static float[] weights(int rows, int n, long seed) {
    Random random = new Random(seed);
    float[] weights = new float[rows * n];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian() * 0.05f;
    }
    return weights;
  }

  /** {@code trace(E H E')} of the difference of rows. */
  public static double error(float[] weights, float[] other, float[] gram, int n) {
    double error = 0;
    double[] e = new double[n];
    for (int row = 0; row < weights.length / n; row++) {
      for (int i = 0; i < n; i++) {
        e[i] = (double) weights[row * n + i] - other[row * n + i];
      }
      for (int i = 0; i < n; i++) {
        double product = 0;
        for (int j = 0; j < n; j++) {
          product += gram[i * n + j] * e[j];
        }
        error += e[i] * product;
      }
    }
    return error;
  }
}
