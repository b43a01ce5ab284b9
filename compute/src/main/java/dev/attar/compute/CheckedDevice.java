package dev.attar.compute;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/**
 * Checks what a device is asked for, before anything native runs. Methods that end with {@code Checked} compute: shapes fit, matrices
 * are this device's and open, results are apart from what they are computed from.
 *
 * @param <M> the device's matrices
 */
public abstract class CheckedDevice<M extends DeviceMatrix> implements Device {

  private final Class<M> matrixType;
  private volatile boolean closed;

  protected CheckedDevice(Class<M> matrixType) {
    this.matrixType = matrixType;
  }

  @Override
  public final Scope scope() {
    checkOpen();
    return newScope();
  }

  @Override
  public final void upload(MemorySegment from, Matrix to) {
    M matrix = own("upload", "the matrix", to);
    checkBytes("upload", from, matrix);
    uploadChecked(from, matrix);
  }

  @Override
  public final void download(Matrix from, MemorySegment to) {
    M matrix = own("download", "the matrix", from);
    checkBytes("download", to, matrix);
    downloadChecked(matrix, to);
  }

  private static void checkBytes(String operation, MemorySegment segment, DeviceMatrix matrix) {
    if (segment.byteSize() < matrix.bytes()) {
      throw new IllegalArgumentException(
        "%s: %d bytes for a matrix %s of %d".formatted(operation, segment.byteSize(), shape(matrix), matrix.bytes())
      );
    }
  }

  @Override
  public final void transpose(Matrix from, Matrix to) {
    M source = own("transpose", "the matrix", from);
    M result = own("transpose", "the result", to);
    checkShape("transpose", "the result", result, source.columns(), source.rows());
    checkApart("transpose", "the result", result, "the matrix", source);
    transposeChecked(source, result);
  }

  @Override
  public final void add(float alpha, Matrix a, Matrix to) {
    M source = own("add", "a", a);
    M result = own("add", "the result", to);
    checkShape("add", "the result", result, source.rows(), source.columns());
    checkApart("add", "the result", result, "a", source);
    addChecked(alpha, source, result);
  }

  @Override
  public final void gemm(
    float alpha,
    Matrix a,
    boolean transposeA,
    Matrix b,
    boolean transposeB,
    float beta,
    Matrix c
  ) {
    M left = own("gemm", "a", a);
    M right = own("gemm", "b", b);
    M result = own("gemm", "c", c);
    int m = transposeA ? left.columns() : left.rows();
    int k = transposeA ? left.rows() : left.columns();
    int n = transposeB ? right.rows() : right.columns();
    checkShape("gemm", "b", right, transposeB ? n : k, transposeB ? k : n);
    checkShape("gemm", "c", result, m, n);
    checkApart("gemm", "c", result, "a", left);
    checkApart("gemm", "c", result, "b", right);
    gemmChecked(alpha, left, transposeA, right, transposeB, beta, result);
  }

  @Override
  public final void syrk(float alpha, Matrix x, float beta, Matrix c) {
    M factor = own("syrk", "x", x);
    M result = own("syrk", "c", c);
    checkShape("syrk", "c", result, factor.columns(), factor.columns());
    checkApart("syrk", "c", result, "x", factor);
    syrkChecked(alpha, factor, beta, result);
  }

  @Override
  public final int cholesky(Matrix a, Matrix lower) {
    M source = own("cholesky", "a", a);
    M result = own("cholesky", "lower", lower);
    checkSquare("cholesky", "a", source);
    checkShape("cholesky", "lower", result, source.rows(), source.rows());
    checkApartOrSame("cholesky", "lower", result, "a", source);
    return choleskyChecked(source, result);
  }

  @Override
  public final void triangularInverse(Matrix lower) {
    M matrix = own("triangularInverse", "lower", lower);
    checkSquare("triangularInverse", "lower", matrix);
    checkDiagonal("triangularInverse", matrix);
    triangularInverseChecked(matrix);
  }

  @Override
  public final void triangularSolve(Matrix lower, boolean transpose, Matrix b) {
    M matrix = own("triangularSolve", "lower", lower);
    M result = own("triangularSolve", "b", b);
    checkSquare("triangularSolve", "lower", matrix);
    checkShape("triangularSolve", "b", result, matrix.rows(), result.columns());
    checkApart("triangularSolve", "b", result, "lower", matrix);
    checkDiagonal("triangularSolve", matrix);
    triangularSolveChecked(matrix, transpose, result);
  }

  @Override
  public final void symmetricEigen(Matrix a, float[] values, Matrix vectors) {
    M source = own("symmetricEigen", "a", a);
    M result = own("symmetricEigen", "vectors", vectors);
    checkSquare("symmetricEigen", "a", source);
    checkLength("symmetricEigen", values, source.rows());
    checkShape("symmetricEigen", "vectors", result, source.rows(), source.rows());
    checkApartOrSame("symmetricEigen", "vectors", result, "a", source);
    int most = maxEigenOrder();
    if (source.rows() > most) {
      throw new IllegalArgumentException("symmetricEigen: a is " + shape(source) + ", at most " + most);
    }
    checkFinite("symmetricEigen", "a", source, true);
    if (!symmetricEigenChecked(source, values, result)) {
      throw new ArithmeticException("symmetricEigen: no convergence for a " + shape(source));
    }
  }

  @Override
  public final void svd(Matrix a, Matrix u, float[] values, Matrix vt) {
    M source = own("svd", "a", a);
    M left = own("svd", "u", u);
    M right = own("svd", "vt", vt);
    int k = Math.min(source.rows(), source.columns());
    checkShape("svd", "u", left, source.rows(), k);
    checkLength("svd", values, k);
    checkShape("svd", "vt", right, k, source.columns());
    checkApart("svd", "u", left, "a", source);
    checkApart("svd", "vt", right, "a", source);
    checkApart("svd", "vt", right, "u", left);
    if (!canSvd(source.rows(), source.columns())) {
      throw new IllegalArgumentException("svd: a is " + shape(source) + ", too large for the library");
    }
    checkFinite("svd", "a", source, false);
    if (!svdChecked(source, left, values, right)) {
      throw new ArithmeticException("svd: no convergence for a " + shape(source));
    }
  }

  @Override
  public final void mirror(Matrix a) {
    M matrix = own("mirror", "a", a);
    checkSquare("mirror", "a", matrix);
    mirrorChecked(matrix);
  }

  @Override
  public final int feedbackFactor(Matrix gram, float ridge, int[] order, Matrix factor) {
    int n = order.length;
    M h = own("feedbackFactor", "gram", gram);
    M result = own("feedbackFactor", "factor", factor);
    checkShape("feedbackFactor", "gram", h, n, n);
    checkShape("feedbackFactor", "factor", result, n, n);
    checkApart("feedbackFactor", "factor", result, "gram", h);
    checkOrder("feedbackFactor", order);
    return feedbackFactorChecked(h, ridge, order.clone(), result);
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
  public final void columnWalk(
    Matrix weights,
    Matrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    Matrix levels,
    double[] errors
  ) {
    M f = own("columnWalk", "factor", factor);
    checkOrder("columnWalk", order);
    checkShape("columnWalk", "factor", f, order.length, order.length);
    M w = own("columnWalk", "weights", weights);
    M chosen = own("columnWalk", "levels", levels);
    checkGrid("columnWalk", w, grid, chosen, errors);
    checkReach(grid, reach, order);
    checkShape("columnWalk", "weights", w, order.length, grid.rows());
    columnWalkChecked(w, f, ridge, order.clone(), grid, reach, chosen, errors);
  }

  private static void checkReach(QuantizationGrid grid, int reach, int[] order) {
    if (reach < 0) {
      throw new IllegalArgumentException("columnWalk: reach " + reach + ", expected at least 0");
    }
    if (reach > 0) {
      checkUnbroken("columnWalk", order, grid.groupLength());
    }
  }

  private static void checkUnbroken(String operation, int[] order, int groupLength) {
    for (int i = 0; i < order.length; i++) {
      int first = order[i - (i % groupLength)];
      if (order[i] / groupLength != first / groupLength) {
        throw new IllegalArgumentException(operation + ": an order that leaves a group of columns and comes back");
      }
    }
  }

  private void checkGrid(String operation, M weights, QuantizationGrid grid, M levels, double[] errors) {
    checkShape(operation, "weights", weights, grid.columns(), grid.rows());
    checkShape(operation, "levels", levels, grid.columns(), grid.rows());
    checkApart(operation, "levels", levels, "weights", weights);
    checkOwn(operation, grid);
    if (grid.pruned() != null) {
      checkApart(operation, "levels", levels, "grid.pruned", own(operation, "grid.pruned", grid.pruned()));
    }
    checkErrors(operation, errors, grid.rows());
  }

  private static void checkErrors(String operation, double[] errors, int rows) {
    if (errors.length != rows) {
      throw new IllegalArgumentException(operation + ": room for " + errors.length + " errors, expected " + rows);
    }
  }

  private void checkOwn(String operation, QuantizationGrid grid) {
    M _ = own(operation, "grid.d", grid.d());
    M _ = own(operation, "grid.dmin", grid.dmin());
    M _ = own(operation, "grid.scale", grid.scale());
    M _ = own(operation, "grid.minimum", grid.minimum());
    if (grid.pruned() != null) {
      M _ = own(operation, "grid.pruned", grid.pruned());
    }
  }

  @Override
  public final void refine(
    Matrix weights,
    Matrix gram,
    float ridge,
    QuantizationGrid grid,
    Matrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    M h = own("refine", "gram", gram);
    M w = own("refine", "weights", weights);
    M chosen = own("refine", "levels", levels);
    checkGrid("refine", w, grid, chosen, errors);
    checkShape("refine", "gram", h, grid.columns(), grid.columns());
    refineChecked(w, h, ridge, grid, chosen, passes, scales, errors);
  }

  @Override
  public final void gramErrors(Matrix weights, Matrix gram, QuantizationGrid grid, Matrix levels, double[] errors) {
    M h = own("gramErrors", "gram", gram);
    M w = own("gramErrors", "weights", weights);
    M chosen = own("gramErrors", "levels", levels);
    checkGrid("gramErrors", w, grid, chosen, errors);
    checkShape("gramErrors", "gram", h, grid.columns(), grid.columns());
    gramErrorsChecked(w, h, grid, chosen, errors);
  }

  @Override
  public final Optional<BlockCoder> coder(String type) {
    checkOpen();
    return newCoder(type).map(CheckedCoder::new);
  }

  private final class CheckedCoder implements BlockCoder {

    private final DeviceCoder<M> coder;

    CheckedCoder(DeviceCoder<M> coder) {
      this.coder = coder;
    }

    @Override
    public QuantizationGrid search(Scope scope, Matrix weights, float[] importance, Matrix levels) {
      M w = own("search", "weights", weights);
      M chosen = own("search", "levels", levels);
      if (w.rows() % coder.blockLength() != 0) {
        throw new IllegalArgumentException(
          "search: weights is " + shape(w) + ", expected a multiple of " + coder.blockLength() + " rows"
        );
      }
      checkShape("search", "levels", chosen, w.rows(), w.columns());
      checkApart("search", "levels", chosen, "weights", w);
      if (importance != null && importance.length != w.rows()) {
        throw new IllegalArgumentException(
          "search: importance of " + importance.length + " columns, expected " + w.rows()
        );
      }
      return coder.search(scope, w, importance, chosen);
    }

    @Override
    public void pack(QuantizationGrid grid, Matrix levels, MemorySegment to) {
      M chosen = own("pack", "levels", levels);
      checkOwn("pack", grid);
      if (grid.blockLength() != coder.blockLength() || grid.groupLength() != coder.groupLength()) {
        throw new IllegalArgumentException(
          "pack: a grid with groups of %d in blocks of %d, expected %d in %d".formatted(
            grid.groupLength(),
            grid.blockLength(),
            coder.groupLength(),
            coder.blockLength()
          )
        );
      }
      checkShape("pack", "levels", chosen, grid.columns(), grid.rows());
      long bytes = grid.d().rows() * (long) grid.rows() * coder.blockBytes();
      if (to.byteSize() < bytes) {
        throw new IllegalArgumentException("pack: room for " + to.byteSize() + " bytes, expected " + bytes);
      }
      coder.pack(grid, chosen, to);
    }
  }

  @Override
  public final void prune(Matrix weights, float[] norms, Sparsity sparsity) {
    M w = own("prune", "weights", weights);
    checkSparsity("prune", sparsity, w);
    float[] factors = new float[w.rows()];
    if (norms == null) {
      Arrays.fill(factors, 1);
    } else if (norms.length != factors.length) {
      throw new IllegalArgumentException("prune: " + norms.length + " norms, expected " + factors.length);
    } else {
      System.arraycopy(norms, 0, factors, 0, factors.length);
    }
    for (int i = 0; i < factors.length; i++) {
      if (!(factors[i] >= 0 && factors[i] <= Float.MAX_VALUE)) {
        throw new IllegalArgumentException(
          "prune: a norm of " + factors[i] + " at " + i + ", expected finite ones of at least 0"
        );
      }
    }
    checkFinite("prune", "weights", w, false);
    pruneChecked(w, factors, sparsity);
  }

  @Override
  public final void sparseWalk(
    Matrix weights,
    Matrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    Matrix pruned,
    double[] errors
  ) {
    M f = own("sparseWalk", "factor", factor);
    checkOrder("sparseWalk", order);
    checkShape("sparseWalk", "factor", f, order.length, order.length);
    M w = own("sparseWalk", "weights", weights);
    checkShape("sparseWalk", "weights", w, order.length, w.columns());
    M result = own("sparseWalk", "pruned", pruned);
    checkShape("sparseWalk", "pruned", result, order.length, w.columns());
    checkApart("sparseWalk", "pruned", result, "weights", w);
    checkApart("sparseWalk", "pruned", result, "factor", f);
    checkErrors("sparseWalk", errors, w.columns());
    checkSparsity("sparseWalk", sparsity, w);
    if (sparsity instanceof Sparsity.Pattern(_, int of)) {
      checkUnbroken("sparseWalk", order, of);
    }
    checkFinite("sparseWalk", "weights", w, false);
    sparseWalkChecked(w, f, ridge, order.clone(), sparsity, result, errors);
  }

  private void checkSparsity(String operation, Sparsity sparsity, M weights) {
    int columns = weights.rows();
    switch (sparsity) {
      case Sparsity.Rows(int removed) -> checkRemoved(operation, removed, columns, "a row");
      case Sparsity.Whole(long removed) -> checkRemoved(operation, removed, weights.count(), "all");
      case Sparsity.Pattern(int kept, int of) -> {
        if (of < 1 || of > Sparsity.LONGEST_PATTERN || Integer.bitCount(of) != 1 || columns % of != 0) {
          throw new IllegalArgumentException(
            "%s: groups of %d columns, expected a power of two up to %d that divides %d".formatted(
              operation,
              of,
              Sparsity.LONGEST_PATTERN,
              columns
            )
          );
        }
        checkRemoved(operation, (long) of - kept, of, "a group");
      }
    }
  }

  private static void checkRemoved(String operation, long removed, long most, String what) {
    if (removed < 0 || removed > most) {
      throw new IllegalArgumentException(
        "%s: to remove %d weights of %s, expected 0 to %d".formatted(operation, removed, what, most)
      );
    }
  }

  /** Frees what the device holds. Further calls do nothing. */
  @Override
  public final synchronized void close() {
    if (!closed) {
      closed = true;
      closeChecked();
    }
  }

  // --- What a device does.

  protected abstract Scope newScope();

  protected abstract void uploadChecked(MemorySegment from, M to);

  protected abstract void downloadChecked(M from, MemorySegment to);

  protected abstract void transposeChecked(M from, M to);

  protected abstract void addChecked(float alpha, M a, M to);

  protected abstract void gemmChecked(float alpha, M a, boolean transposeA, M b, boolean transposeB, float beta, M c);

  protected abstract void syrkChecked(float alpha, M x, float beta, M c);

  protected abstract int choleskyChecked(M a, M lower);

  protected abstract void triangularInverseChecked(M lower);

  protected abstract void triangularSolveChecked(M lower, boolean transpose, M b);

  /** The largest order of a matrix whose eigenvectors can be computed. */
  protected abstract int maxEigenOrder();

  /** Returns false if the iteration does not converge. */
  protected abstract boolean symmetricEigenChecked(M a, float[] values, M vectors);

  /** Whether a matrix is small enough for a singular value decomposition. */
  protected abstract boolean canSvd(int rows, int columns);

  /** Returns false if the iteration does not converge. */
  protected abstract boolean svdChecked(M a, M u, float[] values, M vt);

  protected abstract void mirrorChecked(M a);

  protected abstract int feedbackFactorChecked(M gram, float ridge, int[] order, M factor);

  protected abstract void columnWalkChecked(
    M weights,
    M factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    M levels,
    double[] errors
  );

  protected abstract void refineChecked(
    M weights,
    M gram,
    float ridge,
    QuantizationGrid grid,
    M levels,
    int passes,
    boolean scales,
    double[] errors
  );

  protected abstract void gramErrorsChecked(M weights, M gram, QuantizationGrid grid, M levels, double[] errors);

  /** What encodes a type; empty for types that the device has no encoder for. */
  protected Optional<DeviceCoder<M>> newCoder(String type) {
    return Optional.empty();
  }

  /** @param norms one number per column of the weights, 1 for pruning by magnitude */
  protected abstract void pruneChecked(M weights, float[] norms, Sparsity sparsity);

  protected abstract void sparseWalkChecked(
    M weights,
    M factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    M pruned,
    double[] errors
  );

  protected abstract void closeChecked();

  /** The first place of a square matrix's diagonal that has a 0. */
  protected abstract OptionalInt zeroOnDiagonal(M square);

  /**
   * The first number of a matrix that is not finite.
   *
   * @param upper whether what is below the diagonal does not count
   * @return its row * columns + column
   */
  protected abstract OptionalLong firstNotFinite(M matrix, boolean upper);

  /** A number of a matrix. */
  protected abstract float get(M matrix, long index);

  // --- Checks.

  protected final void checkOpen() {
    if (closed) {
      throw new IllegalStateException("the device is closed");
    }
  }

  /** A matrix of this device; named for the message. */
  final M own(String operation, String name, Matrix matrix) {
    checkOpen();
    if (!matrixType.isInstance(matrix) || matrixType.cast(matrix).device() != this) {
      throw new IllegalArgumentException(operation + ": " + name + " is of another device");
    }
    M own = matrixType.cast(matrix);
    if (!own.isAlive()) {
      throw new IllegalStateException(operation + ": " + name + "'s scope is closed");
    }
    return own;
  }

  static String shape(Matrix matrix) {
    return "(" + matrix.rows() + ", " + matrix.columns() + ")";
  }

  static void checkShape(String operation, String name, Matrix matrix, int rows, int columns) {
    if (matrix.rows() != rows || matrix.columns() != columns) {
      throw new IllegalArgumentException(
        operation + ": " + name + " is " + shape(matrix) + ", expected (" + rows + ", " + columns + ")"
      );
    }
  }

  private static void checkSquare(String operation, String name, Matrix matrix) {
    checkShape(operation, name, matrix, matrix.rows(), matrix.rows());
  }

  private static void checkLength(String operation, float[] values, int count) {
    if (values.length != count) {
      throw new IllegalArgumentException(operation + ": values has " + values.length + ", expected " + count);
    }
  }

  private void checkDiagonal(String operation, M matrix) {
    zeroOnDiagonal(matrix).ifPresent(i -> {
      throw new IllegalArgumentException(operation + ": lower has 0 at (" + i + ", " + i + "), expected no 0 there");
    });
  }

  /** Refuses a matrix that has a NaN or an infinity: LAPACK might not return, and scores would have no order. */
  private void checkFinite(String operation, String name, M matrix, boolean upper) {
    firstNotFinite(matrix, upper).ifPresent(i -> {
      throw new IllegalArgumentException(
        "%s: %s has %s at (%d, %d), expected finite numbers".formatted(
          operation,
          name,
          get(matrix, i),
          i / matrix.columns(),
          i % matrix.columns()
        )
      );
    });
  }

  static void checkApartOrSame(String operation, String result, DeviceMatrix to, String source, DeviceMatrix from) {
    if (!to.is(from)) {
      checkApart(operation, result, to, source, from);
    }
  }

  static void checkApart(String operation, String result, DeviceMatrix to, String source, DeviceMatrix from) {
    if (to.overlaps(from)) {
      throw new IllegalArgumentException(operation + ": " + result + " would overwrite " + source);
    }
  }
}
