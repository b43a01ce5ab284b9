package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.block.RowValidator;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;

/** A tensor of GGUF, or one expert of it, as a checkpoint has it: what {@link CheckpointTensor} does to rows is undone. */
final class RestoredTensor {

  private final SafetensorsWriter.Entry entry;
  private final TensorType type;
  private final Tensor source;
  private final long firstRow;
  private final long rows;
  private final int heads;

  /**
   * @param entry what the checkpoint has
   * @param source the tensor of GGUF
   * @param part which of its experts, 0 if there are none
   * @param parts how many there are, 1 if there are none
   * @param heads heads whose rotary halves are interleaved; 0 if rows are in their order
   */
  RestoredTensor(SafetensorsWriter.Entry entry, Tensor source, int part, int parts, int heads) {
    this.entry = entry;
    this.type = entry.type().tensorType().orElseThrow();
    this.source = source;
    this.rows = source.info().rows() / parts;
    this.firstRow = part * rows;
    this.heads = heads;
  }

  /** What the checkpoint has. */
  SafetensorsWriter.Entry entry() {
    return entry;
  }

  /** Number of rows; a vector is one. */
  long rows() {
    return rows;
  }

  /** Bytes of a row in the checkpoint. */
  long rowBytes() {
    return type.rowBytes(source.info().rowLength());
  }

  /**
   * Reads rows as they are in the checkpoint.
   *
   * @param model where the tensor comes from, for messages
   * @param first the first row
   * @param count how many
   * @param out receives {@code count * rowBytes()} bytes
   * @throws FormatException if a value is not finite
   */
  void readRows(Path model, long first, int count, byte[] out) throws IOException {
    int rowBytes = Math.toIntExact(rowBytes());
    if (heads > 0 && rows > 1) {
      for (int i = 0; i < count; i++) {
        read(interleaved(first + i, rows / heads), 1, out, i * rowBytes);
      }
    } else {
      read(first, count, out, 0);
    }
    int bad = RowValidator.firstInvalidBlock(type, out, 0, count * (rowBytes / type.blockBytes()));
    if (bad >= 0) {
      float[] value = new float[1];
      BlockDecoders.of(type).decode(out, bad * type.blockBytes(), value, 0, 1);
      String place = "tensor " + source.info().name() + " (" + entry.name() + ")";
      throw new FormatException(model, place, Float.toString(value[0]), "a finite number");
    }
    if (heads > 0 && rows == 1) {
      separateHalves(out);
    }
  }

  /** Reads rows in the order of GGUF. */
  private void read(long first, int count, byte[] out, int outOffset) throws IOException {
    TensorInfo info = source.info();
    if (info.type() == type) {
      source.readRows(firstRow + first, count, out, outOffset);
      return;
    }
    int length = Math.toIntExact(info.rowLength());
    float[] values = new float[Math.multiplyExact(length, count)];
    source.decodeRows(firstRow + first, count, values, 0);
    BlockEncoders.of(type).orElseThrow().encode(values, 0, length, count, null, 0, out, outOffset);
  }

  /** Does to the values of a vector what is done to the rows of a matrix. */
  private void separateHalves(byte[] out) {
    int bytes = type.blockBytes();
    int length = Math.toIntExact(source.info().rowLength());
    byte[] gguf = Arrays.copyOf(out, length * bytes);
    for (int i = 0; i < length; i++) {
      int from = Math.toIntExact(interleaved(i, length / heads));
      System.arraycopy(gguf, from * bytes, out, i * bytes, bytes);
    }
  }

  /** The row of GGUF that is the checkpoint's row {@code stored}; see {@link TensorRule.Rows#INTERLEAVED}. */
  private static long interleaved(long stored, long headSize) {
    long head = stored / headSize;
    long half = (stored % headSize) / (headSize / 2);
    long within = stored % (headSize / 2);
    return head * headSize + 2 * within + half;
  }

  /** Whether a type holds all values of a tensor exactly. */
  static boolean isExact(Tensor tensor, TensorType type) throws IOException {
    TensorInfo info = tensor.info();
    BlockEncoder encoder = BlockEncoders.of(type).orElseThrow();
    int length = Math.toIntExact(info.rowLength());
    float[] values = new float[length];
    float[] rounded = new float[length];
    byte[] bytes = new byte[Math.toIntExact(type.rowBytes(length))];
    for (long row = 0; row < info.rows(); row++) {
      tensor.decodeRows(row, 1, values, 0);
      encoder.encode(values, 0, length, 1, null, 0, bytes, 0);
      BlockDecoders.of(type).decode(bytes, 0, rounded, 0, length);
      if (!Arrays.equals(values, rounded)) {
        return false;
      }
    }
    return true;
  }
}
