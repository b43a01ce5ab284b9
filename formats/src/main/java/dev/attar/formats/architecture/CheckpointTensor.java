package dev.attar.formats.architecture;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoder;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.safetensors.ElementType;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.List;

/**
 * A tensor of a checkpoint as GGUF sees it: rows are taken from one or more stored tensors, in the order that GGUF wants, as they
 * are or turned to single precision. Nothing is kept in memory.
 */
final class CheckpointTensor implements Tensor {

  private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfDouble DOUBLE = ValueLayout.JAVA_DOUBLE_UNALIGNED.withOrder(
    ByteOrder.LITTLE_ENDIAN
  );

  private final TensorInfo info;
  private final ElementType stored;
  private final List<MemorySegment> parts;
  private final int heads;

  /** Values that move together, and how many of them a part has: rows, or the single values of a vector. */
  private final int unit;

  private final long unitsPerPart;

  /**
   * @param info what GGUF sees; its type is F32 or the stored one
   * @param stored the type of the stored values
   * @param parts the stored values of each part, all of one size, together those of {@code info}
   * @param heads heads whose rotary halves are to be interleaved; 0 to leave rows in their order
   */
  CheckpointTensor(TensorInfo info, ElementType stored, List<MemorySegment> parts, int heads) {
    this.info = info;
    this.stored = stored;
    this.parts = parts;
    this.heads = heads;
    this.unit = info.shape().length == 1 ? 1 : Math.toIntExact(info.rowLength());
    this.unitsPerPart = info.elements() / unit / parts.size();
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    if (stored.tensorType().orElseThrow() == info.type()) {
      copy(firstRow, rows, out, outOffset);
      return;
    }
    int length = Math.toIntExact(info.rowLength());
    float[] row = new float[length];
    for (int r = 0; r < rows; r++) {
      decodeRows(firstRow + r, 1, row, 0);
      for (int i = 0; i < length; i++) {
        INT.set(out, outOffset + 4 * (r * length + i), Float.floatToRawIntBits(row[i]));
      }
    }
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    int count = Math.toIntExact(rows * info.rowLength());
    int bytes = stored.bytes();
    byte[] raw = new byte[Math.multiplyExact(count, bytes)];
    copy(firstRow, rows, raw, 0);
    if (stored == ElementType.F64) {
      MemorySegment values = MemorySegment.ofArray(raw);
      for (int i = 0; i < count; i++) {
        out[outOffset + i] = (float) values.get(DOUBLE, 8L * i);
      }
    } else {
      BlockDecoder decoder = BlockDecoders.of(stored.tensorType().orElseThrow());
      decoder.decode(raw, 0, out, outOffset, count);
    }
  }

  /** Copies rows in their stored type. */
  private void copy(long firstRow, int rows, byte[] out, int outOffset) {
    int unitsPerRow = Math.toIntExact(info.rowLength() / unit);
    long first = firstRow * unitsPerRow;
    int count = rows * unitsPerRow;
    int unitBytes = unit * stored.bytes();
    if (heads == 0 && parts.size() == 1) {
      MemorySegment.copy(parts.getFirst(), JAVA_BYTE, first * unitBytes, out, outOffset, count * unitBytes);
      return;
    }
    for (int i = 0; i < count; i++) {
      long index = first + i;
      MemorySegment part = parts.get((int) (index / unitsPerPart));
      long source = storedIndex(index % unitsPerPart);
      MemorySegment.copy(part, JAVA_BYTE, source * unitBytes, out, outOffset + i * unitBytes, unitBytes);
    }
  }

  /** The stored row that is GGUF's row {@code index}. */
  private long storedIndex(long index) {
    if (heads == 0) {
      return index;
    }
    long headSize = unitsPerPart / heads;
    long head = index / headSize;
    long within = index % headSize;
    return head * headSize + (within % 2) * (headSize / 2) + within / 2;
  }

  /** Whether the type that GGUF sees is one that this class can present. */
  static TensorType presentedType(ElementType stored, boolean alwaysF32) {
    return alwaysF32 || stored == ElementType.F64 ? TensorType.F32 : stored.tensorType().orElseThrow();
  }
}
