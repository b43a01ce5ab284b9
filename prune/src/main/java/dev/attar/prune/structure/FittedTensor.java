package dev.attar.prune.structure;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** New values, rounded to a plain type as rows are asked for. */
final class FittedTensor implements Tensor {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final TensorInfo info;
  private final MemorySegment values;
  private final BlockEncoder encoder;

  /**
   * @param like the tensor that it replaces, as the cut leaves it: it has that one's name and shape, and its type if that is plain
   * @param values little-endian float32 of that shape
   */
  FittedTensor(TensorInfo like, MemorySegment values) {
    info = like.withType(type(like.type()));
    if (values.byteSize() != Float.BYTES * info.elements()) {
      throw new IllegalArgumentException(
        info + ": " + values.byteSize() + " bytes of new values, expected " + Float.BYTES * info.elements()
      );
    }
    this.values = values;
    encoder = BlockEncoders.of(info.type()).orElseThrow();
  }

  private static TensorType type(TensorType type) {
    return type == TensorType.F64 ? TensorType.F32 : SelectedTensor.plainType(type);
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    int length = Math.toIntExact(info.rowLength());
    float[] some = new float[Math.multiplyExact(rows, length)];
    MemorySegment.copy(values, FLOAT, firstRow * length * Float.BYTES, some, 0, some.length);
    encoder.encode(some, 0, length, rows, null, 0, out, outOffset);
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    byte[] raw = new byte[Math.toIntExact(rows * info.rowBytes())];
    readRows(firstRow, rows, raw, 0);
    BlockDecoders.of(info.type()).decode(raw, 0, out, outOffset, Math.toIntExact(rows * info.rowLength()));
  }
}
