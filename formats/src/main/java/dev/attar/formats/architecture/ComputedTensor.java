package dev.attar.formats.architecture;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** A small vector in single precision that is in no file. */
final class ComputedTensor implements Tensor {

  /** The divisors of the rotary frequencies, see {@link RopeParameters#frequencyFactors}. */
  static final String ROPE_FREQUENCIES = "rope_freqs.weight";

  private static final VarHandle FLOAT = MethodHandles.byteArrayViewVarHandle(float[].class, ByteOrder.LITTLE_ENDIAN);

  private final TensorInfo info;
  private final float[] values;

  ComputedTensor(String name, float[] values) {
    this.info = new TensorInfo(name, TensorType.F32, new long[] { values.length });
    this.values = values;
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    for (int i = 0; i < rows * values.length; i++) {
      FLOAT.set(out, outOffset + 4 * i, values[i]);
    }
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    System.arraycopy(values, 0, out, outOffset, rows * values.length);
  }
}
