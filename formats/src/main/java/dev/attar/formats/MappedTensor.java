package dev.attar.formats;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.block.BlockDecoder;
import dev.attar.formats.block.BlockDecoders;
import java.lang.foreign.MemorySegment;

/** A tensor whose rows lie one after the other in a mapped file. */
public final class MappedTensor implements Tensor {

  private final TensorInfo info;
  private final MemorySegment bytes;

  /**
   * @param info what it is
   * @param bytes its {@code info.bytes()} bytes
   */
  public MappedTensor(TensorInfo info, MemorySegment bytes) {
    if (bytes.byteSize() != info.bytes()) {
      throw new IllegalArgumentException(info + ": " + bytes.byteSize() + " bytes, expected " + info.bytes());
    }
    this.info = info;
    this.bytes = bytes;
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  /** All its bytes; read-only, valid until the file is closed. */
  public MemorySegment bytes() {
    return bytes;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
    long rowBytes = info.rowBytes();
    MemorySegment.copy(bytes, JAVA_BYTE, firstRow * rowBytes, out, outOffset, Math.toIntExact(rows * rowBytes));
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
    BlockDecoder decoder = BlockDecoders.of(info.type());
    byte[] row = new byte[Math.toIntExact(info.rowBytes())];
    int length = Math.toIntExact(info.rowLength());
    for (int i = 0; i < rows; i++) {
      readRows(firstRow + i, 1, row, 0);
      decoder.decode(row, 0, out, outOffset + i * length, length);
    }
  }
}
