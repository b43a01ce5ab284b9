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

  /** Rows of a product for which the matrix on the right is copied to panels, if that has so many numbers at most. */
  private static final int MANY_ROWS = 512;

  private static final long MOST_PACKED = 1 << 22;

  /** Columns of a panel. */
  private static final int PANEL_COLUMNS = 96;

  /** Rows that are multiplied with a panel's part at a time. */
  private static final int PANEL_ROWS = 32;

  /** Rows of a result that are a part. */
  private static final int PART_ROWS = 256;

  /** A small product of a transposed matrix: fast, by measurement, up to a million multiplications. */
  private static final int SMALL_ROWS = 64;

  private static final int SMALL_COLUMNS = 32;
  private static final int SMALL_DEPTH = 256;

  private final OpenBlas blas;
  private final Workers workers;
  private final RowKernel kernel = RowKernel.get();

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
    boolean small = blas.multipliesSmallInPlace();
    if (small && transposeA && !transposeB) {
      forTiles(m, n, (i, rows, j, columns) ->
        addProducts(rows, columns, k, alpha, left.at(0, i), right.at(0, j), beta, result.at(i, j))
      );
      return;
    }
    if (small && !transposeA && m >= MANY_ROWS && (long) n * k <= MOST_PACKED) {
      multiplyManyRows(m, n, k, alpha, left, transposeB, right, beta, result);
      return;
    }
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

  /**
   * {@code c = alpha a op(b) + beta c} for many rows, in products that are so small that OpenBLAS has code for them that copies nothing.
   * The columns of op(b) are copied to panels before, whose rows have no gaps.
   */
  private void multiplyManyRows(
    int m,
    int n,
    int k,
    float alpha,
    Block a,
    boolean transposeB,
    Block b,
    float beta,
    Block c
  ) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment panels = NativeMemory.zeros(arena, (long) n * k, Float.BYTES, "panels of " + n + " x " + k);
      workers.share(0, n, PANEL_COLUMNS, (j, end) -> pack(transposeB, b, j, end - j, k, panels));
      workers.share(0, m, PART_ROWS, (from, to) -> {
        for (int p = 0; p < k; p += SMALL_DEPTH) {
          int depth = Math.min(SMALL_DEPTH, k - p);
          for (int j = 0; j < n; j += PANEL_COLUMNS) {
            int columns = Math.min(PANEL_COLUMNS, n - j);
            Block panel = blas.floats().block(panels.asSlice(4L * j * k), columns).at(p, 0);
            for (int i = from; i < to; i += PANEL_ROWS) {
              int rows = Math.min(PANEL_ROWS, to - i);
              float before = p == 0 ? beta : 1;
              blas.floats().gemm(false, false, rows, columns, depth, alpha, a.at(i, p), panel, before, c.at(i, j));
            }
          }
        }
      });
    }
  }

  /** Copies columns of op(b) to a panel, which lies after those of the columns before. */
  private void pack(boolean transposeB, Block b, int first, int columns, int k, MemorySegment panels) {
    long at = 4L * first * k;
    MemorySegment from = b.start();
    if (transposeB) {
      kernel.transpose(from, 4L * first * b.stride(), b.stride(), columns, k, panels, at, columns);
    } else {
      for (int p = 0; p < k; p++) {
        kernel.scale(1, from, 4 * ((long) p * b.stride() + first), panels, at + 4L * p * columns, columns);
      }
    }
  }

  /**
   * {@code c = alpha a'b + beta c}, in products that are so small that OpenBLAS has code for them that copies nothing. The result stays
   * in a core's cache, while a (k, m) and b (k, n) are read once.
   */
  private void addProducts(int m, int n, int k, float alpha, Block a, Block b, float beta, Block c) {
    for (int p = 0; p < k; p += SMALL_DEPTH) {
      int depth = Math.min(SMALL_DEPTH, k - p);
      for (int i = 0; i < m; i += SMALL_ROWS) {
        int rows = Math.min(SMALL_ROWS, m - i);
        for (int j = 0; j < n; j += SMALL_COLUMNS) {
          int columns = Math.min(SMALL_COLUMNS, n - j);
          blas
            .floats()
            .gemm(true, false, rows, columns, depth, alpha, a.at(p, i), b.at(p, j), p == 0 ? beta : 1, c.at(i, j));
        }
      }
    }
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
