package dev.attar.formats.adapter;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import java.io.IOException;

/** A matrix with rows and columns exchanged, in single precision and in memory. */
final class TransposedTensor implements Tensor {

  private final TensorInfo info;
  private final float[] values;

  /**
   * @param source a matrix of real numbers
   * @throws IOException if it cannot be read
   */
  TransposedTensor(Tensor source) throws IOException {
    int length = Math.toIntExact(source.info().rowLength());
    int rows = Math.toIntExact(source.info().rows());
    info = new TensorInfo(source.info().name(), TensorType.F32, new long[] { rows, length });
    values = new float[Math.multiplyExact(length, rows)];
    float[] row = new float[length];
    for (int i = 0; i < rows; i++) {
      source.decodeRows(i, 1, row, 0);
      for (int j = 0; j < length; j++) {
        values[j * rows + i] = row[j];
      }
    }
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    int length = (int) info.rowLength();
    BlockEncoders.of(info.type())
      .orElseThrow()
      .encode(values, Math.toIntExact(firstRow * length), length, rows, null, 0, out, outOffset);
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    int length = (int) info.rowLength();
    System.arraycopy(values, Math.toIntExact(firstRow * length), out, outOffset, rows * length);
  }
}
