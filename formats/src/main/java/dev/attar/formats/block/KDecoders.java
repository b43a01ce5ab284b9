package dev.attar.formats.block;

/** Decoders of super-blocks of 256 values without a codebook. Each method has the parameters of {@link BlockDecoder#decode}. */
final class KDecoders {

  private KDecoders() {}

  static void q2(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 84) {
      float d = Bits.getHalf(in, at + 80);
      float min = Bits.getHalf(in, at + 82);
      for (int b = 0; b < 16; b++) {
        int scales = in[at + b];
        float dl = d * (scales & 15);
        float ml = min * ((scales >> 4) & 15);
        int q = at + 16 + 32 * (b / 8) + 16 * (b % 2);
        int shift = 2 * ((b % 8) / 2);
        for (int j = 0; j < 16; j++) {
          out[to + 16 * b + j] = dl * ((in[q + j] >> shift) & 3) - ml;
        }
      }
    }
  }

  static void q3(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 110) {
      float d = Bits.getHalf(in, at + 108);
      for (int b = 0; b < 16; b++) {
        // 16 scales of 6 bits: the low four in the nibbles of 8 bytes, the high two in 4 more.
        int low = (in[at + 96 + (b % 8)] >> (4 * (b / 8))) & 15;
        int high = (in[at + 104 + (b % 4)] >> (2 * (b / 4))) & 3;
        float dl = d * ((low | (high << 4)) - 32);
        int q = at + 32 + 32 * (b / 8) + 16 * (b % 2);
        int mask = at + 16 * (b % 2);
        int shift = 2 * ((b % 8) / 2);
        int bit = b / 2;
        for (int j = 0; j < 16; j++) {
          out[to + 16 * b + j] = dl * (((in[q + j] >> shift) & 3) - (((in[mask + j] >> bit) & 1) != 0 ? 0 : 4));
        }
      }
    }
  }

  static void q4(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 144) {
      float d = Bits.getHalf(in, at);
      float min = Bits.getHalf(in, at + 2);
      for (int b = 0; b < 8; b++) {
        float dl = d * scale(in, at + 4, b);
        float ml = min * min(in, at + 4, b);
        int q = at + 16 + 32 * (b / 2);
        int shift = 4 * (b % 2);
        for (int j = 0; j < 32; j++) {
          out[to + 32 * b + j] = dl * ((in[q + j] >> shift) & 15) - ml;
        }
      }
    }
  }

  static void q5(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 176) {
      float d = Bits.getHalf(in, at);
      float min = Bits.getHalf(in, at + 2);
      for (int b = 0; b < 8; b++) {
        float dl = d * scale(in, at + 4, b);
        float ml = min * min(in, at + 4, b);
        int q = at + 48 + 32 * (b / 2);
        int shift = 4 * (b % 2);
        for (int j = 0; j < 32; j++) {
          int high = ((in[at + 16 + j] >> b) & 1) << 4;
          out[to + 32 * b + j] = dl * (((in[q + j] >> shift) & 15) + high) - ml;
        }
      }
    }
  }

  /** Scale {@code b} of the 8 scales and 8 minima of 6 bits that share 12 bytes. */
  private static int scale(byte[] in, int at, int b) {
    return b < 4 ? in[at + b] & 63 : (in[at + b + 4] & 15) | (((in[at + b - 4] >> 6) & 3) << 4);
  }

  private static int min(byte[] in, int at, int b) {
    return b < 4 ? in[at + b + 4] & 63 : ((in[at + b + 4] >> 4) & 15) | (((in[at + b] >> 6) & 3) << 4);
  }

  static void q6(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 210) {
      float d = Bits.getHalf(in, at + 208);
      for (int b = 0; b < 16; b++) {
        float dl = d * in[at + 192 + b];
        int part = (b % 8) / 2;
        int low = at + 64 * (b / 8) + 32 * (part % 2) + 16 * (b % 2);
        int high = at + 128 + 32 * (b / 8) + 16 * (b % 2);
        for (int j = 0; j < 16; j++) {
          int q = ((in[low + j] >> (4 * (part / 2))) & 15) | (((in[high + j] >> (2 * part)) & 3) << 4);
          out[to + 16 * b + j] = dl * (q - 32);
        }
      }
    }
  }

  static void q8(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 292) {
      float d = Float.intBitsToFloat(Bits.getInt(in, at));
      for (int j = 0; j < 256; j++) {
        out[to + j] = d * in[at + 4 + j];
      }
    }
  }

  /** Five values of -1, 0 or 1 in a byte: as a fraction of 256 it is the number with these digits in base 3 after the point. */
  static void tq1(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 54) {
      float d = Bits.getHalf(in, at + 52);
      ternary(in, at, 32, 5, d, out, to);
      ternary(in, at + 32, 16, 5, d, out, to + 160);
      ternary(in, at + 48, 4, 4, d, out, to + 240);
    }
  }

  private static void ternary(byte[] in, int at, int bytes, int digits, float d, float[] out, int to) {
    int power = 1;
    for (int n = 0; n < digits; n++, power *= 3) {
      for (int j = 0; j < bytes; j++) {
        int rest = (in[at + j] * power) & 0xFF;
        out[to + n * bytes + j] = (((rest * 3) >> 8) - 1) * d;
      }
    }
  }

  static void tq2(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 66) {
      float d = Bits.getHalf(in, at + 64);
      for (int i = 0; i < 256; i++) {
        int q = in[at + 32 * (i / 128) + (i % 32)] >> (2 * ((i % 128) / 32));
        out[to + i] = ((q & 3) - 1) * d;
      }
    }
  }
}
