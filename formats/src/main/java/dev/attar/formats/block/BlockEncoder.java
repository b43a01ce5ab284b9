package dev.attar.formats.block;

import dev.attar.formats.TensorType;

/**
 * Encodes rows of single-precision values into one tensor type. Stateless and safe for use by several threads.
 *
 * <p>The bytes are those of ggml's {@code ggml_quantize_chunk} as compiled for x86-64 without contraction of multiply and add.
 */
public interface BlockEncoder {
  /** The type that is written. */
  TensorType type();

  /**
   * Encodes {@code rows} rows of {@code rowLength} values.
   *
   * @param x the values, row after row; finite (the caller has checked)
   * @param xOffset index of the first value
   * @param rowLength values per row, a multiple of the type's block length
   * @param rows number of rows
   * @param importance one non-negative weight per column ({@code rowLength} values, the same for all rows), or {@code null}
   * @param importanceOffset index of the first weight; ignored without weights
   * @param out receives {@code rows * type().rowBytes(rowLength)} bytes
   * @param outOffset index of the first byte
   */
  void encode(
    float[] x,
    int xOffset,
    int rowLength,
    int rows,
    float[] importance,
    int importanceOffset,
    byte[] out,
    int outOffset
  );
}
