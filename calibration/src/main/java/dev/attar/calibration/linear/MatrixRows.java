package dev.attar.calibration.linear;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** What is done to matrices of a device row by row, from outside of it, with a few megabytes in the process's memory at a time. */
public final class MatrixRows {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Values that are copied at a time. */
  private static final int BAND = 1 << 20;

  private MatrixRows() {}

  /** Looks at a row. */
  @FunctionalInterface
  public interface Row {
    /**
     * @param number of the row, from 0
     * @param values little-endian float32
     * @param at the index of the row's first value
     */
    void see(int number, MemorySegment values, long at);
  }

  /** Goes through all rows. */
  public static void forEach(Device device, Matrix matrix, Row task) {
    int columns = matrix.columns();
    int most = Math.clamp(BAND / columns, 1, matrix.rows());
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment band = arena.allocate(FLOAT, (long) most * columns);
      for (int first = 0; first < matrix.rows(); first += most) {
        int count = Math.min(most, matrix.rows() - first);
        device.download(matrix.rows(first, count), band);
        for (int i = 0; i < count; i++) {
          task.see(first + i, band, (long) i * columns);
        }
      }
    }
  }

  /** The sum of the squares of each row. */
  public static double[] squares(Device device, Matrix matrix) {
    double[] squares = new double[matrix.rows()];
    int columns = matrix.columns();
    forEach(device, matrix, (row, values, at) -> {
      double sum = 0;
      for (int i = 0; i < columns; i++) {
        double x = values.getAtIndex(FLOAT, at + i);
        sum += x * x;
      }
      squares[row] = sum;
    });
    return squares;
  }

  /** The diagonal of a square matrix. */
  public static double[] diagonal(Device device, Matrix matrix) {
    double[] diagonal = new double[matrix.rows()];
    forEach(device, matrix, (row, values, at) -> diagonal[row] = values.getAtIndex(FLOAT, at + row));
    return diagonal;
  }

  /** Adds to each element of a square matrix's diagonal. */
  public static void addToDiagonal(Device device, Matrix matrix, float more) {
    int n = matrix.columns();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(FLOAT, n);
      for (int i = 0; i < n; i++) {
        device.download(matrix.rows(i, 1), row);
        row.setAtIndex(FLOAT, i, row.getAtIndex(FLOAT, i) + more);
        device.upload(row, matrix.rows(i, 1));
      }
    }
  }

  /** A copy of some rows. */
  public static Matrix pick(Device device, Scope scope, Matrix of, int[] rows) {
    return pick(device, scope, of, rows, null);
  }

  /**
   * A copy of some elements.
   *
   * @param columns {@code null} for all
   */
  public static Matrix pick(Device device, Scope scope, Matrix of, int[] rows, int[] columns) {
    int all = of.columns();
    int width = columns == null ? all : columns.length;
    Matrix picked = scope.matrix(rows.length, width);
    int most = Math.clamp(BAND / all, 1, rows.length);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(FLOAT, all);
      MemorySegment band = arena.allocate(FLOAT, (long) most * width);
      for (int first = 0; first < rows.length; first += most) {
        int count = Math.min(most, rows.length - first);
        for (int i = 0; i < count; i++) {
          long to = (long) i * width;
          if (columns == null) {
            device.download(of.rows(rows[first + i], 1), band.asSlice(to * Float.BYTES, (long) width * Float.BYTES));
          } else {
            device.download(of.rows(rows[first + i], 1), row);
            for (int j = 0; j < width; j++) {
              band.setAtIndex(FLOAT, to + j, row.getAtIndex(FLOAT, columns[j]));
            }
          }
        }
        device.upload(band, picked.rows(first, count));
      }
    }
    return picked;
  }

  /** Writes all values, row after row, as little-endian float32. */
  public static void write(Device device, Matrix matrix, OutputStream out) throws IOException {
    int most = Math.clamp(BAND / matrix.columns(), 1, matrix.rows());
    for (int first = 0; first < matrix.rows(); first += most) {
      int count = Math.min(most, matrix.rows() - first);
      byte[] band = new byte[Math.multiplyExact(count * matrix.columns(), Float.BYTES)];
      device.download(matrix.rows(first, count), MemorySegment.ofArray(band));
      out.write(band);
    }
  }
}
