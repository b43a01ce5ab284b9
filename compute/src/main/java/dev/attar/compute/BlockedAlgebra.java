package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import dev.attar.compute.Level3.Block;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Dense algebra in blocks, which threads share out among themselves while each computes with OpenBLAS alone. The blocks depend on the
 * shapes only, so the results are the same bit for bit with any number of threads. OpenBLAS's own threads give neither that nor the
 * processor: they wait for each other, and for their next work, in loops.
 *
 * <p>Matrices are row-major; nothing is checked.
 */
final class BlockedAlgebra {

  /** Rows or columns of a block of a factorization: what is left of the matrix goes through memory once for each. */
  private static final int PANEL = 256;

  private static final int SMALLEST_TILE = 128;
  private static final int LARGEST_TILE = 512;

  private final OpenBlas blas;
  private final Workers workers;

  BlockedAlgebra(OpenBlas blas, Workers workers) {
    this.blas = blas;
    this.workers = workers;
  }

  /** Work on a tile: rows {@code i} and columns {@code j} on, so many of each. */
  @FunctionalInterface
  private interface TileTask {
    void run(int i, int rows, int j, int columns);
  }

  /** Rows or columns of a tile of a result that has n of them: a fourth, within bounds and in whole vectors. */
  private static int tile(int n) {
    return Math.clamp((Math.ceilDiv(n, 4) + 31) & -32, SMALLEST_TILE, LARGEST_TILE);
  }

  private void forTiles(int rows, int columns, TileTask task) {
    int height = tile(rows);
    int width = tile(columns);
    int across = Math.ceilDiv(columns, width);
    workers.share(0, Math.ceilDiv(rows, height) * across, 1, (tile, _) -> {
      int i = (tile / across) * height;
      int j = (tile % across) * width;
      task.run(i, Math.min(height, rows - i), j, Math.min(width, columns - j));
    });
  }

  /** {@code c = alpha op(a) op(b) + beta c}: op(a) is (m, k), op(b) is (k, n), c is (m, n), all float32 without gaps. */
  void gemm(
    float alpha,
    MemorySegment a,
    boolean transposeA,
    MemorySegment b,
    boolean transposeB,
    float beta,
    MemorySegment c,
    int m,
    int n,
    int k
  ) {
    Block left = blas.floats().block(a, transposeA ? m : k);
    Block right = blas.floats().block(b, transposeB ? k : n);
    Block result = blas.floats().block(c, n);
    forTiles(m, n, (i, rows, j, columns) ->
      blas
        .floats()
        .gemm(
          transposeA,
          transposeB,
          rows,
          columns,
          k,
          alpha,
          transposeA ? left.at(0, i) : left.at(i, 0),
          transposeB ? right.at(j, 0) : right.at(0, j),
          beta,
          result.at(i, j)
        )
    );
  }

  /** The upper triangle of {@code c = alpha x'x + beta c}: x is (n, d), c is (d, d), both float32 without gaps. */
  void syrk(float alpha, MemorySegment x, float beta, MemorySegment c, int n, int d) {
    Block factor = blas.floats().block(x, d);
    Block result = blas.floats().block(c, d);
    forTiles(d, d, (i, rows, j, columns) -> {
      if (i == j) {
        blas.floats().addGramUpper(rows, n, alpha, factor.at(0, i), beta, result.at(i, i));
      } else if (i < j) {
        Block left = factor.at(0, i);
        blas.floats().gemm(true, false, rows, columns, n, alpha, left, factor.at(0, j), beta, result.at(i, j));
      }
    });
  }

  /** Replaces b (n, m) with the x of {@code op(L) x = b}; L (n, n) and b are float32 without gaps. */
  void solveLower(boolean transpose, MemorySegment lower, MemorySegment b, int n, int m) {
    Block triangle = blas.floats().block(lower, n);
    Block result = blas.floats().block(b, m);
    int width = tile(m);
    workers.share(0, m, width, (from, to) ->
      blas.floats().solveLower(transpose, n, to - from, triangle, result.at(0, from))
    );
  }

  /**
   * Replaces the lower triangle of a symmetric matrix with its Cholesky factor L, {@code L L'}; the rest is neither read nor
   * written. Panels from left to right, what is right of a panel brought up to date after it.
   *
   * @param precision the functions of float32 or of float64
   * @param n the order of the leading part to factor
   * @param a finite numbers, of rows that are {@code stride} numbers apart
   * @return 0, or k if the leading minor of order k is not positive
   */
  int cholesky(Level3 precision, MemorySegment a, int n, int stride) {
    Block matrix = precision.block(a, stride);
    for (int start = 0; start < n; start += PANEL) {
      int width = Math.min(PANEL, n - start);
      int below = start + width;
      Block diagonal = matrix.at(start, start);
      int minor = precision.cholesky(width, diagonal);
      if (minor > 0) {
        return start + minor;
      }
      int panel = start;
      workers.share(below, n, PANEL, (from, to) ->
        precision.solveLowerFromRight(width, to - from, diagonal, matrix.at(from, panel))
      );
      forTiles(n - below, n - below, (i, rows, j, columns) -> {
        Block result = matrix.at(below + i, below + j);
        Block left = matrix.at(below + i, panel);
        if (i == j) {
          precision.addGramLower(rows, width, -1, left, 1, result);
        } else if (i > j) {
          precision.gemm(false, true, rows, columns, width, -1, left, matrix.at(below + j, panel), 1, result);
        }
      });
    }
    return 0;
  }

  /** Takes columns of an inverse: {@code values} has the rows from {@code column} on, each of {@code width} numbers. */
  @FunctionalInterface
  interface Columns {
    void take(int column, int width, MemorySegment values);
  }

  /**
   * The inverse of a lower triangle, some columns at a time, from several threads at a time. What is above the diagonal is not read
   * and zero in the inverse.
   *
   * @param lower float64 (n, n), no zero on its diagonal
   */
  void invertLower(MemorySegment lower, int n, Columns columns) {
    Block triangle = blas.doubles().block(lower, n);
    workers.share(0, n, PANEL, (from, to) -> {
      int rows = n - from;
      int width = to - from;
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment values = NativeMemory.zeros(arena, (long) rows * width, Double.BYTES, "columns of an inverse");
        for (int i = 0; i < width; i++) {
          values.setAtIndex(JAVA_DOUBLE, (long) i * width + i, 1);
        }
        blas.doubles().solveLower(false, rows, width, triangle.at(from, from), blas.doubles().block(values, width));
        columns.take(from, width, values);
      }
    });
  }
}
