package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.attar.compute.Workers.RangeTask;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import jdk.incubator.vector.FloatVector;

/**
 * Computes with the processor. Results are the same bit for bit with any number of threads, but for eigenvectors and singular values,
 * whose iterations OpenBLAS shares out itself.
 */
final class CpuDevice implements Device {

  private static final ValueLayout.OfFloat LITTLE_ENDIAN = JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Rows in a part of the work that threads share, and the width of a tile where a matrix is transposed. */
  private static final int ROWS = 32;

  private final OpenBlas blas;
  private final int threads;
  private final Workers workers;
  private final BlockedAlgebra algebra;
  private final CpuQuantization quantization;
  private volatile boolean closed;

  CpuDevice(OpenBlas blas, int threads) {
    this.blas = blas;
    this.threads = Math.min(threads, blas.maxThreads());
    workers = new Workers(this.threads);
    algebra = new BlockedAlgebra(blas, workers);
    quantization = new CpuQuantization(this, blas.floats());
  }

  @Override
  public String name() {
    return "cpu (%s, %d %s, %s)".formatted(
      blas.description(),
      threads,
      threads == 1 ? "thread" : "threads",
      ModuleLayer.boot().findModule("jdk.incubator.vector").isPresent() ? Vectors.bits() + "-bit vectors" : "no vectors"
    );
  }

  /** Apart, so that it is loaded only when the module is known to be there. */
  private static final class Vectors {

    static int bits() {
      return FloatVector.SPECIES_PREFERRED.vectorBitSize();
    }
  }

  @Override
  public Scope scope() {
    checkOpen();
    return new CpuScope();
  }

  private final class CpuScope implements Scope {

    private final Arena arena = Arena.ofShared();

    @Override
    public CpuMatrix matrix(int rows, int columns) {
      String shape = "a matrix of " + rows + " x " + columns;
      if (rows < 1 || columns < 1) {
        throw new IllegalArgumentException(shape + ", expected at least 1 x 1");
      }
      return new CpuMatrix(
        CpuDevice.this,
        NativeMemory.zeros(arena, (long) rows * columns, Float.BYTES, shape),
        rows,
        columns
      );
    }

    @Override
    public synchronized void close() {
      if (arena.scope().isAlive()) {
        arena.close();
      }
    }
  }

  @Override
  public void upload(MemorySegment from, Matrix to) {
    CpuMatrix matrix = own("upload", "the matrix", to);
    checkBytes("upload", from, matrix);
    MemorySegment.copy(from, LITTLE_ENDIAN, 0, matrix.values(), JAVA_FLOAT, 0, count(matrix));
  }

  @Override
  public void download(Matrix from, MemorySegment to) {
    CpuMatrix matrix = own("download", "the matrix", from);
    checkBytes("download", to, matrix);
    MemorySegment.copy(matrix.values(), JAVA_FLOAT, 0, to, LITTLE_ENDIAN, 0, count(matrix));
  }

  private static long count(CpuMatrix matrix) {
    return (long) matrix.rows() * matrix.columns();
  }

  private static void checkBytes(String operation, MemorySegment segment, CpuMatrix matrix) {
    if (segment.byteSize() < matrix.values().byteSize()) {
      throw new IllegalArgumentException(
        operation + ": " + segment.byteSize() + " bytes for a matrix " + matrix + " of " + matrix.values().byteSize()
      );
    }
  }

  @Override
  public void gemm(float alpha, Matrix a, boolean transposeA, Matrix b, boolean transposeB, float beta, Matrix c) {
    CpuMatrix left = own("gemm", "a", a);
    CpuMatrix right = own("gemm", "b", b);
    CpuMatrix result = own("gemm", "c", c);
    int m = transposeA ? left.columns() : left.rows();
    int k = transposeA ? left.rows() : left.columns();
    int n = transposeB ? right.rows() : right.columns();
    checkShape("gemm", "b", right, transposeB ? n : k, transposeB ? k : n);
    checkShape("gemm", "c", result, m, n);
    checkApart("gemm", "c", result, "a", left);
    checkApart("gemm", "c", result, "b", right);
    compute(() ->
      algebra.gemm(alpha, left.values(), transposeA, right.values(), transposeB, beta, result.values(), m, n, k)
    );
  }

  @Override
  public void syrk(float alpha, Matrix x, float beta, Matrix c) {
    CpuMatrix factor = own("syrk", "x", x);
    CpuMatrix result = own("syrk", "c", c);
    int d = factor.columns();
    checkShape("syrk", "c", result, d, d);
    checkApart("syrk", "c", result, "x", factor);
    compute(() -> {
      if (beta == 0) {
        // A library may multiply with 0, and what is not finite would stay.
        workers.share(0, d, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            result.values().asSlice(4 * ((long) i * d + i), 4L * (d - i)).fill((byte) 0);
          }
        });
      }
      algebra.syrk(alpha, factor.values(), beta, result.values(), factor.rows(), d);
    });
  }

  @Override
  public int cholesky(Matrix a, Matrix lower) {
    CpuMatrix source = own("cholesky", "a", a);
    CpuMatrix result = own("cholesky", "lower", lower);
    int n = order("cholesky", "a", source);
    checkShape("cholesky", "lower", result, n, n);
    checkApartOrSame("cholesky", "lower", result, "a", source);
    AtomicInteger outcome = new AtomicInteger();
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment factor = doubles(arena, n, n, "a Cholesky factor");
        int finite = transposeUpper(source.values(), factor, n);
        outcome.set(factorInPlace(blas.doubles(), factor, finite, n));
        if (outcome.get() == 0) {
          workers.share(0, n, ROWS, (from, to) -> {
            for (int i = from; i < to; i++) {
              long row = (long) i * n;
              narrow(factor, row, result.values(), row, i + 1);
              result.values().asSlice(4 * (row + i + 1), 4L * (n - i - 1)).fill((byte) 0);
            }
          });
        }
      }
    });
    return outcome.get();
  }

  /**
   * Copies the upper triangle of a matrix (n, n) to the lower one of a float64 matrix.
   *
   * @return the order of the largest leading part in which all numbers are finite
   */
  private int transposeUpper(MemorySegment from, MemorySegment to, int n) {
    AtomicInteger finite = new AtomicInteger(n);
    workers.share(0, n, ROWS, (first, end) -> {
      for (int column = 0; column < end; column += ROWS) {
        for (int i = Math.max(first, column); i < end; i++) {
          boolean good = true;
          for (int j = column; j < Math.min(column + ROWS, i + 1); j++) {
            float value = from.getAtIndex(JAVA_FLOAT, (long) j * n + i);
            good &= Float.isFinite(value);
            to.setAtIndex(JAVA_DOUBLE, (long) i * n + j, value);
          }
          if (!good) {
            finite.accumulateAndGet(i, Math::min);
          }
        }
      }
    });
    return finite.get();
  }

  @Override
  public void triangularInverse(Matrix lower) {
    CpuMatrix matrix = own("triangularInverse", "lower", lower);
    int n = order("triangularInverse", "lower", matrix);
    checkDiagonal("triangularInverse", matrix);
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, n, n, "a triangular inverse");
        workers.share(0, n, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            widen(matrix.values(), (long) i * n, copy, (long) i * n, i + 1);
          }
        });
        algebra.invertLower(copy, n, (column, width, values) -> {
          for (int i = column; i < n; i++) {
            long row = (long) (i - column) * width;
            narrow(values, row, matrix.values(), (long) i * n + column, Math.min(width, i + 1 - column));
          }
        });
      }
    });
  }

  @Override
  public void triangularSolve(Matrix lower, boolean transpose, Matrix b) {
    CpuMatrix matrix = own("triangularSolve", "lower", lower);
    CpuMatrix result = own("triangularSolve", "b", b);
    int n = order("triangularSolve", "lower", matrix);
    checkShape("triangularSolve", "b", result, n, result.columns());
    checkApart("triangularSolve", "b", result, "lower", matrix);
    checkDiagonal("triangularSolve", matrix);
    compute(() -> algebra.solveLower(transpose, matrix.values(), result.values(), n, result.columns()));
  }

  @Override
  public void symmetricEigen(Matrix a, float[] values, Matrix vectors) {
    CpuMatrix source = own("symmetricEigen", "a", a);
    CpuMatrix result = own("symmetricEigen", "vectors", vectors);
    int n = order("symmetricEigen", "a", source);
    checkLength("symmetricEigen", values, n);
    checkShape("symmetricEigen", "vectors", result, n, n);
    checkApartOrSame("symmetricEigen", "vectors", result, "a", source);
    if (n > OpenBlas.MAX_EIGEN_ORDER) {
      throw new IllegalArgumentException("symmetricEigen: a is " + source + ", at most " + OpenBlas.MAX_EIGEN_ORDER);
    }
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, n, n, "eigenvectors");
        workers.share(0, n, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            long diagonal = (long) i * n + i;
            checkFinite("symmetricEigen", source, i, i);
            widen(source.values(), diagonal, copy, diagonal, n - i);
          }
        });
        MemorySegment spectrum = doubles(arena, 1, n, "eigenvalues");
        if (!withAllThreads(() -> blas.symmetricEigen(n, copy, spectrum))) {
          throw new ArithmeticException("symmetricEigen: no convergence for a " + source);
        }
        narrowAll(copy, result);
        narrow(spectrum, 0, MemorySegment.ofArray(values), 0, n);
      }
    });
  }

  @Override
  public void svd(Matrix a, Matrix u, float[] values, Matrix vt) {
    CpuMatrix source = own("svd", "a", a);
    CpuMatrix left = own("svd", "u", u);
    CpuMatrix right = own("svd", "vt", vt);
    int m = source.rows();
    int n = source.columns();
    int k = Math.min(m, n);
    checkShape("svd", "u", left, m, k);
    checkLength("svd", values, k);
    checkShape("svd", "vt", right, k, n);
    checkApart("svd", "u", left, "a", source);
    checkApart("svd", "vt", right, "a", source);
    checkApart("svd", "vt", right, "u", left);
    if (!OpenBlas.canSvd(m, n)) {
      throw new IllegalArgumentException("svd: a is " + source + ", too large for LAPACK");
    }
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, m, n, "singular values");
        workers.share(0, m, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            checkFinite("svd", source, i, 0);
            widen(source.values(), (long) i * n, copy, (long) i * n, n);
          }
        });
        MemorySegment leftVectors = doubles(arena, m, k, "singular vectors");
        MemorySegment spectrum = doubles(arena, 1, k, "singular values");
        MemorySegment rightVectors = doubles(arena, k, n, "singular vectors");
        if (!withAllThreads(() -> blas.svd(m, n, copy, leftVectors, spectrum, rightVectors))) {
          throw new ArithmeticException("svd: no convergence for a " + source);
        }
        narrowAll(leftVectors, left);
        narrow(spectrum, 0, MemorySegment.ofArray(values), 0, k);
        narrowAll(rightVectors, right);
      }
    });
  }

  private static MemorySegment doubles(Arena arena, int rows, int columns, String what) {
    return NativeMemory.zeros(arena, (long) rows * columns, Double.BYTES, what + " of " + rows + " x " + columns);
  }

  /** Copies float32 numbers to float64. */
  private static void widen(MemorySegment from, long fromIndex, MemorySegment to, long toIndex, int count) {
    MemorySegment source = from.asSlice(4 * fromIndex, 4L * count);
    MemorySegment target = to.asSlice(8 * toIndex, 8L * count);
    for (int i = 0; i < count; i++) {
      target.setAtIndex(JAVA_DOUBLE, i, source.getAtIndex(JAVA_FLOAT, i));
    }
  }

  /** Copies float64 numbers to float32. */
  private static void narrow(MemorySegment from, long fromIndex, MemorySegment to, long toIndex, int count) {
    MemorySegment source = from.asSlice(8 * fromIndex, 8L * count);
    MemorySegment target = to.asSlice(4 * toIndex, 4L * count);
    for (int i = 0; i < count; i++) {
      target.setAtIndex(JAVA_FLOAT, i, (float) source.getAtIndex(JAVA_DOUBLE, i));
    }
  }

  private void narrowAll(MemorySegment from, CpuMatrix to) {
    int columns = to.columns();
    workers.share(0, to.rows(), ROWS, (first, end) -> {
      for (int i = first; i < end; i++) {
        narrow(from, (long) i * columns, to.values(), (long) i * columns, columns);
      }
    });
  }

  /**
   * Replaces the lower triangle of a symmetric (n, n) with its Cholesky factor.
   *
   * @param precision the functions of the numbers' precision
   * @param finite the order of the largest leading part in which all numbers are finite
   * @return what {@link #cholesky} returns
   */
  int choleskyInPlace(Level3 precision, MemorySegment a, int finite, int n) {
    AtomicInteger outcome = new AtomicInteger();
    compute(() -> outcome.set(factorInPlace(precision, a, finite, n)));
    return outcome.get();
  }

  private int factorInPlace(Level3 precision, MemorySegment a, int finite, int n) {
    // LAPACK would go on with what is not finite.
    int minor = finite == 0 ? 0 : algebra.cholesky(precision, a, finite, n);
    return minor == 0 && finite < n ? finite + 1 : minor;
  }

  @Override
  public void mirror(Matrix a) {
    CpuMatrix matrix = own("mirror", "a", a);
    checkShape("mirror", "a", matrix, matrix.rows(), matrix.rows());
    quantization.mirror(LaneMatrix.of(matrix));
  }

  @Override
  public int feedbackFactor(Matrix gram, float ridge, int[] order, Matrix factor) {
    int n = order.length;
    CpuMatrix h = own("feedbackFactor", "gram", gram);
    CpuMatrix result = own("feedbackFactor", "factor", factor);
    checkShape("feedbackFactor", "gram", h, n, n);
    checkShape("feedbackFactor", "factor", result, n, n);
    checkApart("feedbackFactor", "factor", result, "gram", h);
    checkOrder("feedbackFactor", order);
    checkOpen();
    return quantization.feedbackFactor(LaneMatrix.of(h), ridge, order.clone(), LaneMatrix.of(result));
  }

  private static void checkOrder(String operation, int[] order) {
    boolean[] seen = new boolean[order.length];
    for (int column : order) {
      if (column < 0 || column >= order.length || seen[column]) {
        throw new IllegalArgumentException(operation + ": an order that is no permutation, at " + column);
      }
      seen[column] = true;
    }
  }

  @Override
  public void columnWalk(
    Matrix weights,
    Matrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    Matrix levels,
    double[] errors
  ) {
    CpuMatrix f = own("columnWalk", "factor", factor);
    checkOrder("columnWalk", order);
    checkShape("columnWalk", "factor", f, order.length, order.length);
    checkGrid("columnWalk", weights, grid, levels, errors);
    checkReach(grid, reach, order);
    checkShape("columnWalk", "weights", (CpuMatrix) weights, order.length, grid.rows());
    quantization.columnWalk(
      LaneMatrix.of(weights),
      LaneMatrix.of(factor),
      ridge,
      order.clone(),
      grid,
      reach,
      LaneMatrix.of(levels),
      errors
    );
  }

  private static void checkReach(QuantizationGrid grid, int reach, int[] order) {
    if (reach < 0) {
      throw new IllegalArgumentException("columnWalk: reach " + reach + ", expected at least 0");
    }
    for (int i = 0; reach > 0 && i < order.length; i++) {
      int first = order[i - (i % grid.groupLength())];
      if (order[i] / grid.groupLength() != first / grid.groupLength()) {
        throw new IllegalArgumentException("columnWalk: an order that leaves a group of columns and comes back");
      }
    }
  }

  private void checkGrid(String operation, Matrix weights, QuantizationGrid grid, Matrix levels, double[] errors) {
    CpuMatrix w = own(operation, "weights", weights);
    CpuMatrix chosen = own(operation, "levels", levels);
    checkShape(operation, "weights", w, grid.columns(), grid.rows());
    checkShape(operation, "levels", chosen, grid.columns(), grid.rows());
    checkApart(operation, "levels", chosen, "weights", w);
    CpuMatrix _ = own(operation, "grid.d", grid.d());
    CpuMatrix _ = own(operation, "grid.dmin", grid.dmin());
    CpuMatrix _ = own(operation, "grid.scale", grid.scale());
    CpuMatrix _ = own(operation, "grid.minimum", grid.minimum());
    if (errors.length != grid.rows()) {
      throw new IllegalArgumentException(
        operation + ": room for " + errors.length + " errors, expected " + grid.rows()
      );
    }
  }

  @Override
  public void refine(
    Matrix weights,
    Matrix gram,
    float ridge,
    QuantizationGrid grid,
    Matrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    CpuMatrix h = own("refine", "gram", gram);
    checkGrid("refine", weights, grid, levels, errors);
    checkShape("refine", "gram", h, grid.columns(), grid.columns());
    quantization.refine(
      LaneMatrix.of(weights),
      LaneMatrix.of(h),
      ridge,
      grid,
      LaneMatrix.of(levels),
      passes,
      scales,
      errors
    );
  }

  @Override
  public void gramErrors(Matrix weights, Matrix gram, QuantizationGrid grid, Matrix levels, double[] errors) {
    CpuMatrix h = own("gramErrors", "gram", gram);
    checkGrid("gramErrors", weights, grid, levels, errors);
    checkShape("gramErrors", "gram", h, grid.columns(), grid.columns());
    quantization.gramErrors(LaneMatrix.of(weights), LaneMatrix.of(h), grid, LaneMatrix.of(levels), errors);
  }

  /**
   * Cuts a range of rows into parts of {@code step} rows, the last one with the rest, and gives each to one of the device's threads.
   * The parts do not depend on the number of threads. Operations that a part calls compute with its thread alone. What a part
   * throws is thrown here once all that were begun are done.
   */
  void parallel(int from, int to, int step, RangeTask task) {
    checkOpen();
    compute(() -> workers.share(from, to, step, task));
  }

  /** Computes, with OpenBLAS in one thread at a time: the device's own threads share the work, or the one of a part does it. */
  private void compute(Runnable operation) {
    if (Workers.isWorking()) {
      operation.run();
    } else {
      blas.withThreads(1, operation);
    }
  }

  /** Within {@link #compute}: has OpenBLAS compute with all threads, or within a part of {@link #parallel} with that one. */
  private boolean withAllThreads(BooleanSupplier operation) {
    if (Workers.isWorking()) {
      return operation.getAsBoolean();
    }
    AtomicBoolean result = new AtomicBoolean();
    blas.withThreads(threads, () -> result.set(operation.getAsBoolean()));
    return result.get();
  }

  private void checkOpen() {
    if (closed) {
      throw new IllegalStateException("the device is closed");
    }
  }

  /** A matrix of this device; named for the message. */
  private CpuMatrix own(String operation, String name, Matrix matrix) {
    checkOpen();
    if (!(matrix instanceof CpuMatrix own) || own.device() != this) {
      throw new IllegalArgumentException(operation + ": " + name + " is of another device");
    }
    if (!own.values().scope().isAlive()) {
      throw new IllegalStateException(operation + ": " + name + "'s scope is closed");
    }
    return own;
  }

  private static void checkShape(String operation, String name, CpuMatrix matrix, int rows, int columns) {
    if (matrix.rows() != rows || matrix.columns() != columns) {
      throw new IllegalArgumentException(
        operation + ": " + name + " is " + matrix + ", expected (" + rows + ", " + columns + ")"
      );
    }
  }

  private static int order(String operation, String name, CpuMatrix matrix) {
    checkShape(operation, name, matrix, matrix.rows(), matrix.rows());
    return matrix.rows();
  }

  private static void checkLength(String operation, float[] values, int count) {
    if (values.length != count) {
      throw new IllegalArgumentException(operation + ": values has " + values.length + ", expected " + count);
    }
  }

  private static void checkDiagonal(String operation, CpuMatrix matrix) {
    for (int i = 0; i < matrix.rows(); i++) {
      if (matrix.values().getAtIndex(JAVA_FLOAT, (long) i * matrix.columns() + i) == 0) {
        throw new IllegalArgumentException(operation + ": lower has 0 at (" + i + ", " + i + "), expected no 0 there");
      }
    }
  }

  /** Refuses a row that has a NaN or an infinity at a column or after it: LAPACK might not return. */
  private static void checkFinite(String operation, CpuMatrix matrix, int row, int column) {
    for (int j = column; j < matrix.columns(); j++) {
      float value = matrix.values().getAtIndex(JAVA_FLOAT, (long) row * matrix.columns() + j);
      if (!Float.isFinite(value)) {
        throw new IllegalArgumentException(
          operation + ": a has " + value + " at (" + row + ", " + j + "), expected finite numbers"
        );
      }
    }
  }

  private static void checkApartOrSame(String operation, String result, CpuMatrix to, String source, CpuMatrix from) {
    if (!to.is(from)) {
      checkApart(operation, result, to, source, from);
    }
  }

  private static void checkApart(String operation, String result, CpuMatrix to, String source, CpuMatrix from) {
    if (to.overlaps(from)) {
      throw new IllegalArgumentException(operation + ": " + result + " would overwrite " + source);
    }
  }

  @Override
  public void close() {
    closed = true;
    workers.close();
  }
}
