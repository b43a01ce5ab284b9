package dev.attar.lowrank.heads;

import java.util.Arrays;
import java.util.Comparator;

/** A small matrix of complex numbers: rotary pairs are such, and rotations multiply them. */
final class Complex {

  /** Rotations of all pairs of columns until nothing is left beside the diagonal; about six are enough. */
  private static final int SWEEPS = 40;

  /** What is left beside the diagonal counts as nothing below this part of the diagonal. */
  private static final double SMALL = 1e-14;

  final int rows;
  final int columns;
  private final double[] real;
  private final double[] imaginary;

  /** Zeros. */
  Complex(int rows, int columns) {
    this.rows = rows;
    this.columns = columns;
    real = new double[rows * columns];
    imaginary = new double[rows * columns];
  }

  double re(int row, int column) {
    return real[row * columns + column];
  }

  double im(int row, int column) {
    return imaginary[row * columns + column];
  }

  void set(int row, int column, double re, double im) {
    real[row * columns + column] = re;
    imaginary[row * columns + column] = im;
  }

  void add(int row, int column, double re, double im) {
    real[row * columns + column] += re;
    imaginary[row * columns + column] += im;
  }

  /** Adds a matrix of the same shape. */
  void add(Complex other) {
    add(other, 1);
  }

  /** Adds a multiple of a matrix of the same shape. */
  void add(Complex other, double factor) {
    for (int i = 0; i < real.length; i++) {
      real[i] += factor * other.real[i];
      imaginary[i] += factor * other.imaginary[i];
    }
  }

  /** The sum of the diagonal, which is real. */
  double trace() {
    double sum = 0;
    for (int i = 0; i < rows; i++) {
      sum += re(i, i);
    }
    return sum;
  }

  /** Rows and columns from {@code first} on. */
  Complex part(int first, int count) {
    Complex part = new Complex(count, count);
    for (int i = 0; i < count; i++) {
      for (int j = 0; j < count; j++) {
        part.set(i, j, re(first + i, first + j), im(first + i, first + j));
      }
    }
    return part;
  }

  /** The product with another. */
  Complex times(Complex other) {
    Complex product = new Complex(rows, other.columns);
    for (int i = 0; i < rows; i++) {
      for (int k = 0; k < columns; k++) {
        double a = re(i, k);
        double b = im(i, k);
        for (int j = 0; j < other.columns; j++) {
          product.add(i, j, a * other.re(k, j) - b * other.im(k, j), a * other.im(k, j) + b * other.re(k, j));
        }
      }
    }
    return product;
  }

  /** The conjugate transpose. */
  Complex adjoint() {
    Complex adjoint = new Complex(/* rows= */ columns, /* columns= */ rows);
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        adjoint.set(j, i, re(i, j), -im(i, j));
      }
    }
    return adjoint;
  }

  /**
   * The lower triangular L with L L* = this and a ridge on its diagonal.
   *
   * @param ridge above 0, and above what rounding does to this Hermitian matrix, which must not be indefinite otherwise
   */
  Complex cholesky(double ridge) {
    Complex lower = new Complex(rows, rows);
    for (int j = 0; j < rows; j++) {
      for (int i = j; i < rows; i++) {
        double a = re(i, j);
        double b = im(i, j);
        for (int k = 0; k < j; k++) {
          a -= lower.re(i, k) * lower.re(j, k) + lower.im(i, k) * lower.im(j, k);
          b -= lower.im(i, k) * lower.re(j, k) - lower.re(i, k) * lower.im(j, k);
        }
        if (i == j) {
          lower.set(j, j, Math.sqrt(Math.max(a + ridge, ridge)), 0);
        } else {
          lower.set(i, j, a / lower.re(j, j), b / lower.re(j, j));
        }
      }
    }
    return lower;
  }

  /** The X of {@code L* X = other}, where this is the lower triangular L. */
  Complex solveAdjoint(Complex other) {
    Complex x = new Complex(rows, other.columns);
    for (int column = 0; column < other.columns; column++) {
      for (int i = rows - 1; i >= 0; i--) {
        double a = other.re(i, column);
        double b = other.im(i, column);
        for (int k = i + 1; k < rows; k++) {
          // The conjugate of L's element below the diagonal.
          a -= re(k, i) * x.re(k, column) + im(k, i) * x.im(k, column);
          b -= re(k, i) * x.im(k, column) - im(k, i) * x.re(k, column);
        }
        x.set(i, column, a / re(i, i), b / re(i, i));
      }
    }
    return x;
  }

  /**
   * Eigenvalues and eigenvectors of a Hermitian matrix.
   *
   * @param values in descending order
   * @param vectors of length 1, in its columns
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  record Eigen(double[] values, Complex vectors) {}

  /** The decomposition of this Hermitian matrix, by Jacobi's rotations (Golub and Van Loan, Matrix Computations, 8.5). */
  Eigen eigen() {
    Complex left = part(0, rows);
    Complex vectors = new Complex(rows, rows);
    for (int i = 0; i < rows; i++) {
      vectors.set(i, i, 1, 0);
    }
    double small = SMALL * Math.abs(trace());
    boolean rotates = true;
    for (int sweep = 0; rotates && sweep < SWEEPS; sweep++) {
      rotates = false;
      for (int p = 0; p < rows; p++) {
        for (int q = p + 1; q < rows; q++) {
          double size = Math.hypot(left.re(p, q), left.im(p, q));
          if (size > small) {
            rotates = true;
            rotate(left, vectors, p, q, size);
          }
        }
      }
    }
    Integer[] order = new Integer[rows];
    for (int i = 0; i < rows; i++) {
      order[i] = i;
    }
    Arrays.sort(order, Comparator.comparingDouble((Integer i) -> -left.re(i, i)));
    double[] values = new double[rows];
    Complex sorted = new Complex(rows, rows);
    for (int j = 0; j < rows; j++) {
      values[j] = left.re(order[j], order[j]);
      for (int i = 0; i < rows; i++) {
        sorted.set(i, j, vectors.re(i, order[j]), vectors.im(i, order[j]));
      }
    }
    return new Eigen(values, sorted);
  }

  /** Turns the directions p and q so that nothing is left between them. */
  private static void rotate(Complex left, Complex vectors, int p, int q, double size) {
    // The phase that makes what is between them real, then the rotation of a real matrix.
    double phaseRe = left.re(p, q) / size;
    double phaseIm = -left.im(p, q) / size;
    double ratio = (left.re(q, q) - left.re(p, p)) / (2 * size);
    double tangent = Math.copySign(1, ratio) / (Math.abs(ratio) + Math.hypot(1, ratio));
    double cosine = 1 / Math.hypot(1, tangent);
    double sine = tangent * cosine;
    for (int i = 0; i < left.rows; i++) {
      left.mix(i, p, i, q, phaseRe, phaseIm, cosine, sine);
      vectors.mix(i, p, i, q, phaseRe, phaseIm, cosine, sine);
    }
    for (int i = 0; i < left.rows; i++) {
      left.mix(p, i, q, i, phaseRe, -phaseIm, cosine, sine);
    }
  }

  /** Replaces x and y by {@code c x - s y f} and {@code s x + c y f}, f a phase. */
  private void mix(int rowX, int columnX, int rowY, int columnY, double re, double im, double c, double s) {
    double xRe = re(rowX, columnX);
    double xIm = im(rowX, columnX);
    double yRe = re(rowY, columnY) * re - im(rowY, columnY) * im;
    double yIm = re(rowY, columnY) * im + im(rowY, columnY) * re;
    set(rowX, columnX, c * xRe - s * yRe, c * xIm - s * yIm);
    set(rowY, columnY, s * xRe + c * yRe, s * xIm + c * yIm);
  }
}
