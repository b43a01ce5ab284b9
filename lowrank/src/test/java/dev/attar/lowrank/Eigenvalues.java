package dev.attar.lowrank;

import java.util.Arrays;

/** Eigenvalues of small symmetric matrices by Jacobi's rotations, in double precision: a second opinion on singular values. */
final class Eigenvalues {

  private Eigenvalues() {}

  /** The squared singular values, in descending order, of {@code matrix root} with {@code root root' = gram}; gram may be null. */
  static double[] ofProduct(float[] matrix, int rows, int columns, double[] gram) {
    double[][] product = new double[rows][rows];
    for (int i = 0; i < rows; i++) {
      double[] weighted = new double[columns];
      for (int j = 0; j < columns; j++) {
        if (gram == null) {
          weighted[j] = matrix[i * columns + j];
        } else {
          for (int k = 0; k < columns; k++) {
            weighted[j] += matrix[i * columns + k] * gram[k * columns + j];
          }
        }
      }
      for (int other = 0; other < rows; other++) {
        for (int j = 0; j < columns; j++) {
          product[i][other] += weighted[j] * matrix[other * columns + j];
        }
      }
    }
    return of(product);
  }

  /** The eigenvalues in descending order; the matrix is destroyed. */
  static double[] of(double[][] a) {
    int n = a.length;
    for (int sweep = 0; sweep < 30; sweep++) {
      for (int p = 0; p < n; p++) {
        for (int q = p + 1; q < n; q++) {
          rotate(a, p, q);
        }
      }
    }
    double[] values = new double[n];
    for (int i = 0; i < n; i++) {
      values[i] = -a[i][i];
    }
    Arrays.sort(values);
    for (int i = 0; i < n; i++) {
      values[i] = -values[i];
    }
    return values;
  }

  private static void rotate(double[][] a, int p, int q) {
    if (Math.abs(a[p][q]) < 1e-300) {
      return;
    }
    double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
    double t = Math.copySign(1, theta) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
    double c = 1 / Math.sqrt(t * t + 1);
    double s = t * c;
    for (int k = 0; k < a.length; k++) {
      double x = a[k][p];
      double y = a[k][q];
      a[k][p] = c * x - s * y;
      a[k][q] = s * x + c * y;
    }
    for (int k = 0; k < a.length; k++) {
      double x = a[p][k];
      double y = a[q][k];
      a[p][k] = c * x - s * y;
      a[q][k] = s * x + c * y;
    }
  }
}
