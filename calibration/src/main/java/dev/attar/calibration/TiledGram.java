package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** A sum of X'X over batches of rows X, of which only the tiles that hold the upper triangle are kept. */
final class TiledGram {

  private static final ValueLayout.OfFloat FLOAT = JAVA_FLOAT.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Device device;
  private final Matrix[][] tiles; // [i][j] is that of the blocks of columns i and i + j

  TiledGram(Device device, Scope scope, int columns) {
    this.device = device;
    int tile = GramPlan.tile(device);
    int n = Math.ceilDiv(columns, tile);
    tiles = new Matrix[n][];
    for (int i = 0; i < n; i++) {
      tiles[i] = new Matrix[n - i];
      for (int j = i; j < n; j++) {
        tiles[i][j - i] = scope.matrix(width(tile, columns, i), width(tile, columns, j));
      }
    }
  }

  private static int width(int tile, int columns, int block) {
    return Math.min(tile, columns - block * tile);
  }

  void add(RowBatch rows) {
    if (rows.size() == 0) {
      return;
    }
    Matrix[] x = rows.upload();
    for (int i = 0; i < tiles.length; i++) {
      device.syrk(1, x[i], 1, tiles[i][0]);
      for (int j = i + 1; j < tiles.length; j++) {
        device.gemm(1, x[i], true, x[j], false, 1, tiles[i][j - i]);
      }
    }
  }

  /**
   * Passes on the packed upper triangle, row by row.
   *
   * @param scale factor for all values
   * @throws ArithmeticException if a value is not finite
   */
  void forEachPart(float scale, GramStore.Rows.Part part) throws IOException {
    for (Matrix[] band : tiles) {
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment[] values = new MemorySegment[band.length];
        int width = 0;
        for (int j = 0; j < band.length; j++) {
          values[j] = arena.allocate((long) Float.BYTES * band[j].rows() * band[j].columns(), 64);
          device.download(band[j], values[j]);
          width += band[j].columns();
        }
        MemorySegment packed = arena.allocate((long) Float.BYTES * width);
        for (int row = 0; row < band[0].rows(); row++) {
          long n = 0;
          for (int j = 0; j < band.length; j++) {
            int columns = band[j].columns();
            for (int column = j == 0 ? row : 0; column < columns; column++) {
              float value = values[j].getAtIndex(FLOAT, (long) row * columns + column) * scale;
              if (!Float.isFinite(value)) {
                throw new ArithmeticException("a sum of products is " + value);
              }
              packed.setAtIndex(FLOAT, n++, value);
            }
          }
          part.accept(packed.asSlice(0, n * Float.BYTES));
        }
      }
    }
  }
}
