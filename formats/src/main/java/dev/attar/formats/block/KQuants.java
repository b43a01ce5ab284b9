package dev.attar.formats.block;

import dev.attar.formats.TensorType;

/**
 * The k-quants: super-blocks of 256 values, cut into sub-blocks of 16 or 32 values that share a scale (Q3_K, Q6_K: value = scale ·
 * code) or a scale and a minimum (Q2_K, Q4_K, Q5_K: value = scale · code + minimum). Those are themselves codes of 4, 6 or 8 bits,
 * multiples of one or two halves per super-block.
 *
 * <p>An encoder searches scale and minimum of every sub-block by trying a range of scales ({@link KSearch}), fits the super-block's
 * halves to what was found, and rounds every value anew to the scale that came out of that. Without importance the super-block's
 * halves come from the largest scale and minimum; with importance they are fitted too.
 */
final class KQuants {

  /** Values per super-block. */
  static final int SUPER = 256;

  private KQuants() {}

  /**
   * The scalar encoder of a type: the reference.
   *
   * @throws IllegalArgumentException if the type is none of Q2_K, Q3_K, Q4_K, Q5_K and Q6_K
   */
  static BlockEncoder scalar(TensorType type) {
    return new BlockEncoders.KernelEncoder(
      type,
      switch (type) {
        case Q2_K -> new KScalar.WithMinimum(Affine.Q2_K);
        case Q3_K -> new KScalar.WithoutMinimum(Symmetric.Q3_K);
        case Q4_K -> new KScalar.WithMinimum(Affine.Q4_K);
        case Q5_K -> new KScalar.WithMinimum(Affine.Q5_K);
        case Q6_K -> new KScalar.WithoutMinimum(Symmetric.Q6_K);
        default -> throw new IllegalArgumentException(type + " is no k-quant");
      }
    );
  }

  /**
   * The encoder with SIMD of a type. Only where {@link Simd#isVector()}.
   *
   * @throws IllegalArgumentException if the type is none of Q2_K, Q3_K, Q4_K, Q5_K and Q6_K
   */
  static BlockEncoder vector(TensorType type) {
    return new BlockEncoders.KernelEncoder(
      type,
      switch (type) {
        case Q2_K -> new KVectors.WithMinimum(Affine.Q2_K);
        case Q3_K -> new KVectors.WithoutMinimum(Symmetric.Q3_K);
        case Q4_K -> new KVectors.WithMinimum(Affine.Q4_K);
        case Q5_K -> new KVectors.WithMinimum(Affine.Q5_K);
        case Q6_K -> new KVectors.WithoutMinimum(Symmetric.Q6_K);
        default -> throw new IllegalArgumentException(type + " is no k-quant");
      }
    );
  }

  /**
   * The scales that are tried for a sub-block: those that make its spread span {@code maxCode + from + i * step} codes, i = 0 … last.
   *
   * @param absolute whether the weighted absolute error decides, instead of the squared one
   */
  record Range(float from, float step, int last, boolean absolute) {}

  /** The types whose sub-blocks have a scale and a minimum. */
  enum Affine {
    Q2_K(TensorType.Q2_K, 16, 3, 15, 1, new Range(-0.5f, 0.1f, 15, true)),
    Q4_K(TensorType.Q4_K, 32, 15, 63, 2, new Range(-1, 0.1f, 20, false)),
    Q5_K(TensorType.Q5_K, 32, 31, 63, 2, new Range(-0.5f, 0.1f, 15, false));

    /** What is tried with importance. */
    static final Range WEIGHTED = new Range(-0.9f, 0.05f, 36, false);

    /** Bytes per super-block. */
    final int bytes;

    /** Values per sub-block. */
    final int length;

    /** Largest code of a value. */
    final int maxCode;

    /** Largest code of a scale or minimum. */
    final int maxScale;

    /** With importance, how often the super-block's mean square is added to a value's square. */
    final float sigma;

    /** What is tried without importance. */
    final Range plain;

    Affine(TensorType type, int length, int maxCode, int maxScale, float sigma, Range plain) {
      this.bytes = type.blockBytes();
      this.length = length;
      this.maxCode = maxCode;
      this.maxScale = maxScale;
      this.sigma = sigma;
      this.plain = plain;
    }

    /** Sub-blocks in a super-block. */
    int subBlocks() {
      return SUPER / length;
    }

    /**
     * Codes of the scales, or the negated minima, of a super-block as fractions of the largest.
     *
     * @return what one step of the codes stands for
     */
    float asFractions(float[] scales, int at, byte[] codes, int codesAt) {
      float max = 0;
      for (int j = 0; j < subBlocks(); j++) {
        max = scales[at + j] > max ? scales[at + j] : max;
      }
      float inverse = max > 0 ? maxScale / max : 0;
      for (int j = 0; j < subBlocks(); j++) {
        int code = KSearch.nearest(inverse * scales[at + j]) & 0xFF;
        codes[codesAt + j] = (byte) (this == Q2_K ? code : Math.min(maxScale, code));
      }
      return max / maxScale;
    }

    /** Writes the scales and minima of a super-block, and what one step of each stands for. */
    void putScales(byte[] scales, byte[] minima, int from, float d, float dMin, byte[] out, int at) {
      if (this == Q2_K) {
        for (int j = 0; j < subBlocks(); j++) {
          out[at + j] = (byte) (scales[from + j] | (minima[from + j] << 4));
        }
      } else {
        if (this == Q5_K) {
          cut(scales, from);
          cut(minima, from);
        }
        KLayout.putScalesAndMinima(scales, minima, from, out, at + 4);
      }
      int halves = this == Q2_K ? at + 80 : at;
      Bits.putScale(out, halves, d);
      Bits.putScale(out, halves + 2, dMin);
    }

    /** Cuts off codes that wrapped around, which ggml does for Q5_K alone. */
    private void cut(byte[] codes, int from) {
      for (int j = 0; j < subBlocks(); j++) {
        codes[from + j] = (byte) Math.min(maxScale, codes[from + j] & 0xFF);
      }
    }

    /**
     * Scales and minima of the sub-blocks as a decoder will read them.
     *
     * @param scales receives the scales
     * @param minima receives the negated minima
     */
    void getScales(byte[] in, int at, float[] scales, float[] minima) {
      int halves = this == Q2_K ? at + 80 : at;
      float d = Bits.getHalf(in, halves);
      float dMin = Bits.getHalf(in, halves + 2);
      for (int j = 0; j < subBlocks(); j++) {
        scales[j] = d * (this == Q2_K ? in[at + j] & 0xF : KLayout.scale(in, at + 4, j));
        minima[j] = dMin * (this == Q2_K ? (in[at + j] & 0xFF) >> 4 : KLayout.minimum(in, at + 4, j));
      }
    }

    /** Writes the codes of a super-block. */
    void putCodes(byte[] codes, byte[] out, int at) {
      switch (this) {
        case Q2_K -> KLayout.putTwoBits(codes, 0, out, at + 16);
        case Q4_K -> KLayout.putFourBits(codes, 0, out, at + 16);
        case Q5_K -> KLayout.putFiveBits(codes, 0, out, at + 16);
      }
    }
  }

  /** The types whose sub-blocks have a scale alone. */
  enum Symmetric {
    Q3_K(TensorType.Q3_K, 4),
    Q6_K(TensorType.Q6_K, 32);

    /** Values per sub-block. */
    static final int LENGTH = 16;

    /** Sub-blocks in a super-block. */
    static final int SUB_BLOCKS = SUPER / LENGTH;

    /** Codes of the scales of Q3_K lie between this, negated, and one less. */
    static final int HALF_SCALES = 32;

    /** Bytes per super-block. */
    final int bytes;

    /** Codes lie between this, negated, and one less; they are written with this added. */
    final int half;

    Symmetric(TensorType type, int half) {
      this.bytes = type.blockBytes();
      this.half = half;
    }

    /**
     * Writes the scales of a super-block of Q6_K as fractions of the one of largest magnitude, and what one step stands for.
     *
     * @return false if all are almost zero; then nothing is written
     */
    static boolean putFractions(float[] scales, int at, byte[] out, int outAt) {
      float max = KSearch.largest(scales, at, SUB_BLOCKS);
      if (Math.abs(max) < KSearch.ZERO) {
        return false;
      }
      float inverse = -128 / max;
      for (int j = 0; j < SUB_BLOCKS; j++) {
        out[outAt + 192 + j] = (byte) Math.min(127, KSearch.nearest(inverse * scales[at + j]));
      }
      Bits.putScale(out, outAt + 208, 1 / inverse);
      return true;
    }

    /**
     * Codes of the scales of a super-block of Q3_K as fractions of the one of largest magnitude.
     *
     * @param codes receives the codes plus {@link #HALF_SCALES}
     * @return what one step of the codes stands for
     */
    static float asFractions(float[] scales, int at, byte[] codes, int codesAt) {
      float max = KSearch.largest(scales, at, SUB_BLOCKS);
      float inverse = max == 0 ? 0 : -HALF_SCALES / max;
      for (int j = 0; j < SUB_BLOCKS; j++) {
        int code = (byte) KSearch.nearest(inverse * scales[at + j]);
        codes[codesAt + j] = (byte) (max == 0 ? 0 : HALF_SCALES + Math.clamp(code, -HALF_SCALES, HALF_SCALES - 1));
      }
      return max == 0 ? 0 : 1 / inverse;
    }

    /**
     * Writes the scales of a super-block of Q3_K.
     *
     * @param codes the codes plus {@link #HALF_SCALES}
     * @param d what one step stands for
     */
    static void putScales(byte[] codes, int from, float d, byte[] out, int at) {
      KLayout.putSixBitScales(codes, from, out, at + 96);
      Bits.putScale(out, at + 108, d);
    }

    /** Scales of the sub-blocks as a decoder will read them. */
    void getScales(byte[] in, int at, float[] scales) {
      float d = Bits.getHalf(in, at + bytes - 2);
      for (int j = 0; j < SUB_BLOCKS; j++) {
        scales[j] = d * (this == Q6_K ? in[at + 192 + j] : KLayout.sixBitScale(in, at + 96, j) - HALF_SCALES);
      }
    }

    /** Writes the codes of a super-block. */
    void putCodes(byte[] codes, byte[] out, int at) {
      switch (this) {
        case Q3_K -> KLayout.putThreeBits(codes, 0, out, at);
        case Q6_K -> KLayout.putSixBits(codes, 0, out, at);
      }
    }
  }
}
