package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.util.Objects;

/** Finds values and scales that are infinite or not numbers. */
public final class RowValidator {

  private static final int CHUNK = 1024;

  private RowValidator() {}

  /**
   * The first value that is infinite or not a number.
   *
   * @param x values
   * @param from index of the first
   * @param count how many
   * @return its place counted from {@code from}, or -1 if all are finite
   */
  public static int firstNonFinite(float[] x, int from, int count) {
    Objects.checkFromIndexSize(from, count, x.length);
    for (int i = 0; i < count; i += CHUNK) {
      int n = Math.min(CHUNK, count - i);
      if (!allFinite(x, from + i, n)) {
        for (int j = i; j < i + n; j++) {
          if (!Float.isFinite(x[from + j])) {
            return j;
          }
        }
      }
    }
    return -1;
  }

  /** In a form that compilers turn into vectors: the maximum is infinite, or not a number, if one value is. */
  private static boolean allFinite(float[] x, int from, int count) {
    float max = 0;
    for (int i = from; i < from + count; i++) {
      max = Math.max(max, Math.abs(x[i]));
    }
    return max <= Float.MAX_VALUE;
  }

  /**
   * The first block with a scale (or a value, for plain types) that is infinite or not a number, as ggml's {@code
   * ggml_validate_row_data} looks for it. Integers are always valid.
   *
   * @param type how the blocks are encoded
   * @param blocks the blocks
   * @param from index of the first byte
   * @param count number of blocks
   * @return its place counted from the first block, or -1 if all are valid
   */
  public static int firstInvalidBlock(TensorType type, byte[] blocks, int from, int count) {
    int size = type.blockBytes();
    Objects.checkFromIndexSize(from, Math.multiplyExact(size, count), blocks.length);
    return switch (type) {
      case I8, I16, I32, I64, NVFP4 -> -1;
      case F16, Q4_0, Q5_0, Q8_0, Q1_0, Q2_0, IQ4_NL, IQ4_XS, IQ1_S, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S -> halves(
        blocks,
        from,
        size,
        count
      );
      case Q4_1, Q5_1, Q8_1, Q4_K, Q5_K -> first(
        halves(blocks, from, size, count),
        halves(blocks, from + 2, size, count)
      );
      case Q2_K -> first(halves(blocks, from + 80, size, count), halves(blocks, from + 82, size, count));
      case Q3_K, Q6_K, TQ1_0, TQ2_0 -> halves(blocks, from + size - 2, size, count);
      case F32, Q8_K -> search(count, b -> isFiniteFloat(Bits.getInt(blocks, from + b * size)));
      case F64 -> search(count, b ->
        Float.isFinite((float) Double.longBitsToDouble(Bits.getLong(blocks, from + 8 * b)))
      );
      case BF16 -> search(count, b -> isFiniteFloat(Bits.getUnsignedShort(blocks, from + 2 * b) << 16));
      case MXFP4 -> search(count, b -> blocks[from + b * size] != (byte) 0xFF);
      // The half is spread over the top four bits of four 16-bit groups; its exponent lies in the last two.
      case IQ1_M -> search(count, b -> {
        int last = Bits.getInt(blocks, from + b * size + 52);
        return (((last >>> 12) & 12) | ((last >>> 24) & 0x70)) != 0x7C;
      });
    };
  }

  private static int halves(byte[] blocks, int at, int size, int count) {
    return search(count, b -> (Bits.getUnsignedShort(blocks, at + b * size) & 0x7C00) != 0x7C00);
  }

  private static boolean isFiniteFloat(int bits) {
    return (bits & 0x7F800000) != 0x7F800000;
  }

  private static int first(int a, int b) {
    return a < 0 ? b : b < 0 ? a : Math.min(a, b);
  }

  @FunctionalInterface
  private interface Valid {
    boolean test(int block);
  }

  private static int search(int count, Valid valid) {
    for (int b = 0; b < count; b++) {
      if (!valid.test(b)) {
        return b;
      }
    }
    return -1;
  }
}
