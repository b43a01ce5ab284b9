package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuMemsetD8Async;
import static jcuda.jcublas.JCublas2.cublasCreate;
import static jcuda.jcublas.JCublas2.cublasDestroy;
import static jcuda.jcublas.JCublas2.cublasDtrsm;
import static jcuda.jcublas.JCublas2.cublasSetStream;
import static jcuda.jcublas.JCublas2.cublasSgemm;
import static jcuda.jcublas.JCublas2.cublasSsyrk;
import static jcuda.jcublas.JCublas2.cublasStrsm;
import static jcuda.jcublas.cublasDiagType.CUBLAS_DIAG_NON_UNIT;
import static jcuda.jcublas.cublasFillMode.CUBLAS_FILL_MODE_LOWER;
import static jcuda.jcublas.cublasFillMode.CUBLAS_FILL_MODE_UPPER;
import static jcuda.jcublas.cublasOperation.CUBLAS_OP_N;
import static jcuda.jcublas.cublasOperation.CUBLAS_OP_T;
import static jcuda.jcublas.cublasSideMode.CUBLAS_SIDE_RIGHT;

import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.OptionalInt;
import java.util.OptionalLong;
import jcuda.Pointer;
import jcuda.jcublas.cublasHandle;
import jcuda.runtime.cudaStream_t;

/**
 * Dense algebra with cuBLAS and cuSOLVER. The shapes have been checked.
 *
 * <p>The libraries' matrices are column-major. To them, the memory of our row-major A (m, n) is A' (n, m) with n numbers from one column
 * to the next, our upper triangle is a lower one, and our product A B is B' A'. So nothing has to be turned for them.
 */
final class CudaAlgebra implements AutoCloseable {

  /**
   * Largest order of which eigenvectors are computed. The library counts its work memory, between three and four times n² numbers, with
   * 32 bits.
   */
  static final int MAX_EIGEN_ORDER = 23_000;

  /** Columns of an inverse that are solved for at a time. */
  private static final int PANEL = 512;

  private final CudaContext context;
  private final CudaKernels kernels;
  private final CudaMemory memory;
  private final long first;
  private final cublasHandle blas = new cublasHandle();
  private final CuSolver solver;

  /** Which numbers of a matrix count. */
  enum Part {
    ALL,
    UPPER,
    LOWER
  }

  /** @param solverLibrary cuSOLVER's functions */
  CudaAlgebra(CudaContext context, CudaKernels kernels, SymbolLookup solverLibrary) {
    this.context = context;
    this.kernels = kernels;
    memory = new CudaMemory(context);
    first = memory.allocate(1, Long.BYTES, "the place of a number");
    CudaStatus.cublas(cublasCreate(blas), "cublasCreate");
    CudaStatus.cublas(cublasSetStream(blas, new cudaStream_t(context.stream())), "cublasSetStream");
    solver = new CuSolver(solverLibrary, context);
  }

  // --- Copies.

  /** Writes the rows of a matrix (rows, columns) as the columns of another. */
  void transpose(long from, long to, int rows, int columns) {
    launch("transpose", tiles(rows, columns), from, to, rows, columns);
  }

  /** Copies a square matrix's upper triangle to its lower one. */
  void mirror(CudaMatrix a) {
    launch("mirror", tiles(a.rows(), a.rows()), a, a.rows());
  }

  /** {@code to += alpha a}. */
  void add(float alpha, CudaMatrix a, CudaMatrix to) {
    launch("add", Shape.of(a.count()), alpha, a, to, a.count());
  }

  private void launch(String kernel, Shape shape, Object... arguments) {
    kernels.launch("matrix", kernel, shape, arguments);
  }

  /** Blocks of threads for tiles of 32 x 32. */
  private static Shape tiles(int rows, int columns) {
    return new Shape(Math.ceilDiv(columns, 32), Math.min(Shape.MAX_BLOCKS_Y, Math.ceilDiv(rows, 32)), 32, 8);
  }

  /** A thread for each column, and blocks for each row, or for some rows each if there are too many. */
  private static Shape cells(int rows, int columns) {
    return Shape.of(columns, CudaKernels.THREADS, Math.min(Shape.MAX_BLOCKS_Y, rows));
  }

  private void widen(long from, long to, long count) {
    launch("widen", Shape.of(count), from, to, count);
  }

  private void narrow(long from, long to, long count) {
    launch("narrow", Shape.of(count), from, to, count);
  }

  /** A float64 copy of a triangle of a square matrix, zeros in the other one. */
  private long widenTriangle(CudaMemory memory, CudaMatrix from, Part part, String what) {
    int n = from.rows();
    long copy = doubles(memory, n, n, what);
    launch("widenTriangle", cells(n, n), from, copy, n, part == Part.UPPER ? 1 : 0);
    return copy;
  }

  private static long doubles(CudaMemory memory, int rows, int columns, String what) {
    return memory.allocate((long) rows * columns, Double.BYTES, what + " of " + rows + " x " + columns);
  }

  private void narrow(long from, float[] to) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(ValueLayout.JAVA_DOUBLE, to.length);
      context.read(from, values);
      for (int i = 0; i < to.length; i++) {
        to[i] = (float) values.getAtIndex(ValueLayout.JAVA_DOUBLE, i);
      }
    }
  }

  // --- Searches.

  /** Launches a kernel that lowers the number at an address to the least index that it finds. */
  private OptionalLong first(String kernel, Shape shape, Object... arguments) {
    int status = cuMemsetD8Async(new DevicePointer(first), (byte) -1, Long.BYTES, context.stream());
    CudaStatus.driver(status, "cuMemsetD8Async(%d)", Long.BYTES);
    launch(kernel, shape, arguments);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment result = arena.allocate(ValueLayout.JAVA_LONG);
      context.read(first, result);
      long index = result.get(ValueLayout.JAVA_LONG, 0);
      return index < 0 ? OptionalLong.empty() : OptionalLong.of(index);
    }
  }

  private static OptionalInt toInt(OptionalLong index) {
    return index.isPresent() ? OptionalInt.of(Math.toIntExact(index.getAsLong())) : OptionalInt.empty();
  }

  /** The first number, in the order of the rows, that is not finite: its row * columns + column. */
  OptionalLong firstNotFinite(CudaMatrix a, Part part) {
    Shape shape = cells(a.rows(), a.columns());
    return first("firstNotFinite", shape, a, a.rows(), a.columns(), part.ordinal(), first);
  }

  /** The first place of a square matrix's diagonal that has a 0. */
  OptionalInt zeroOnDiagonal(CudaMatrix square) {
    int n = square.rows();
    return toInt(first("firstZeroPivot", Shape.of(n), square, n, first));
  }

  // --- Products and solutions.

  /** A number for a call of cuBLAS, which reads it before it returns. */
  private static Pointer scalar(float value) {
    return Pointer.to(ByteBuffer.allocateDirect(4).order(ByteOrder.nativeOrder()).putFloat(0, value));
  }

  /** The same in double precision. */
  private static Pointer scalar(double value) {
    return Pointer.to(ByteBuffer.allocateDirect(8).order(ByteOrder.nativeOrder()).putDouble(0, value));
  }

  private static int operation(boolean transpose) {
    return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
  }

  /** {@code c = alpha op(a) op(b) + beta c}. */
  void gemm(float alpha, CudaMatrix a, boolean transposeA, CudaMatrix b, boolean transposeB, float beta, CudaMatrix c) {
    gemm(
      transposeA,
      transposeB,
      c.rows(),
      c.columns(),
      transposeA ? a.rows() : a.columns(),
      alpha,
      a.address(),
      a.columns(),
      b.address(),
      b.columns(),
      beta,
      c.address(),
      c.columns()
    );
  }

  /**
   * The same of parts of matrices: an address and how many numbers it is from one row to the next.
   *
   * @param m rows of c and op(a)
   * @param n columns of c and op(b)
   * @param k columns of op(a), rows of op(b)
   */
  void gemm(
    boolean transposeA,
    boolean transposeB,
    int m,
    int n,
    int k,
    float alpha,
    long a,
    int strideA,
    long b,
    int strideB,
    float beta,
    long c,
    int strideC
  ) {
    int status = cublasSgemm(
      blas,
      operation(transposeB),
      operation(transposeA),
      n,
      m,
      k,
      scalar(alpha),
      new DevicePointer(b),
      strideB,
      new DevicePointer(a),
      strideA,
      scalar(beta),
      new DevicePointer(c),
      strideC
    );
    CudaStatus.cublas(status, "cublasSgemm(%d, %d, %d)", n, m, k);
  }

  /** The upper triangle of {@code c = alpha x'x + beta c}. */
  void syrk(float alpha, CudaMatrix x, float beta, CudaMatrix c) {
    int d = x.columns();
    int status = cublasSsyrk(
      blas,
      CUBLAS_FILL_MODE_LOWER,
      CUBLAS_OP_N,
      d,
      x.rows(),
      scalar(alpha),
      x.pointer(),
      d,
      scalar(beta),
      c.pointer(),
      d
    );
    CudaStatus.cublas(status, "cublasSsyrk(%d, %d)", d, x.rows());
  }

  /** Replaces b (n, m) with the x of {@code L x = b}, or of {@code L' x = b} if transposed. */
  void solveLower(CudaMatrix lower, boolean transpose, CudaMatrix b) {
    // To the library, b' = x' L': its triangle is the upper L', on the right of x'.
    int m = b.columns();
    int n = b.rows();
    int status = cublasStrsm(
      blas,
      CUBLAS_SIDE_RIGHT,
      CUBLAS_FILL_MODE_UPPER,
      operation(transpose),
      CUBLAS_DIAG_NON_UNIT,
      m,
      n,
      scalar(1f),
      lower.pointer(),
      n,
      b.pointer(),
      m
    );
    CudaStatus.cublas(status, "cublasStrsm(%d, %d)", m, n);
  }

  /** Replaces a lower triangle with its inverse, computed in double precision. What is above the diagonal stays. */
  void invertLower(CudaMatrix lower) {
    int n = lower.rows();
    try (CudaMemory work = new CudaMemory(context)) {
      long copy = widenTriangle(work, lower, Part.LOWER, "a triangular inverse");
      long panel = doubles(work, n, Math.min(PANEL, n), "columns of a triangular inverse");
      for (int start = 0; start < n; start += PANEL) {
        // Above their diagonal these columns are 0.
        int width = Math.min(PANEL, n - start);
        int rows = n - start;
        launch("identity", cells(rows, width), panel, rows, width);
        int status = cublasDtrsm(
          blas,
          CUBLAS_SIDE_RIGHT,
          CUBLAS_FILL_MODE_UPPER,
          CUBLAS_OP_N,
          CUBLAS_DIAG_NON_UNIT,
          width,
          rows,
          scalar(1.0),
          new DevicePointer(copy + ((long) start * n + start) * Double.BYTES),
          n,
          new DevicePointer(panel),
          width
        );
        CudaStatus.cublas(status, "cublasDtrsm(%d, %d)", width, rows);
        launch("narrowLower", cells(rows, width), panel, lower.at(start, start), rows, width, n, 0);
      }
    }
  }

  // --- Factorizations.

  /**
   * The lower triangular L with positive diagonal such that {@code a = L L'}, computed in double precision.
   *
   * @param a of which the upper triangle is read
   * @param lower gets L, zeros above its diagonal; may be a itself
   * @return 0, or k if the leading minor of order k is not positive or not a number
   */
  int cholesky(CudaMatrix a, CudaMatrix lower) {
    int n = a.rows();
    if (a.is(lower)) {
      mirror(a);
    } else {
      transpose(a.address(), lower.address(), n, n);
    }
    int finite = finiteOrder(lower);
    try (CudaMemory work = new CudaMemory(context)) {
      long copy = widenTriangle(work, lower, Part.LOWER, "a Cholesky factor");
      int minor = finite == 0 ? 0 : solver.cholesky(copy, finite, n);
      minor = firstMinor(minor, first("firstBadPivotDouble", Shape.of(n), copy, finite, n, first), finite, n);
      if (minor == 0) {
        launch("narrowLower", cells(n, n), copy, lower, n, n, n, 1);
      }
      return minor;
    }
  }

  /**
   * Replaces the lower triangle of a symmetric matrix with its Cholesky factor, computed in single precision. What the other triangle
   * gets is unspecified.
   *
   * @return 0, or k if the leading minor of order k is not positive or not a number
   */
  int choleskySingle(CudaMatrix a) {
    int n = a.rows();
    int finite = finiteOrder(a);
    int minor = finite == 0 ? 0 : solver.choleskySingle(a.address(), finite, n);
    return firstMinor(minor, first("firstBadPivot", Shape.of(n), a, finite, n, first), finite, n);
  }

  /** The order of the largest leading part of a lower triangle in which all numbers are finite. */
  private int finiteOrder(CudaMatrix lower) {
    OptionalLong notFinite = firstNotFinite(lower, Part.LOWER);
    return notFinite.isPresent() ? (int) (notFinite.getAsLong() / lower.columns()) : lower.rows();
  }

  /**
   * The first leading minor that is not positive, or 0: the one that the library tells, or that its factor's diagonal does, as it is not
   * said what the library makes of pivots that are 0 or no number, or the first that was not given to it.
   */
  private static int firstMinor(int told, OptionalLong badPivot, int finite, int n) {
    int minor = Math.min(told > 0 ? told : n + 1, finite + 1);
    minor = badPivot.isPresent() ? Math.min(minor, (int) badPivot.getAsLong() + 1) : minor;
    return minor > n ? 0 : minor;
  }

  /** Eigenvalues and eigenvectors, computed in double precision; false if the iteration does not converge. */
  boolean symmetricEigen(CudaMatrix a, float[] values, CudaMatrix vectors) {
    int n = a.rows();
    try (CudaMemory work = new CudaMemory(context)) {
      long copy = widenTriangle(work, a, Part.UPPER, "eigenvectors");
      long spectrum = doubles(work, 1, n, "eigenvalues");
      if (!solver.symmetricEigen(n, copy, spectrum)) {
        return false;
      }
      narrow(copy, vectors.address(), vectors.count());
      narrow(spectrum, values);
      return true;
    }
  }

  /**
   * Whether a matrix is small enough for a singular value decomposition. The library counts its work memory with 32 bits, and what it asks
   * for wraps around unnoticed: the square of the longer side, and for square matrices six times that.
   */
  static boolean canSvd(int rows, int columns) {
    double shorter = Math.min(rows, columns);
    double longer = Math.max(rows, columns);
    return longer * longer + 6 * shorter * shorter + 256 * longer <= Integer.MAX_VALUE;
  }

  /** The singular value decomposition, computed in double precision; false if the iteration does not converge. */
  boolean svd(CudaMatrix a, CudaMatrix u, float[] values, CudaMatrix vt) {
    // Of a tall matrix, the transpose is factored: its vectors come out as vt' and u'.
    boolean tall = a.rows() > a.columns();
    int m = Math.min(a.rows(), a.columns());
    int n = Math.max(a.rows(), a.columns());
    try (CudaMemory work = new CudaMemory(context)) {
      long copy = doubles(work, m, n, "singular values");
      long left = doubles(work, m, m, "singular vectors");
      long spectrum = doubles(work, 1, m, "singular values");
      long right = doubles(work, m, n, "singular vectors");
      long turned = tall ? work.allocate(a.count(), Float.BYTES, "a transposed matrix " + a) : 0;
      if (tall) {
        transpose(a.address(), turned, n, m);
      }
      widen(tall ? turned : a.address(), copy, a.count());
      if (!solver.svd(m, n, copy, left, spectrum, right)) {
        return false;
      }
      if (tall) {
        narrow(right, turned, u.count());
        transpose(turned, u.address(), m, n);
        narrow(left, turned, vt.count());
        transpose(turned, vt.address(), m, m);
      } else {
        narrow(left, u.address(), u.count());
        narrow(right, vt.address(), vt.count());
      }
      narrow(spectrum, values);
      return true;
    }
  }

  @Override
  public void close() {
    solver.close();
    CudaStatus.cublas(cublasDestroy(blas), "cublasDestroy");
    memory.close();
  }
}
