package dev.attar.compute;

import java.lang.foreign.MemorySegment;
import java.util.Optional;

/**
 * What computes. Matrices are single-precision and stay in the device's memory; a factorization computes in double precision where
 * its accuracy needs it. Operations are complete when they return. One operation at a time.
 *
 * <p>Every operation throws {@code IllegalArgumentException} if a matrix is another device's, if shapes do not fit, or if a result
 * would overwrite what it is computed from where that is not said to be allowed; {@code IllegalStateException} if the device or a
 * matrix's scope is closed: nothing has changed then. It throws {@link OutOfDeviceMemoryException} if there is no room for what it
 * needs meanwhile. Copies may run beside an operation, from another thread.
 */
public interface Device extends AutoCloseable {
  /** What it is, in one line: {@code cpu (OpenBLAS 0.3.31 SkylakeX, 2 threads, 512-bit vectors)}. */
  String name();

  /** Whether its memory is not the process's own: copies travel then, and should do so while something else is computed. */
  boolean hasOwnMemory();

  /** Bytes that are free in its own memory, whoever uses the others; {@code Long.MAX_VALUE} if it has none. */
  long freeMemory();

  /** A new scope for matrices. */
  Scope scope();

  /**
   * Copies numbers to a matrix.
   *
   * @param from little-endian float32, row-major, as many as the matrix has
   */
  void upload(MemorySegment from, Matrix to);

  /**
   * Copies a matrix's numbers.
   *
   * @param to little-endian float32, row-major, room for as many as the matrix has
   */
  void download(Matrix from, MemorySegment to);

  /**
   * Writes a matrix's rows as the columns of another.
   *
   * @param from (m, n)
   * @param to gets (n, m)
   */
  void transpose(Matrix from, Matrix to);

  /** {@code to += alpha a}, not fused; both of the same shape. */
  void add(float alpha, Matrix a, Matrix to);

  /** {@code c = alpha op(a) op(b) + beta c}, where op transposes if so said. With beta 0, what was in c does not matter. */
  void gemm(float alpha, Matrix a, boolean transposeA, Matrix b, boolean transposeB, float beta, Matrix c);

  /** The upper triangle of {@code c = alpha x'x + beta c}; x is (n, d), c is (d, d), what is below c's diagonal stays. */
  void syrk(float alpha, Matrix x, float beta, Matrix c);

  /**
   * The lower triangular L with positive diagonal such that {@code a = L L'}.
   *
   * @param a symmetric (n, n), of which the upper triangle is read
   * @param lower gets L (n, n), zeros above its diagonal; may be a itself
   * @return 0, or k if the leading minor of order k is not positive or not a number: a is not positive definite then, and lower's
   *     contents are unspecified
   */
  int cholesky(Matrix a, Matrix lower);

  /**
   * Replaces a lower triangular (n, n) with its inverse. What is above the diagonal is not read and stays.
   *
   * @throws IllegalArgumentException if a number on the diagonal is 0
   */
  void triangularInverse(Matrix lower);

  /**
   * Replaces b (n, m) with the x of {@code L x = b}, or of {@code L' x = b} if transposed.
   *
   * @param lower L (n, n), of which what is above the diagonal is not read
   * @throws IllegalArgumentException if a number on the diagonal is 0
   */
  void triangularSolve(Matrix lower, boolean transpose, Matrix b);

  /**
   * Eigenvalues and eigenvectors of a symmetric matrix.
   *
   * @param a (n, n), of which the upper triangle is read
   * @param values gets the n eigenvalues in ascending order
   * @param vectors gets the eigenvectors (n, n), one of length 1 in each row, in the order of the values; may be a itself
   * @throws IllegalArgumentException also if a number is not finite
   * @throws ArithmeticException if the iteration does not converge
   */
  void symmetricEigen(Matrix a, float[] values, Matrix vectors);

  /**
   * The singular value decomposition {@code a = u diag(values) vt} with k = min(m, n).
   *
   * @param a (m, n), left as it is
   * @param u gets the left singular vectors (m, k) in its columns
   * @param values gets the k singular values in descending order
   * @param vt gets the right singular vectors (k, n) in its rows
   * @throws IllegalArgumentException also if a number is not finite
   * @throws ArithmeticException if the iteration does not converge
   */
  void svd(Matrix a, Matrix u, float[] values, Matrix vt);

  /** Copies a square matrix's upper triangle to its lower one. */
  void mirror(Matrix a);

  /**
   * The factor by which a column's rounding error is fed back into the columns after it, when columns are rounded in a given order.
   * With {@code H = gram + ridge I}, rows and columns in the reverse of that order, it is the unit lower triangular M of {@code H =
   * M D M'} with a diagonal D. The LDL decomposition makes the column walk of GPTQ (Frantar et al., 2022) the same as LDLQ (Chee
   * et al., 2023, theorem 6), which needs no inverse. Computed in single precision, whose errors are like a change of H by some
   * millionths of its diagonal: the ridge should be well above.
   *
   * @param gram symmetric (n, n), both triangles filled
   * @param order the columns in the order in which they will be rounded, each number from 0 to n - 1 once
   * @param factor gets M below its diagonal and D on it, (n, n)
   * @return 0, or k if the leading minor of order k, of H in that reversed order, is not positive or not a number: factor's contents
   *     are unspecified then
   */
  int feedbackFactor(Matrix gram, float ridge, int[] order, Matrix factor);

  /**
   * GPTQ's walk: rounds the columns of the weights one after the other to a grid, and feeds the error of each back into those after
   * it, so that {@code trace(E H E')} of the whole error E stays small. Matrices have a column per row of the weights, which do not
   * depend on each other.
   *
   * @param weights (n, rows), left as they are
   * @param factor of {@link #feedbackFactor}, (n, n)
   * @param ridge what the factor was made with
   * @param order the order that the factor was made for
   * @param grid what the weights can become; its matrices change if reach is above 0
   * @param reach 0 to keep the grid's scales. Otherwise the walk chooses them when it comes to a group of columns, seeing what the
   *     columns before it left: scales up to so many numbers from those of the grid, minimums up to two thirds as many; d itself, in
   *     so many steps, where groups have no scales. The order must go through the columns of a group without a break then
   * @param levels gets the chosen levels (n, rows)
   * @param errors gets what {@link #gramErrors} would say of the levels
   */
  void columnWalk(
    Matrix weights,
    Matrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    Matrix levels,
    double[] errors
  );

  /**
   * Lowers {@code trace(E H E')} further by cyclic coordinate descent, where E is what the levels leave of the weights and {@code H =
   * gram + ridge I}: each weight in turn gets the level that is best while all others stay. No step raises the error.
   *
   * @param weights (n, rows), left as they are
   * @param gram symmetric (n, n), both triangles filled
   * @param grid what the weights can become; its matrices change if scales are refined
   * @param levels (n, rows) levels of the grid, which change
   * @param passes how often to go over all columns
   * @param scales whether the grid's scales and minimums (whole numbers) and its d and dmin (half-precision numbers) are fitted to the
   *     levels too
   * @param errors what {@link #gramErrors} says of the levels; gets what it would say afterwards
   */
  void refine(
    Matrix weights,
    Matrix gram,
    float ridge,
    QuantizationGrid grid,
    Matrix levels,
    int passes,
    boolean scales,
    double[] errors
  );

  /**
   * The errors that levels leave: for each row e of what they leave of the weights, {@code e H e'} with {@code H = gram}.
   *
   * @param errors gets one number per row of the weights
   */
  void gramErrors(Matrix weights, Matrix gram, QuantizationGrid grid, Matrix levels, double[] errors);

  /**
   * Removes the weights of least score, {@code |weight| * norm} of its column in single precision: sets them to 0. With the norms of
   * the columns' inputs this is Wanda (Sun et al., 2024), without them pruning by magnitude. Exactly as many as said are removed; of
   * equal scores the one in the lower column goes first, in the whole matrix then the one in the lower row. Matrices have a column
   * per row of the weights, as in {@link #columnWalk}.
   *
   * @param weights (n, rows), finite
   * @param norms one number per column of the weights, finite and at least 0; or null
   */
  void prune(Matrix weights, float[] norms, Sparsity sparsity);

  /**
   * SparseGPT's walk (Frantar and Alistarh, 2023): goes through the columns of the weights one after the other, removes some weights,
   * and feeds what that changes back into the columns after it, so that {@code trace(E H E')} of the whole change E stays small, with
   * {@code H = gram + ridge I}. Removed weights become 0; all others become what the columns before want them to be.
   *
   * <p>With the factor in its LDL form, removing a weight alone adds {@code D x²} to the error, where D is its column's number on the
   * diagonal and x what the weight becomes if nothing more is removed. That is its score, the published {@code w² / [U]²} with the
   * Cholesky factor U of the inverse. Of rows and of the whole matrix, weights are chosen in blocks of {@value SparseBlocks#WIDTH}
   * columns of the order, each of which removes its share: by their scores when the walk comes to the block. Of a pattern, they are
   * chosen when it comes to the {@code of} columns. Of equal scores the lower column goes first, of the whole matrix then the lower
   * row.
   *
   * @param weights (n, rows), finite, left as they are
   * @param factor of {@link #feedbackFactor}, (n, n)
   * @param ridge what the factor was made with
   * @param order the order that the factor was made for; it must go through the columns of a pattern without a break
   * @param pruned gets what the weights become (n, rows)
   * @param errors gets for each row e of E {@code e gram e'}
   */
  void sparseWalk(
    Matrix weights,
    Matrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    Matrix pruned,
    double[] errors
  );

  /** What a transformer computes beside {@link #gemm}, for training one. */
  TransformerOperations transformer();

  /**
   * The encoder of a block type; empty if the device has none, and those of the processor have to do it.
   *
   * @param type GGUF's name of it: {@code Q4_K}
   */
  default Optional<BlockCoder> coder(String type) {
    return Optional.empty();
  }

  /** Frees what the device holds; its scopes must be closed. */
  @Override
  void close();
}
