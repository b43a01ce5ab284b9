package dev.attar.compute;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;

/**
 * BLAS's products and solutions of matrices, and LAPACK's factorization of a panel, in one precision. Matrices are row-major; nothing is
 * checked.
 */
final class Level3 {

  private static final int ROW_MAJOR = 101;
  private static final int NO_TRANSPOSE = 111;
  private static final int TRANSPOSE = 112;
  private static final int UPPER = 121;
  private static final int LOWER = 122;
  private static final int NON_UNIT = 131;
  private static final int LEFT = 141;
  private static final int RIGHT = 142;

  private final ValueLayout number;
  private final MethodHandle gemm;
  private final MethodHandle syrk;
  private final MethodHandle trsm;
  private final String potrfName;
  private final MethodHandle potrf;

  /**
   * A matrix, or the part of one from some number of it on.
   *
   * @param start where it begins
   * @param stride from one row to the next, in numbers
   * @param bytes of a number
   */
  record Block(MemorySegment start, int stride, long bytes) {
    /** The part from a row and a column on. */
    Block at(int row, int column) {
      return new Block(start.asSlice(bytes * ((long) row * stride + column)), stride, bytes);
    }
  }

  /**
   * Binds the functions.
   *
   * @param letter what their names begin with: {@code s} or {@code d}
   * @param number the layout of a number: float or double
   */
  Level3(OpenBlas library, char letter, ValueLayout number) throws IOException {
    this.number = number;
    gemm = bind(library, "cblas_" + letter + "gemm", "iiiiii#*i*i#*i");
    syrk = bind(library, "cblas_" + letter + "syrk", "iiiii#*i#*i");
    trsm = bind(library, "cblas_" + letter + "trsm", "iiiiiii#*i*i");
    potrfName = letter + "potrf";
    potrf = library.fortran(potrfName + "_", 5, 1);
  }

  /**
   * Binds a function.
   *
   * @param arguments {@code i} for each integer, {@code *} for each address, {@code #} for each number, which is passed as a double
   */
  private MethodHandle bind(OpenBlas library, String name, String arguments) throws IOException {
    MemoryLayout[] layouts = arguments
      .chars()
      .mapToObj(letter -> letter == 'i' ? JAVA_INT : letter == '*' ? ADDRESS : number)
      .toArray(MemoryLayout[]::new);
    MethodHandle function = library.procedure(name, layouts);
    MethodType type = function.type();
    for (int i = 0; i < type.parameterCount(); i++) {
      type = type.parameterType(i) == float.class ? type.changeParameterType(i, double.class) : type;
    }
    return MethodHandles.explicitCastArguments(function, type);
  }

  /** A matrix without gaps. */
  Block block(MemorySegment values, int columns) {
    return new Block(values, columns, number.byteSize());
  }

  /** {@code c = alpha op(a) op(b) + beta c}: op(a) is (m, k), op(b) is (k, n), c is (m, n). */
  void gemm(
    boolean transposeA,
    boolean transposeB,
    int m,
    int n,
    int k,
    double alpha,
    Block a,
    Block b,
    double beta,
    Block c
  ) {
    int opA = transposeA ? TRANSPOSE : NO_TRANSPOSE;
    int opB = transposeB ? TRANSPOSE : NO_TRANSPOSE;
    try {
      gemm.invokeExact(
        ROW_MAJOR,
        opA,
        opB,
        m,
        n,
        k,
        alpha,
        a.start,
        a.stride,
        b.start,
        b.stride,
        beta,
        c.start,
        c.stride
      );
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }

  /** The upper triangle of {@code c = alpha x'x + beta c}: x is (k, n), c is (n, n). */
  void addGramUpper(int n, int k, double alpha, Block x, double beta, Block c) {
    try {
      syrk.invokeExact(ROW_MAJOR, UPPER, TRANSPOSE, n, k, alpha, x.start, x.stride, beta, c.start, c.stride);
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }

  /** The lower triangle of {@code c = alpha x x' + beta c}: x is (n, k), c is (n, n). */
  void addGramLower(int n, int k, double alpha, Block x, double beta, Block c) {
    try {
      syrk.invokeExact(ROW_MAJOR, LOWER, NO_TRANSPOSE, n, k, alpha, x.start, x.stride, beta, c.start, c.stride);
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }

  /**
   * Replaces the lower triangle of a symmetric matrix (n, n) with its Cholesky factor L, {@code L L'}; the rest is neither read nor
   * written.
   *
   * @return 0, or k if the leading minor of order k is not positive
   */
  int cholesky(int n, Block a) {
    // LAPACK's matrices are column-major: to it, this is an upper triangle U with U'U, and U' is L.
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment info = arena.allocate(JAVA_INT);
      potrf.invokeExact(
        OpenBlas.letter(arena, 'U'),
        OpenBlas.number(arena, n),
        a.start,
        OpenBlas.number(arena, a.stride),
        info,
        1L
      );
      return OpenBlas.atLeastZero(potrfName, info);
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }

  /** Replaces b (n, m) with the x of {@code op(L) x = b}, of which L (n, n) is lower triangular. */
  void solveLower(boolean transpose, int n, int m, Block lower, Block b) {
    solve(LEFT, transpose, n, m, lower, b);
  }

  /** Replaces b (m, n) with the x of {@code x L' = b}, of which L (n, n) is lower triangular. */
  void solveLowerFromRight(int n, int m, Block lower, Block b) {
    solve(RIGHT, true, m, n, lower, b);
  }

  private void solve(int side, boolean transpose, int rows, int columns, Block lower, Block b) {
    int op = transpose ? TRANSPOSE : NO_TRANSPOSE;
    try {
      trsm.invokeExact(
        ROW_MAJOR,
        side,
        LOWER,
        op,
        NON_UNIT,
        rows,
        columns,
        1.0,
        lower.start,
        lower.stride,
        b.start,
        b.stride
      );
    } catch (Throwable e) {
      throw OpenBlas.unexpected(e);
    }
  }
}
