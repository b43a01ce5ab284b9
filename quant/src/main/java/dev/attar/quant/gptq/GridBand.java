package dev.attar.quant.gptq;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.formats.block.BlockGrid;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.function.Supplier;

/**
 * Encoded rows on their way to a device and back: what their blocks say becomes matrices with a column per row, as the device has them,
 * and chosen scales and levels become blocks. Threads share out the rows.
 */
final class GridBand {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Rows that go through together, so that a block of them is written to a matrix while the caches hold the place. */
  private static final int TILE = 32;

  private final Device device;
  private final Workers workers;
  private final BlockGrid format;
  private final int columns;
  private final int rows;
  private final int blocks; // in a row
  private final byte[] encoded;

  /**
   * @param columns number of weights in a row, a multiple of the block's length
   * @param encoded the rows
   */
  GridBand(Device device, Workers workers, BlockGrid format, int columns, int rows, byte[] encoded) {
    this.device = device;
    this.workers = workers;
    this.format = format;
    this.columns = columns;
    this.rows = rows;
    this.blocks = columns / format.type().blockLength();
    this.encoded = encoded;
  }

  /** Work on the blocks of a few rows. */
  @FunctionalInterface
  private interface BlockTask {
    /** @param at the block's place in the encoded rows */
    void run(int row, int block, int at);
  }

  /** Runs a thread's own task on each block, those in one place of neighbouring rows one after the other. */
  private void forBlocks(Supplier<BlockTask> tasks) {
    workers.share(0, rows, TILE, (from, to) -> {
      BlockTask task = tasks.get();
      for (int block = 0; block < blocks; block++) {
        for (int row = from; row < to; row++) {
          task.run(row, block, (row * blocks + block) * format.type().blockBytes());
        }
      }
    });
  }

  private Matrix upload(Scope scope, MemorySegment from, int matrixRows) {
    Matrix matrix = scope.matrix(matrixRows, rows);
    device.upload(from, matrix);
    return matrix;
  }

  /** The grid that the blocks' scales span. */
  QuantizationGrid grid(Scope scope) {
    int groups = blocks * format.groups();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment d = arena.allocate(FLOAT, (long) blocks * rows);
      MemorySegment dmin = arena.allocate(FLOAT, (long) blocks * rows);
      MemorySegment scale = arena.allocate(FLOAT, (long) groups * rows);
      MemorySegment minimum = arena.allocate(FLOAT, (long) groups * rows);
      forBlocks(() -> {
        BlockGrid.Scales scales = format.newScales();
        return (row, block, at) -> {
          format.readScales(encoded, at, scales);
          d.setAtIndex(FLOAT, (long) block * rows + row, scales.d);
          dmin.setAtIndex(FLOAT, (long) block * rows + row, scales.dmin);
          for (int g = 0; g < format.groups(); g++) {
            long to = ((long) block * format.groups() + g) * rows + row;
            scale.setAtIndex(FLOAT, to, scales.s[g]);
            minimum.setAtIndex(FLOAT, to, scales.m[g]);
          }
        };
      });
      return new QuantizationGrid(
        format.levels(),
        format.groupLength(),
        format.type().blockLength(),
        format.leastScale(),
        format.mostScale(),
        format.leastMinimum(),
        format.mostMinimum(),
        upload(scope, d, blocks),
        upload(scope, dmin, blocks),
        upload(scope, scale, groups),
        upload(scope, minimum, groups)
      );
    }
  }

  /** The levels that the blocks' codes stand for. */
  Matrix levels(Scope scope) {
    float[] levels = format.levels();
    int length = format.type().blockLength();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment level = arena.allocate(FLOAT, (long) columns * rows);
      forBlocks(() -> {
        byte[] code = new byte[length];
        return (row, block, at) -> {
          format.readCodes(encoded, at, code, 0);
          for (int i = 0; i < length; i++) {
            level.setAtIndex(FLOAT, ((long) block * length + i) * rows + row, levels[code[i] & 0xFF]);
          }
        };
      });
      return upload(scope, level, columns);
    }
  }

  /** Puts scales and levels that the device has chosen into the blocks. */
  void take(QuantizationGrid grid, Matrix levels) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment d = download(arena, grid.d());
      MemorySegment dmin = download(arena, grid.dmin());
      MemorySegment scale = download(arena, grid.scale());
      MemorySegment minimum = download(arena, grid.minimum());
      MemorySegment level = download(arena, levels);
      Codes codes = new Codes(grid.levels());
      int length = format.type().blockLength();
      forBlocks(() -> {
        BlockGrid.Scales scales = format.newScales();
        byte[] code = new byte[length];
        return (row, block, at) -> {
          scales.d = d.getAtIndex(FLOAT, (long) block * rows + row);
          scales.dmin = dmin.getAtIndex(FLOAT, (long) block * rows + row);
          for (int g = 0; g < format.groups(); g++) {
            long from = ((long) block * format.groups() + g) * rows + row;
            scales.s[g] = (byte) scale.getAtIndex(FLOAT, from);
            scales.m[g] = (byte) minimum.getAtIndex(FLOAT, from);
          }
          for (int i = 0; i < length; i++) {
            code[i] = codes.of(level.getAtIndex(FLOAT, ((long) block * length + i) * rows + row));
          }
          format.writeScales(scales, encoded, at);
          format.writeCodes(code, 0, encoded, at);
        };
      });
    }
  }

  private MemorySegment download(Arena arena, Matrix from) {
    MemorySegment to = arena.allocate(FLOAT, (long) from.rows() * from.columns());
    device.download(from, to);
    return to;
  }

  /** Codes of levels. */
  private static final class Codes {

    private final int least;
    private final byte[] codes;

    Codes(float[] levels) {
      least = (int) levels[0];
      codes = new byte[(int) levels[levels.length - 1] - least + 1];
      for (int i = 0; i < levels.length; i++) {
        codes[(int) levels[i] - least] = (byte) i;
      }
    }

    byte of(float level) {
      return codes[(int) level - least];
    }
  }
}
