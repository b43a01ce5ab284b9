package dev.attar.lowrank;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.io.IOException;
import java.lang.ref.SoftReference;
import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * A product {@code scale B A} of two thin matrices, or one for each expert. Rows of B are decoded as they are needed, A is decoded once
 * and kept while there is memory for it. For use by several threads.
 */
final class Product {

  /** Columns that are worked on at a time: four rows of A and one of the result stay in the first cache. */
  private static final int TILE = 1024;

  private final Tensor a;
  private final Tensor b;
  private final int rank;
  private final float scale;
  private final int stored;
  private final int columns;
  private final long rowsPerExpert;
  private final AtomicReferenceArray<SoftReference<float[]>> decoded;

  /**
   * @param a A, shape {columns, stored[, experts]}
   * @param b B, shape {stored, rows[, experts]}
   * @param rank so many of the first rows of A and columns of B count, at least 1 and at most {@code stored}
   * @param scale what the product is multiplied by
   * @throws IllegalArgumentException if the shapes or the rank do not fit
   */
  Product(Tensor a, Tensor b, int rank, float scale) {
    TensorInfo first = a.info();
    TensorInfo second = b.info();
    if (
      first.dimension(1) != second.rowLength() ||
      first.dimension(2) != second.dimension(2) ||
      rank < 1 ||
      rank > second.rowLength()
    ) {
      throw new IllegalArgumentException("rank " + rank + " of " + second + " times " + first);
    }
    this.a = a;
    this.b = b;
    this.rank = rank;
    this.scale = scale;
    stored = Math.toIntExact(second.rowLength());
    columns = Math.toIntExact(first.rowLength());
    rowsPerExpert = second.dimension(1);
    decoded = new AtomicReferenceArray<>(Math.toIntExact(first.dimension(2)));
  }

  /** Whether the product has the shape of a tensor. */
  boolean fits(TensorInfo info) {
    return (
      info.rowLength() == columns &&
      info.dimension(1) == rowsPerExpert &&
      info.rows() == rowsPerExpert * decoded.length()
    );
  }

  /**
   * Adds rows of the product.
   *
   * @param firstRow first row, counted through the experts
   * @param rows number of rows
   * @param out {@code rows} times as many values as there are columns
   * @param outOffset where in {@code out}
   */
  void addRows(long firstRow, int rows, float[] out, int outOffset) throws IOException {
    float[] factors = new float[Math.multiplyExact(rows, stored)];
    b.decodeRows(firstRow, rows, factors, 0);
    for (int i = 0; i < factors.length; i++) {
      factors[i] *= scale;
    }
    for (int done = 0; done < rows; ) {
      int expert = (int) ((firstRow + done) / rowsPerExpert);
      int count = (int) Math.min(rows - done, (expert + 1) * rowsPerExpert - firstRow - done);
      add(factors, done, count, a(expert), out, outOffset);
      done += count;
    }
  }

  /** A of one expert. Two threads may decode it at once, to the same values. */
  private float[] a(int expert) throws IOException {
    SoftReference<float[]> kept = decoded.get(expert);
    float[] values = kept == null ? null : kept.get();
    if (values == null) {
      values = new float[Math.multiplyExact(rank, columns)];
      a.decodeRows((long) expert * stored, rank, values, 0);
      decoded.set(expert, new SoftReference<>(values));
    }
    return values;
  }

  /** Adds rows of one expert. */
  private void add(float[] factors, int firstRow, int rows, float[] values, float[] out, int outOffset) {
    for (int tile = 0; tile < columns; tile += TILE) {
      int width = Math.min(TILE, columns - tile);
      int r = 0;
      for (; r + 4 <= rank; r += 4) {
        for (int row = firstRow; row < firstRow + rows; row++) {
          int at = row * stored + r;
          addFour(factors, at, values, r * columns + tile, columns, out, outOffset + row * columns + tile, width);
        }
      }
      for (; r < rank; r++) {
        for (int row = firstRow; row < firstRow + rows; row++) {
          float factor = factors[row * stored + r];
          addOne(factor, values, r * columns + tile, out, outOffset + row * columns + tile, width);
        }
      }
    }
  }

  private static void addFour(float[] factors, int f, float[] x, int at, int step, float[] out, int to, int width) {
    float f0 = factors[f];
    float f1 = factors[f + 1];
    float f2 = factors[f + 2];
    float f3 = factors[f + 3];
    int second = at + step;
    int third = second + step;
    int fourth = third + step;
    for (int i = 0; i < width; i++) {
      out[to + i] += f0 * x[at + i] + f1 * x[second + i] + (f2 * x[third + i] + f3 * x[fourth + i]);
    }
  }

  private static void addOne(float factor, float[] x, int at, float[] out, int to, int width) {
    for (int i = 0; i < width; i++) {
      out[to + i] += factor * x[at + i];
    }
  }
}
