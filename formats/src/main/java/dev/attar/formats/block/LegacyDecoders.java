package dev.attar.formats.block;

/** Decoders of the types with one scale for each block, and of IQ4. Each method has the parameters of {@link BlockDecoder#decode}. */
final class LegacyDecoders {

  /** Twice the values of a 4-bit float with 2 bits of exponent and 1 of fraction (E2M1). */
  private static final byte[] E2M1 = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };

  private LegacyDecoders() {}

  static void q40(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 18) {
      float d = Bits.getHalf(in, at);
      for (int j = 0; j < 16; j++) {
        int q = in[at + 2 + j];
        out[to + j] = ((q & 15) - 8) * d;
        out[to + 16 + j] = (((q >> 4) & 15) - 8) * d;
      }
    }
  }

  static void q41(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 20) {
      float d = Bits.getHalf(in, at);
      float m = Bits.getHalf(in, at + 2);
      for (int j = 0; j < 16; j++) {
        int q = in[at + 4 + j];
        out[to + j] = (q & 15) * d + m;
        out[to + 16 + j] = ((q >> 4) & 15) * d + m;
      }
    }
  }

  static void q50(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 22) {
      float d = Bits.getHalf(in, at);
      int high = Bits.getInt(in, at + 2);
      for (int j = 0; j < 16; j++) {
        int q = in[at + 6 + j];
        out[to + j] = (((q & 15) | (((high >> j) & 1) << 4)) - 16) * d;
        out[to + 16 + j] = ((((q >> 4) & 15) | (((high >> (j + 16)) & 1) << 4)) - 16) * d;
      }
    }
  }

  static void q51(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 24) {
      float d = Bits.getHalf(in, at);
      float m = Bits.getHalf(in, at + 2);
      int high = Bits.getInt(in, at + 4);
      for (int j = 0; j < 16; j++) {
        int q = in[at + 8 + j];
        out[to + j] = ((q & 15) | (((high >> j) & 1) << 4)) * d + m;
        out[to + 16 + j] = (((q >> 4) & 15) | (((high >> (j + 16)) & 1) << 4)) * d + m;
      }
    }
  }

  static void q80(byte[] in, int at, float[] out, int to, int count) {
    bytes(in, at, 2, 34, out, to, count);
  }

  static void q81(byte[] in, int at, float[] out, int to, int count) {
    bytes(in, at, 4, 36, out, to, count);
  }

  private static void bytes(byte[] in, int at, int header, int size, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += size) {
      float d = Bits.getHalf(in, at);
      for (int j = 0; j < 32; j++) {
        out[to + j] = in[at + header + j] * d;
      }
    }
  }

  static void q10(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 128, at += 18) {
      float d = Bits.getHalf(in, at);
      for (int j = 0; j < 128; j++) {
        out[to + j] = ((in[at + 2 + j / 8] >> (j % 8)) & 1) != 0 ? d : -d;
      }
    }
  }

  static void q20(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 64, at += 18) {
      float d = Bits.getHalf(in, at);
      for (int j = 0; j < 64; j++) {
        out[to + j] = (((in[at + 2 + j / 4] >> (2 * (j % 4))) & 3) - 1) * d;
      }
    }
  }

  /** OCP Microscaling Formats (MX) 1.0, 5.3 and 5.4: 4-bit floats with a common power of two. */
  static void mxfp4(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 17) {
      int e = in[at] & 0xFF;
      // 2^(e - 128), half the block's scale as E2M1 holds doubled values; the lowest two are denormal.
      float d = Float.intBitsToFloat(e < 2 ? 0x00200000 << e : (e - 1) << 23);
      pairs(in, at + 1, out, to, 16, d, E2M1);
    }
  }

  /** Four runs of 16 values, each with a scale of 4 bits of exponent and 3 of fraction, without sign. */
  static void nvfp4(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 64, at += 36) {
      for (int s = 0; s < 4; s++) {
        pairs(in, at + 4 + 8 * s, out, to + 16 * s, 8, 0.5f * ue4m3(in[at + s] & 0xFF), E2M1);
      }
    }
  }

  private static float ue4m3(int bits) {
    if (bits == 0x7F) {
      return 0;
    }
    int exponent = (bits >> 3) & 15;
    int fraction = bits & 7;
    return exponent == 0 ? fraction * 0x1p-9f : Math.scalb(1 + fraction / 8f, exponent - 7);
  }

  static void iq4nl(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 32, at += 18) {
      pairs(in, at + 2, out, to, 16, Bits.getHalf(in, at), Iq4.VALUES);
    }
  }

  static void iq4xs(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 136) {
      float d = Bits.getHalf(in, at);
      int high = Bits.getUnsignedShort(in, at + 2);
      int low = Bits.getInt(in, at + 4);
      for (int b = 0; b < 8; b++) {
        int scale = ((low >> (4 * b)) & 15) | (((high >> (2 * b)) & 3) << 4);
        pairs(in, at + 8 + 16 * b, out, to + 32 * b, 16, d * (scale - 32), Iq4.VALUES);
      }
    }
  }

  /** {@code n} bytes of two 4-bit codes; the low ones are the first half of the values. */
  private static void pairs(byte[] in, int at, float[] out, int to, int n, float d, byte[] values) {
    for (int j = 0; j < n; j++) {
      int q = in[at + j];
      out[to + j] = d * values[q & 15];
      out[to + n + j] = d * values[(q >> 4) & 15];
    }
  }
}
