package dev.attar.formats;

import java.io.IOException;

/**
 * A named tensor whose bytes stay on disk until rows are asked for. Rows are counted through all dimensions but the first: a tensor
 * of shape {256, 64, 8} has 512 rows of 256 values. Safe for use by several threads at once.
 */
public interface Tensor {
  /** Name, type and shape. */
  TensorInfo info();

  /**
   * Copies rows as they are encoded.
   *
   * @param firstRow first row, from 0
   * @param rows number of rows
   * @param out receives {@code rows * info().rowBytes()} bytes
   * @param outOffset where in {@code out}
   * @throws IOException if the file cannot be read
   */
  void readRows(long firstRow, int rows, byte[] out, int outOffset) throws IOException;

  /**
   * Decodes rows to single precision.
   *
   * @param firstRow first row, from 0
   * @param rows number of rows
   * @param out receives {@code rows * info().rowLength()} values
   * @param outOffset where in {@code out}
   * @throws IOException if the file cannot be read
   */
  void decodeRows(long firstRow, int rows, float[] out, int outOffset) throws IOException;
}
