package dev.attar.prune.structure;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoders;
import java.io.IOException;

/**
 * Some rows or columns of another tensor, under a name of its own. Rows keep their bytes. Columns of plain types keep theirs; columns
 * of quantized types do not make whole blocks, so they are decoded and presented as F16.
 */
final class SelectedTensor implements Tensor {

  private final Tensor source;
  private final TensorInfo info;

  /** Those that are left, or {@code null} for all. */
  private final int[] rows;

  private final int[] columns;

  private SelectedTensor(Tensor source, TensorInfo info, int[] rows, int[] columns) {
    this.source = source;
    this.info = info;
    this.rows = rows;
    this.columns = columns;
  }

  /** The whole tensor under another name. */
  static Tensor renamed(Tensor source, String name) {
    TensorInfo info = source.info();
    return info.name().equals(name)
      ? source
      : new SelectedTensor(source, new TensorInfo(name, info.type(), info.shape()), null, null);
  }

  /** Rows of a matrix. */
  static Tensor rows(Tensor source, String name, int[] rows) {
    TensorInfo info = source.info();
    long[] shape = { info.rowLength(), rows.length };
    return new SelectedTensor(source, new TensorInfo(name, info.type(), shape), rows, null);
  }

  /** Columns of a matrix, or values of a vector. */
  static Tensor columns(Tensor source, String name, int[] columns) {
    TensorInfo info = source.info();
    long[] shape = info.shape().clone();
    shape[0] = columns.length;
    return new SelectedTensor(source, new TensorInfo(name, plainType(info.type()), shape), null, columns);
  }

  /** What columns are presented as. */
  static TensorType plainType(TensorType type) {
    return type.isQuantized() ? TensorType.F16 : type;
  }

  @Override
  public TensorInfo info() {
    return info;
  }

  @Override
  public void readRows(long firstRow, int rows, byte[] out, int outOffset) throws IOException {
    if (columns != null) {
      readColumns(firstRow, rows, out, outOffset);
      return;
    }
    int rowBytes = Math.toIntExact(info.rowBytes());
    for (int i = 0; i < rows; ) {
      long from = sourceRow(firstRow + i);
      int run = 1;
      while (i + run < rows && sourceRow(firstRow + i + run) == from + run) {
        run++;
      }
      source.readRows(from, run, out, outOffset + i * rowBytes);
      i += run;
    }
  }

  private long sourceRow(long row) {
    return rows == null ? row : rows[Math.toIntExact(row)];
  }

  private void readColumns(long firstRow, int rows, byte[] out, int outOffset) throws IOException {
    boolean decodes = source.info().type().isQuantized();
    byte[] raw = new byte[decodes ? 0 : Math.toIntExact(source.info().rowBytes())];
    float[] values = new float[decodes ? Math.toIntExact(source.info().rowLength()) : 0];
    float[] chosen = new float[decodes ? columns.length : 0];
    int rowBytes = Math.toIntExact(info.rowBytes());
    for (int r = 0; r < rows; r++) {
      int at = outOffset + r * rowBytes;
      if (decodes) {
        source.decodeRows(firstRow + r, 1, values, 0);
        for (int i = 0; i < columns.length; i++) {
          chosen[i] = values[columns[i]];
        }
        BlockEncoders.of(info.type()).orElseThrow().encode(chosen, 0, columns.length, 1, null, 0, out, at);
      } else {
        source.readRows(firstRow + r, 1, raw, 0);
        int size = info.type().blockBytes();
        for (int i = 0; i < columns.length; i++) {
          System.arraycopy(raw, columns[i] * size, out, at + i * size, size);
        }
      }
    }
  }

  @Override
  public void decodeRows(long firstRow, int rows, float[] out, int outOffset) throws IOException {
    byte[] raw = new byte[Math.toIntExact(rows * info.rowBytes())];
    readRows(firstRow, rows, raw, 0);
    BlockDecoders.of(info.type()).decode(raw, 0, out, outOffset, Math.toIntExact(rows * info.rowLength()));
  }
}
