package dev.attar.lowrank;

import dev.attar.calibration.linear.MatrixRows;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * Finds the best product of two thin matrices for one matrix M (rows, columns): B A with the least |(M - B A) L|, where L L' is the Gram
 * matrix of what enters, or the unit matrix. That is the truncated singular value decomposition of M L (Eckart and Young, 1936), with A
 * taken back by the inverse of L: what SVD-LLM (Wang et al., 2024) does to weights, and QERA (Zhang et al., 2025) and EoRA (Liu et al.,
 * 2024) to the error of quantized ones.
 */
final class Factorizer {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Below this part of all singular vectors, those of the largest values are found without the others. */
  private static final int FEW = 6;

  /** How often a subspace is multiplied at most until it holds the largest singular vectors. */
  private static final int MOST_ROUNDS = 30;

  /** What a round has to add to the energy that the subspace holds, as a part of it, to be followed by another. */
  private static final double GAIN = 1e-6;

  private static final long SEED = 7;
  private static final double ROUNDING = 1e-6;

  /**
   * A product.
   *
   * @param squares the squared singular values, in descending order, as many as were computed
   * @param energy the sum of all of them
   * @param a (rank, columns)
   * @param b transposed, (rank, rows)
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  record Product(double[] squares, double energy, Matrix a, Matrix b) {
    /** The squared error that a rank leaves, at most that of the product. */
    double error(int rank) {
      return Spectrum.error(squares, energy, rank);
    }
  }

  private final Device device;

  Factorizer(Device device) {
    this.device = device;
  }

  /** Bytes of matrices that it takes at most, with the matrix itself and those of its metric. */
  static long bytes(long rows, long columns, int rank) {
    long few = Math.min(rows, columns);
    if (isFew(rank, few)) {
      return Float.BYTES * (2 * rows * columns + 2 * columns * columns + 8L * width(rank, few) * (rows + columns));
    }
    // The decomposition is computed in double precision: a copy, both sides, and work of the size of the smaller side's squares.
    return (
      Float.BYTES * (2 * rows * columns + 2 * columns * columns + few * (rows + columns)) +
      Double.BYTES * (rows * columns + few * (rows + columns) + 4 * few * few)
    );
  }

  private static boolean isFew(int rank, long all) {
    return (long) rank * FEW <= all;
  }

  /** Vectors of the subspace that is to hold the largest: the more, the sooner it does. */
  private static int width(int rank, long all) {
    return (int) Math.min(all, 2L * rank + 16);
  }

  /**
   * Finds the product.
   *
   * @param matrix M (rows, columns); left as it is
   * @param root L (columns, columns), lower triangular; {@code null} for the unit matrix
   * @param rank of the product, at most the smaller dimension
   */
  Product product(Scope scope, Matrix matrix, Matrix root, int rank) {
    int few = Math.min(matrix.rows(), matrix.columns());
    try (Scope meanwhile = device.scope()) {
      Matrix whitened = matrix;
      if (root != null) {
        whitened = meanwhile.matrix(matrix.rows(), matrix.columns());
        device.gemm(1, matrix, false, root, false, 0, whitened);
      }
      Product product = isFew(rank, few) ? largest(scope, whitened, rank) : decomposed(scope, whitened, rank);
      if (root != null) {
        Matrix right = meanwhile.matrix(matrix.columns(), rank);
        device.transpose(product.a, right);
        device.triangularSolve(root, true, right);
        device.transpose(right, product.a);
      }
      return product;
    }
  }

  private Product decomposed(Scope scope, Matrix matrix, int rank) {
    int few = Math.min(matrix.rows(), matrix.columns());
    float[] values = new float[few];
    Matrix a = scope.matrix(rank, matrix.columns());
    Matrix b = scope.matrix(rank, matrix.rows());
    try (Scope meanwhile = device.scope()) {
      Matrix left = meanwhile.matrix(matrix.rows(), few);
      Matrix right = meanwhile.matrix(few, matrix.columns());
      device.svd(matrix, left, values, right);
      Matrix lefts = meanwhile.matrix(few, matrix.rows());
      device.transpose(left, lefts);
      for (int i = 0; i < rank; i++) {
        device.add(values[i], right.rows(i, 1), a.rows(i, 1));
      }
      device.add(1, lefts.rows(0, rank), b);
    }
    return new Product(squares(values), sum(squares(values)), a, b);
  }

  private static double[] squares(float[] values) {
    double[] squares = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      squares[i] = (double) values[i] * values[i];
    }
    return squares;
  }

  private static double sum(double[] values) {
    double sum = 0;
    for (int i = values.length - 1; i >= 0; i--) {
      sum += values[i];
    }
    return sum;
  }

  /**
   * The singular vectors of the largest values, by subspace iteration (Halko, Martinsson and Tropp, 2011, algorithm 4.4) with twice as many
   * vectors as are wanted.
   */
  private Product largest(Scope scope, Matrix matrix, int rank) {
    int m = matrix.rows();
    int n = matrix.columns();
    int width = width(rank, Math.min(m, n));
    Matrix a = scope.matrix(rank, n);
    Matrix b = scope.matrix(rank, m);
    float[] values = new float[width];
    try (Scope meanwhile = device.scope()) {
      // Vectors are rows throughout.
      Matrix right = meanwhile.matrix(width, n);
      Matrix left = meanwhile.matrix(width, m);
      random(right);
      double held = 0;
      for (int round = 0; round < MOST_ROUNDS; round++) {
        device.gemm(1, right, false, matrix, true, 0, left);
        orthonormalize(left);
        device.gemm(1, left, false, matrix, false, 0, right);
        double before = held;
        held = energy(right);
        if (held - before <= GAIN * held) {
          break;
        }
        if (round + 1 < MOST_ROUNDS) {
          orthonormalize(right);
        }
      }
      Matrix mixed = meanwhile.matrix(width, width);
      Matrix vectors = meanwhile.matrix(width, n);
      device.svd(right, mixed, values, vectors);
      Matrix mixing = meanwhile.matrix(width, width);
      device.transpose(mixed, mixing);
      device.gemm(1, mixing.rows(0, rank), false, left, false, 0, b);
      for (int i = 0; i < rank; i++) {
        device.add(values[i], vectors.rows(i, 1), a.rows(i, 1));
      }
    }
    return new Product(squares(values), energy(matrix), a, b);
  }

  private void random(Matrix to) {
    SplittableRandom random = new SplittableRandom(SEED);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(FLOAT, to.columns());
      for (int i = 0; i < to.rows(); i++) {
        for (int j = 0; j < to.columns(); j++) {
          row.setAtIndex(FLOAT, j, (float) random.nextGaussian());
        }
        device.upload(row, to.rows(i, 1));
      }
    }
  }

  /** Makes rows orthogonal and of length 1, by Cholesky factors of their products, twice: once leaves them only nearly so. */
  private void orthonormalize(Matrix rows) {
    int n = rows.rows();
    try (Scope meanwhile = device.scope()) {
      Matrix products = meanwhile.matrix(n, n);
      Matrix root = meanwhile.matrix(n, n);
      for (int time = 0; time < 2; time++) {
        device.gemm(1, rows, false, rows, true, 0, products);
        double most = Arrays.stream(MatrixRows.diagonal(device, products)).max().orElseThrow();
        // Rows that depend on each other, or are 0, need a little to be told apart.
        for (double more = ROUNDING; device.cholesky(products, root) != 0; more *= 10) {
          MatrixRows.addToDiagonal(device, products, (float) (more * Math.max(most, Float.MIN_NORMAL)));
        }
        device.triangularSolve(root, false, rows);
      }
    }
  }

  private double energy(Matrix matrix) {
    return sum(MatrixRows.squares(device, matrix));
  }
}
