package dev.attar.calibration;

import dev.attar.formats.gguf.GgufModel;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Objects;

/**
 * A Gram matrix X'X / n of the n rows of activations X that entered a linear layer, in a mapped file. Symmetric, so that only the
 * upper triangle is there.
 */
public final class Gram implements AutoCloseable {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final GgufModel file;
  private final int columns;
  private final long tokens;

  Gram(GgufModel file, int columns, long tokens) {
    this.file = file;
    this.columns = columns;
    this.tokens = tokens;
  }

  /** Number of rows and columns. */
  public int columns() {
    return columns;
  }

  /** Number n of rows of activations; 0 for an expert that no token met, whose matrix is zero. */
  public long tokens() {
    return tokens;
  }

  /** Number of values in the upper triangle of a matrix. */
  static long packedLength(int columns) {
    return (columns * (columns + 1L)) / 2;
  }

  /** Where a row's diagonal element is in the packed upper triangle. */
  static long packedStart(int columns, int row) {
    return row * (long) columns - (row * (row - 1L)) / 2;
  }

  /**
   * The upper triangle, row after row, each from its diagonal element on: {@code columns (columns + 1) / 2} little-endian float32,
   * read-only.
   */
  public MemorySegment upper() {
    return file.tensors().getFirst().bytes();
  }

  /** An element; its place may be below the diagonal. */
  public float get(int row, int column) {
    Objects.checkIndex(row, columns);
    Objects.checkIndex(column, columns);
    int first = Math.min(row, column);
    return upper().get(FLOAT, (packedStart(columns, first) + Math.max(row, column) - first) * Float.BYTES);
  }

  /**
   * Copies the upper triangle into a square matrix and leaves what is below its diagonal as it is.
   *
   * @param square {@code columns * columns} little-endian float32, row-major
   */
  public void copyUpper(MemorySegment square) {
    for (int row = 0; row < columns; row++) {
      long from = packedStart(columns, row) * Float.BYTES;
      long to = (row * (long) columns + row) * Float.BYTES;
      MemorySegment.copy(upper(), from, square, to, (columns - row) * (long) Float.BYTES);
    }
  }

  /** Unmaps the file. */
  @Override
  public void close() {
    file.close();
  }
}
