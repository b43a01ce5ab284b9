package dev.attar.prune.structure;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.util.Arrays;

/**
 * Nothing but zeros.
 *
 * @param info what it is, of a plain type
 */
record ZeroTensor(TensorInfo info) implements Tensor {
  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    Arrays.fill(out, outOffset, outOffset + Math.toIntExact(rows * info.rowBytes()), (byte) 0);
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    Arrays.fill(out, outOffset, outOffset + Math.toIntExact(rows * info.rowLength()), 0);
  }
}
