package dev.attar.quant.budget;

import static dev.attar.quant.budget.OutputErrors.FLOAT;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The norm of a Gram matrix, computed on a device. With T the upper triangle of H, its diagonal halved, x H x' = 2 x T x', so that H
 * need not be mirrored.
 */
final class GramNorm implements RowNorm, AutoCloseable {

  /** Values that are copied to the device at a time. */
  private static final int COPIED_VALUES = 1 << 20;

  private final Device device;
  private final int columns;
  private final Scope scope;
  private final Arena arena = Arena.ofConfined();
  private final Matrix triangle;
  private final Matrix rows;
  private final Matrix products;
  private final MemorySegment product;

  /**
   * @param gram H, which is not used afterwards
   * @param maxRows the most rows that will be measured at a time
   */
  GramNorm(Device device, GramSource.Gram gram, int maxRows) {
    this.device = device;
    columns = gram.columns();
    scope = device.scope();
    try {
      triangle = scope.matrix(columns, columns);
      rows = scope.matrix(maxRows, columns);
      products = scope.matrix(maxRows, columns);
      product = arena.allocate((long) maxRows * columns * Float.BYTES, Float.BYTES);
      upload(gram.upper());
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  private void upload(MemorySegment upper) {
    int band = Math.clamp(COPIED_VALUES / columns, 1, columns);
    try (Arena local = Arena.ofConfined()) {
      MemorySegment square = local.allocate((long) band * columns * Float.BYTES, Float.BYTES);
      long from = 0;
      for (int first = 0; first < columns; first += band) {
        int count = Math.min(band, columns - first);
        square.fill((byte) 0);
        for (int row = first; row < first + count; row++) {
          long diagonal = ((row - first) * (long) columns + row) * Float.BYTES;
          long length = (long) (columns - row) * Float.BYTES;
          MemorySegment.copy(upper, from, square, diagonal, length);
          square.set(FLOAT, diagonal, square.get(FLOAT, diagonal) / 2);
          from += length;
        }
        device.upload(square.asSlice(0, (long) count * columns * Float.BYTES), triangle.rows(first, count));
      }
    }
  }

  @Override
  public void squares(MemorySegment x, int count, double[] out) {
    long bytes = (long) count * columns * Float.BYTES;
    Matrix xs = rows.rows(0, count);
    Matrix ys = products.rows(0, count);
    device.upload(x.asSlice(0, bytes), xs);
    device.gemm(2, xs, false, triangle, false, 0, ys);
    device.download(ys, product.asSlice(0, bytes));
    for (int row = 0; row < count; row++) {
      long start = (long) row * columns;
      double sum = 0;
      for (long i = start; i < start + columns; i++) {
        sum += (double) x.getAtIndex(FLOAT, i) * product.getAtIndex(FLOAT, i);
      }
      out[row] = sum;
    }
  }

  @Override
  public void close() {
    scope.close();
    arena.close();
  }
}
