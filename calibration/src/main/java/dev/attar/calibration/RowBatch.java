package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Rows that wait to be multiplied, cut into blocks of as many columns as a tile has. */
final class RowBatch {

  private static final ValueLayout.OfFloat FLOAT = JAVA_FLOAT.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Device device;
  private final int tile;
  private final MemorySegment[] gathered;
  private final Matrix[] blocks;
  private int size;

  /** An empty one with room for {@link GramPlan#ROWS} rows. */
  RowBatch(Device device, Scope scope, int columns) {
    this.device = device;
    tile = GramPlan.tile(device);
    int n = Math.ceilDiv(columns, tile);
    gathered = new MemorySegment[n];
    blocks = new Matrix[n];
    for (int i = 0; i < n; i++) {
      int width = Math.min(tile, columns - i * tile);
      gathered[i] = Arena.ofAuto().allocate((long) Float.BYTES * GramPlan.ROWS * width, 64);
      blocks[i] = scope.matrix(GramPlan.ROWS, width);
    }
  }

  void append(float[] row) {
    for (int i = 0; i < blocks.length; i++) {
      int width = blocks[i].columns();
      MemorySegment.copy(row, i * tile, gathered[i], FLOAT, (long) size * width * Float.BYTES, width);
    }
    size++;
  }

  boolean isFull() {
    return size == GramPlan.ROWS;
  }

  void clear() {
    size = 0;
  }

  /** Number of rows. */
  int size() {
    return size;
  }

  /** The rows' values in each block of columns, on the device. There must be rows. */
  Matrix[] upload() {
    Matrix[] filled = new Matrix[blocks.length];
    for (int i = 0; i < blocks.length; i++) {
      filled[i] = blocks[i].rows(0, size);
      device.upload(gathered[i], filled[i]);
    }
    return filled;
  }
}
