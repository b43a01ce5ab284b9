package dev.attar.formats;

import java.util.Locale;
import java.util.Optional;

/**
 * The tensor types of ggml as of llama.cpp v0.5.0: the number that stands for the type in a GGUF file, how many consecutive values
 * of a row form one block, and how many bytes a block takes.
 *
 * <p>Plain types have blocks of one value. A row's length must be a multiple of the block length.
 */
public enum TensorType {
  F32(0, 1, 4),
  F16(1, 1, 2),
  Q4_0(2, 32, 18),
  Q4_1(3, 32, 20),
  Q5_0(6, 32, 22),
  Q5_1(7, 32, 24),
  Q8_0(8, 32, 34),
  Q8_1(9, 32, 36),
  Q2_K(10, 256, 84),
  Q3_K(11, 256, 110),
  Q4_K(12, 256, 144),
  Q5_K(13, 256, 176),
  Q6_K(14, 256, 210),
  Q8_K(15, 256, 292),
  IQ2_XXS(16, 256, 66),
  IQ2_XS(17, 256, 74),
  IQ3_XXS(18, 256, 98),
  IQ1_S(19, 256, 50),
  IQ4_NL(20, 32, 18),
  IQ3_S(21, 256, 110),
  IQ2_S(22, 256, 82),
  IQ4_XS(23, 256, 136),
  I8(24, 1, 1),
  I16(25, 1, 2),
  I32(26, 1, 4),
  I64(27, 1, 8),
  F64(28, 1, 8),
  IQ1_M(29, 256, 56),
  BF16(30, 1, 2),
  TQ1_0(34, 256, 54),
  TQ2_0(35, 256, 66),
  MXFP4(39, 32, 17),
  NVFP4(40, 64, 36),
  Q1_0(41, 128, 18),
  Q2_0(42, 64, 18);

  private static final TensorType[] BY_ID = new TensorType[43];

  static {
    for (TensorType type : values()) {
      BY_ID[type.id] = type;
    }
  }

  private final int id;
  private final int blockLength;
  private final int blockBytes;

  TensorType(int id, int blockLength, int blockBytes) {
    this.id = id;
    this.blockLength = blockLength;
    this.blockBytes = blockBytes;
  }

  /** The number of this type in ggml and in GGUF files. */
  public int id() {
    return id;
  }

  /** Values per block; 1 for plain types. */
  public int blockLength() {
    return blockLength;
  }

  /** Bytes per block. */
  public int blockBytes() {
    return blockBytes;
  }

  /** Whether values are stored in blocks with shared scales, as opposed to one by one. */
  public boolean isQuantized() {
    return blockLength > 1;
  }

  /** Whether rows of this type decode to real numbers: all but the integer types. */
  public boolean isFloat() {
    return switch (this) {
      case I8, I16, I32, I64 -> false;
      default -> true;
    };
  }

  /** Mean number of bits that one value takes, scales included. */
  public double bitsPerWeight() {
    return (8.0 * blockBytes) / blockLength;
  }

  /**
   * Bytes of a row.
   *
   * @param length values in the row, not negative
   * @throws IllegalArgumentException if the length is not a multiple of the block length
   * @throws ArithmeticException if the product exceeds a long
   */
  public long rowBytes(long length) {
    if (length < 0 || length % blockLength != 0) {
      throw new IllegalArgumentException(
        "row of " + length + " values, expected a multiple of " + blockLength + " for " + this
      );
    }
    return Math.multiplyExact(length / blockLength, (long) blockBytes);
  }

  /** The type with this ggml number; empty for numbers that ggml never had or has removed. */
  public static Optional<TensorType> byId(long id) {
    return id < 0 || id >= BY_ID.length ? Optional.empty() : Optional.ofNullable(BY_ID[(int) id]);
  }

  /** The type with this name, in any case ({@code q4_k}, {@code Q4_K}). */
  public static Optional<TensorType> byName(String name) {
    try {
      return Optional.of(valueOf(name.toUpperCase(Locale.ROOT)));
    } catch (IllegalArgumentException _) {
      return Optional.empty();
    }
  }
}
