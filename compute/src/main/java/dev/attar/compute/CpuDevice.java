package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;

import dev.attar.compute.Workers.RangeTask;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.BooleanSupplier;
import java.util.stream.IntStream;
import jdk.incubator.vector.FloatVector;

/**
 * Computes with the processor. Results are the same bit for bit with any number of threads, but for eigenvectors and singular values,
 * whose iterations OpenBLAS shares out itself.
 */
final class CpuDevice extends CheckedDevice<CpuMatrix> {

  private static final ValueLayout.OfFloat LITTLE_ENDIAN = JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Rows in a part of the work that threads share, and the width of a tile where a matrix is transposed. */
  private static final int ROWS = 32;

  private final OpenBlas blas;
  private final int threads;
  private final Workers workers;
  private final BlockedAlgebra algebra;
  private final CpuQuantization quantization;
  private final CpuPruning pruning;
  private final CpuTransformer transformer;

  CpuDevice(OpenBlas blas, int threads) {
    super(CpuMatrix.class);
    this.blas = blas;
    this.threads = Math.min(threads, blas.maxThreads());
    workers = new Workers(this.threads);
    algebra = new BlockedAlgebra(blas, workers);
    quantization = new CpuQuantization(this, blas.floats());
    pruning = new CpuPruning(this, blas.floats());
    transformer = new CpuTransformer(this, blas.floats());
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
  public TransformerOperations transformer() {
    return transformer;
  }

  @Override
  public long freeMemory() {
    return Long.MAX_VALUE;
  }

  @Override
  public boolean hasOwnMemory() {
    return false;
  }

  @Override
  protected Scope newScope() {
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
  protected void uploadChecked(MemorySegment from, CpuMatrix to) {
    MemorySegment.copy(from, LITTLE_ENDIAN, 0, to.values(), JAVA_FLOAT, 0, to.count());
  }

  @Override
  protected void downloadChecked(CpuMatrix from, MemorySegment to) {
    MemorySegment.copy(from.values(), JAVA_FLOAT, 0, to, LITTLE_ENDIAN, 0, from.count());
  }

  @Override
  protected void transposeChecked(CpuMatrix from, CpuMatrix to) {
    int rows = from.rows();
    int columns = from.columns();
    compute(() ->
      workers.share(0, rows, ROWS, (first, end) -> {
        for (int column = 0; column < columns; column += ROWS) {
          for (int i = first; i < end; i++) {
            for (int j = column; j < Math.min(columns, column + ROWS); j++) {
              float value = from.values().getAtIndex(JAVA_FLOAT, (long) i * columns + j);
              to.values().setAtIndex(JAVA_FLOAT, (long) j * rows + i, value);
            }
          }
        }
      })
    );
  }

  @Override
  protected void addChecked(float alpha, CpuMatrix a, CpuMatrix to) {
    long columns = a.columns();
    compute(() ->
      workers.share(0, a.rows(), ROWS, (first, end) -> {
        for (long i = first * columns; i < end * columns; i++) {
          to.values().setAtIndex(JAVA_FLOAT, i, to.values().getAtIndex(JAVA_FLOAT, i) + alpha * get(a, i));
        }
      })
    );
  }

  @Override
  protected void gemmChecked(
    float alpha,
    CpuMatrix a,
    boolean transposeA,
    CpuMatrix b,
    boolean transposeB,
    float beta,
    CpuMatrix c
  ) {
    int k = transposeA ? a.rows() : a.columns();
    compute(() ->
      algebra.gemm(alpha, a.values(), transposeA, b.values(), transposeB, beta, c.values(), c.rows(), c.columns(), k)
    );
  }

  @Override
  protected void syrkChecked(float alpha, CpuMatrix x, float beta, CpuMatrix c) {
    int d = x.columns();
    compute(() -> {
      if (beta == 0) {
        // A library may multiply with 0, and what is not finite would stay.
        workers.share(0, d, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            c.values().asSlice(4 * ((long) i * d + i), 4L * (d - i)).fill((byte) 0);
          }
        });
      }
      algebra.syrk(alpha, x.values(), beta, c.values(), x.rows(), d);
    });
  }

  @Override
  protected int choleskyChecked(CpuMatrix a, CpuMatrix lower) {
    int n = a.rows();
    AtomicInteger outcome = new AtomicInteger();
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment factor = doubles(arena, n, n, "a Cholesky factor");
        int finite = transposeUpper(a.values(), factor, n);
        outcome.set(factorInPlace(blas.doubles(), factor, finite, n));
        if (outcome.get() == 0) {
          workers.share(0, n, ROWS, (from, to) -> {
            for (int i = from; i < to; i++) {
              long row = (long) i * n;
              narrow(factor, row, lower.values(), row, i + 1);
              lower.values().asSlice(4 * (row + i + 1), 4L * (n - i - 1)).fill((byte) 0);
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
  protected void triangularInverseChecked(CpuMatrix lower) {
    int n = lower.rows();
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, n, n, "a triangular inverse");
        workers.share(0, n, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            widen(lower.values(), (long) i * n, copy, (long) i * n, i + 1);
          }
        });
        algebra.invertLower(copy, n, (column, width, values) -> {
          for (int i = column; i < n; i++) {
            long row = (long) (i - column) * width;
            narrow(values, row, lower.values(), (long) i * n + column, Math.min(width, i + 1 - column));
          }
        });
      }
    });
  }

  @Override
  protected void triangularSolveChecked(CpuMatrix lower, boolean transpose, CpuMatrix b) {
    compute(() -> algebra.solveLower(transpose, lower.values(), b.values(), b.rows(), b.columns()));
  }

  @Override
  protected int maxEigenOrder() {
    return OpenBlas.MAX_EIGEN_ORDER;
  }

  @Override
  protected boolean symmetricEigenChecked(CpuMatrix a, float[] values, CpuMatrix vectors) {
    int n = a.rows();
    AtomicBoolean converged = new AtomicBoolean();
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, n, n, "eigenvectors");
        workers.share(0, n, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            long diagonal = (long) i * n + i;
            widen(a.values(), diagonal, copy, diagonal, n - i);
          }
        });
        MemorySegment spectrum = doubles(arena, 1, n, "eigenvalues");
        converged.set(withAllThreads(() -> blas.symmetricEigen(n, copy, spectrum)));
        if (converged.get()) {
          narrowAll(copy, vectors);
          narrow(spectrum, 0, MemorySegment.ofArray(values), 0, n);
        }
      }
    });
    return converged.get();
  }

  @Override
  protected boolean canSvd(int rows, int columns) {
    return OpenBlas.canSvd(rows, columns);
  }

  @Override
  protected boolean svdChecked(CpuMatrix a, CpuMatrix u, float[] values, CpuMatrix vt) {
    int m = a.rows();
    int n = a.columns();
    int k = Math.min(m, n);
    AtomicBoolean converged = new AtomicBoolean();
    compute(() -> {
      try (Arena arena = Arena.ofShared()) {
        MemorySegment copy = doubles(arena, m, n, "singular values");
        workers.share(0, m, ROWS, (from, to) -> {
          for (int i = from; i < to; i++) {
            widen(a.values(), (long) i * n, copy, (long) i * n, n);
          }
        });
        MemorySegment leftVectors = doubles(arena, m, k, "singular vectors");
        MemorySegment spectrum = doubles(arena, 1, k, "singular values");
        MemorySegment rightVectors = doubles(arena, k, n, "singular vectors");
        converged.set(withAllThreads(() -> blas.svd(m, n, copy, leftVectors, spectrum, rightVectors)));
        if (converged.get()) {
          narrowAll(leftVectors, u);
          narrow(spectrum, 0, MemorySegment.ofArray(values), 0, k);
          narrowAll(rightVectors, vt);
        }
      }
    });
    return converged.get();
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
  protected void mirrorChecked(CpuMatrix a) {
    quantization.mirror(LaneMatrix.of(a));
  }

  @Override
  protected int feedbackFactorChecked(CpuMatrix gram, float ridge, int[] order, CpuMatrix factor) {
    return quantization.feedbackFactor(LaneMatrix.of(gram), ridge, order, LaneMatrix.of(factor));
  }

  @Override
  protected void columnWalkChecked(
    CpuMatrix weights,
    CpuMatrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    CpuMatrix levels,
    double[] errors
  ) {
    LaneMatrix chosen = LaneMatrix.of(levels);
    quantization.columnWalk(LaneMatrix.of(weights), LaneMatrix.of(factor), ridge, order, grid, reach, chosen, errors);
  }

  @Override
  protected void refineChecked(
    CpuMatrix weights,
    CpuMatrix gram,
    float ridge,
    QuantizationGrid grid,
    CpuMatrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    LaneMatrix chosen = LaneMatrix.of(levels);
    quantization.refine(LaneMatrix.of(weights), LaneMatrix.of(gram), ridge, grid, chosen, passes, scales, errors);
  }

  @Override
  protected void gramErrorsChecked(
    CpuMatrix weights,
    CpuMatrix gram,
    QuantizationGrid grid,
    CpuMatrix levels,
    double[] errors
  ) {
    quantization.gramErrors(LaneMatrix.of(weights), LaneMatrix.of(gram), grid, LaneMatrix.of(levels), errors);
  }

  @Override
  protected void pruneChecked(CpuMatrix weights, float[] norms, Sparsity sparsity) {
    pruning.prune(LaneMatrix.of(weights), norms, sparsity);
  }

  @Override
  protected void sparseWalkChecked(
    CpuMatrix weights,
    CpuMatrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    CpuMatrix pruned,
    double[] errors
  ) {
    LaneMatrix result = LaneMatrix.of(pruned);
    pruning.sparseWalk(LaneMatrix.of(weights), LaneMatrix.of(factor), ridge, order, sparsity, result, errors);
  }

  @Override
  protected OptionalInt zeroOnDiagonal(CpuMatrix square) {
    return IntStream.range(0, square.rows())
      .filter(i -> get(square, (long) i * square.columns() + i) == 0)
      .findFirst();
  }

  @Override
  protected OptionalLong firstNotFinite(CpuMatrix matrix, boolean upper) {
    int columns = matrix.columns();
    AtomicLong first = new AtomicLong(Long.MAX_VALUE);
    compute(() ->
      workers.share(0, matrix.rows(), ROWS, (from, to) -> {
        for (int i = from; i < to; i++) {
          for (int j = upper ? i : 0; j < columns; j++) {
            if (!Float.isFinite(get(matrix, (long) i * columns + j))) {
              first.accumulateAndGet((long) i * columns + j, Math::min);
              return;
            }
          }
        }
      })
    );
    return first.get() == Long.MAX_VALUE ? OptionalLong.empty() : OptionalLong.of(first.get());
  }

  @Override
  protected float get(CpuMatrix matrix, long index) {
    return matrix.values().getAtIndex(JAVA_FLOAT, index);
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

  @Override
  protected void closeChecked() {
    workers.close();
  }
}
