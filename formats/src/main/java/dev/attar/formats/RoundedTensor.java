package dev.attar.formats;

import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import java.io.IOException;

/** A tensor whose rows are computed as numbers when they are asked for, by any thread, and rounded to a plain type. */
public final class RoundedTensor implements Tensor {

  /** Gives rows. */
  @FunctionalInterface
  public interface Rows {
    /** Writes rows to the start of an array, for any thread. */
    void read(long first, int rows, float[] to) throws IOException;
  }

  private final TensorInfo info;
  private final Rows source;
  private final BlockEncoder encoder;

  /**
   * @param info of a plain type: see {@link #type}
   * @param source gives the numbers
   */
  public RoundedTensor(TensorInfo info, Rows source) {
    this.info = info;
    this.source = source;
    encoder = BlockEncoders.of(info.type()).orElseThrow();
  }

  /** What stands for a type: itself if it is plain, otherwise F16, whose rows may have any length; F32 for F64. */
  public static TensorType type(TensorType type) {
    if (type == TensorType.F64) {
      return TensorType.F32;
    }
    return type.isQuantized() ? TensorType.F16 : type;
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) throws IOException {
    int length = Math.toIntExact(info.rowLength());
    float[] values = new float[Math.multiplyExact(rows, length)];
    source.read(firstRow, rows, values);
    encoder.encode(values, 0, length, rows, null, 0, out, outOffset);
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) throws IOException {
    byte[] raw = new byte[Math.toIntExact(rows * info.rowBytes())];
    readRows(firstRow, rows, raw, 0);
    BlockDecoders.of(info.type()).decode(raw, 0, out, outOffset, Math.toIntExact(rows * info.rowLength()));
  }
}
