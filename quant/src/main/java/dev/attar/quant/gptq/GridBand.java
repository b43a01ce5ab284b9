package dev.attar.quant.gptq;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.formats.block.BlockGrid;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/**
 * Encoded rows on their way to a device and back: what their blocks say becomes matrices with a column per row, as the device has them,
 * and chosen scales and levels become blocks.
 */
final class GridBand {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final BlockGrid format;
  private final int columns;
  private final int rows;
  private final int blocks; // in a row
  private final byte[] encoded;

  /**
   * @param columns number of weights in a row, a multiple of the block's length
   * @param encoded the rows
   */
  GridBand(BlockGrid format, int columns, int rows, byte[] encoded) {
    this.format = format;
    this.columns = columns;
    this.rows = rows;
    this.blocks = columns / format.type().blockLength();
    this.encoded = encoded;
  }

  private int at(int row, int block) {
    return (row * blocks + block) * format.type().blockBytes();
  }

  /** The grid that the blocks' scales span. */
  QuantizationGrid toDevice(Device device, Scope scope) {
    int groups = blocks * format.groups();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment d = arena.allocate(FLOAT, (long) blocks * rows);
      MemorySegment dmin = arena.allocate(FLOAT, (long) blocks * rows);
      MemorySegment scale = arena.allocate(FLOAT, (long) groups * rows);
      MemorySegment minimum = arena.allocate(FLOAT, (long) groups * rows);
      BlockGrid.Scales scales = format.newScales();
      for (int row = 0; row < rows; row++) {
        for (int block = 0; block < blocks; block++) {
          format.readScales(encoded, at(row, block), scales);
          d.setAtIndex(FLOAT, (long) block * rows + row, scales.d);
          dmin.setAtIndex(FLOAT, (long) block * rows + row, scales.dmin);
          for (int g = 0; g < format.groups(); g++) {
            long to = ((long) block * format.groups() + g) * rows + row;
            scale.setAtIndex(FLOAT, to, scales.s[g]);
            minimum.setAtIndex(FLOAT, to, scales.m[g]);
          }
        }
      }
      return new QuantizationGrid(
        format.levels(),
        format.groupLength(),
        format.type().blockLength(),
        format.leastScale(),
        format.mostScale(),
        format.leastMinimum(),
        format.mostMinimum(),
        upload(device, scope, d, blocks),
        upload(device, scope, dmin, blocks),
        upload(device, scope, scale, groups),
        upload(device, scope, minimum, groups)
      );
    }
  }

  private Matrix upload(Device device, Scope scope, MemorySegment from, int matrixRows) {
    Matrix matrix = scope.matrix(matrixRows, rows);
    device.upload(from, matrix);
    return matrix;
  }

  /** The levels that the blocks' codes stand for. */
  void levelsToDevice(Device device, Matrix to) {
    float[] levels = format.levels();
    int length = format.type().blockLength();
    byte[] code = new byte[length];
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment level = arena.allocate(FLOAT, (long) columns * rows);
      for (int row = 0; row < rows; row++) {
        for (int block = 0; block < blocks; block++) {
          format.readCodes(encoded, at(row, block), code, 0);
          for (int i = 0; i < length; i++) {
            level.setAtIndex(FLOAT, ((long) block * length + i) * rows + row, levels[code[i] & 0xFF]);
          }
        }
      }
      device.upload(level, to);
    }
  }

  /** Writes a matrix of rows x columns values as columns x rows, in tiles that the caches hold. */
  static void transpose(float[] values, int rows, int columns, MemorySegment to) {
    int tile = 32;
    for (int r = 0; r < rows; r += tile) {
      for (int c = 0; c < columns; c += tile) {
        for (int i = r; i < Math.min(rows, r + tile); i++) {
          for (int j = c; j < Math.min(columns, c + tile); j++) {
            to.setAtIndex(FLOAT, (long) j * rows + i, values[i * columns + j]);
          }
        }
      }
    }
  }

  /** Puts scales and levels that the device has chosen into the blocks. */
  void fromDevice(Device device, QuantizationGrid grid, Matrix levels) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment d = download(device, arena, grid.d());
      MemorySegment dmin = download(device, arena, grid.dmin());
      MemorySegment scale = download(device, arena, grid.scale());
      MemorySegment minimum = download(device, arena, grid.minimum());
      MemorySegment level = download(device, arena, levels);
      Codes codes = new Codes(grid.levels());
      BlockGrid.Scales scales = format.newScales();
      int length = format.type().blockLength();
      byte[] code = new byte[length];
      for (int row = 0; row < rows; row++) {
        for (int block = 0; block < blocks; block++) {
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
          format.writeScales(scales, encoded, at(row, block));
          format.writeCodes(code, 0, encoded, at(row, block));
        }
      }
    }
  }

  private static MemorySegment download(Device device, Arena arena, Matrix from) {
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
