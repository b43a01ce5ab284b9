package dev.attar.formats;

import java.util.Arrays;

/**
 * What a tensor is, without its bytes.
 *
 * @param name the GGUF name, for instance {@code blk.0.attn_q.weight}
 * @param type how values are encoded
 * @param shape one to four dimensions, row length first ({@code ne[0]}, ggml's order: a PyTorch matrix of shape (out, in) has shape
 *     {in, out} here); not copied and must not be changed
 */
public record TensorInfo(String name, TensorType type, long[] shape) {
  /**
   * @throws IllegalArgumentException if there are no or more than four dimensions, one is negative, or the row is not a whole
   *     number of blocks
   * @throws ArithmeticException if the size in values or bytes exceeds a long
   */
  public TensorInfo {
    if (shape.length < 1 || shape.length > 4) {
      throw new IllegalArgumentException(name + ": " + shape.length + " dimensions, expected 1 to 4");
    }
    long rows = 1;
    for (int i = 0; i < shape.length; i++) {
      if (shape[i] < 0) {
        throw new IllegalArgumentException(name + ": negative dimension " + shape[i]);
      }
      if (i > 0) {
        rows = Math.multiplyExact(rows, shape[i]);
      }
    }
    Math.multiplyExact(rows, Math.max(shape[0], type.rowBytes(shape[0])));
  }

  /** Values per row, {@code ne[0]}. */
  public long rowLength() {
    return shape[0];
  }

  /** Number of rows: the product of all dimensions but the first. */
  public long rows() {
    long rows = 1;
    for (int i = 1; i < shape.length; i++) {
      rows *= shape[i];
    }
    return rows;
  }

  /** Number of values. */
  public long elements() {
    return rowLength() * rows();
  }

  /** Bytes per row. */
  public long rowBytes() {
    return type.rowBytes(rowLength());
  }

  /** Bytes of the whole tensor, without padding. */
  public long bytes() {
    return rowBytes() * rows();
  }

  /** Size of dimension {@code i}, 1 beyond the last. */
  public long dimension(int i) {
    return i < shape.length ? shape[i] : 1;
  }

  /** The number of dimensions that matter to ggml: trailing ones of size 1 do not count. */
  public int rank() {
    int n = shape.length;
    while (n > 1 && shape[n - 1] == 1) {
      n--;
    }
    return n;
  }

  /** The same tensor in another encoding. */
  public TensorInfo withType(TensorType other) {
    return new TensorInfo(name, other, shape);
  }

  /** The shape as text, {@code 4096 x 1024}. */
  public String shapeText() {
    StringBuilder text = new StringBuilder().append(shape[0]);
    for (int i = 1; i < shape.length; i++) {
      text.append(" x ").append(shape[i]);
    }
    return text.toString();
  }

  @Override
  public boolean equals(Object other) {
    return (
      other instanceof TensorInfo that &&
      name.equals(that.name) &&
      type == that.type &&
      Arrays.equals(shape, that.shape)
    );
  }

  @Override
  public int hashCode() {
    return 31 * (31 * name.hashCode() + type.hashCode()) + Arrays.hashCode(shape);
  }

  @Override
  public String toString() {
    return name + " " + type + " [" + shapeText() + "]";
  }
}
