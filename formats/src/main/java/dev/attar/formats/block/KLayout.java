package dev.attar.formats.block;

import static dev.attar.formats.block.KQuants.SUPER;

/** Where the bits of codes and scales lie in a super-block. Codes come one a byte, in the order of the values; eight are moved at a
 * time. */
final class KLayout {

  /** Masks for the low bits of each of eight bytes. */
  private static final long LOW_1 = 0x0101010101010101L;

  private static final long LOW_2 = 3 * LOW_1;
  private static final long LOW_4 = 15 * LOW_1;

  private KLayout() {}

  /** Q2_K, 64 bytes: a byte holds the codes of four values that lie 32 apart. */
  static void putTwoBits(byte[] codes, int from, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 128) {
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, from + l) & LOW_2;
        long q2 = Bits.getLong(codes, from + l + 32) & LOW_2;
        long q3 = Bits.getLong(codes, from + l + 64) & LOW_2;
        long q4 = Bits.getLong(codes, from + l + 96) & LOW_2;
        Bits.putLong(out, at + j / 4 + (l - j), q1 | (q2 << 2) | (q3 << 4) | (q4 << 6));
      }
    }
  }

  /** Codes as written by {@link #putTwoBits}. */
  static void getTwoBits(byte[] in, int at, byte[] codes, int to) {
    for (int j = 0; j < SUPER; j += 128) {
      for (int l = j; l < j + 32; l += 8) {
        long q = Bits.getLong(in, at + j / 4 + (l - j));
        Bits.putLong(codes, to + l, q & LOW_2);
        Bits.putLong(codes, to + l + 32, (q >>> 2) & LOW_2);
        Bits.putLong(codes, to + l + 64, (q >>> 4) & LOW_2);
        Bits.putLong(codes, to + l + 96, (q >>> 6) & LOW_2);
      }
    }
  }

  /** Q3_K: 32 bytes with the codes' high bits, then their low two bits as in Q2_K. */
  static void putThreeBits(byte[] codes, int from, byte[] out, int at) {
    putHighBits(codes, from, 2, out, at);
    putTwoBits(codes, from, out, at + 32);
  }

  /** Codes as written by {@link #putThreeBits}. */
  static void getThreeBits(byte[] in, int at, byte[] codes, int to) {
    getTwoBits(in, at + 32, codes, to);
    addHighBits(in, at, codes, to, 2);
  }

  /** Q4_K, 128 bytes: a byte holds the codes of two values that lie 32 apart. */
  static void putFourBits(byte[] codes, int from, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 64) {
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, from + l) & LOW_4;
        long q2 = Bits.getLong(codes, from + l + 32) & LOW_4;
        Bits.putLong(out, at + j / 2 + (l - j), q1 | (q2 << 4));
      }
    }
  }

  /** Codes as written by {@link #putFourBits}. */
  static void getFourBits(byte[] in, int at, byte[] codes, int to) {
    for (int j = 0; j < SUPER; j += 64) {
      for (int l = j; l < j + 32; l += 8) {
        long q = Bits.getLong(in, at + j / 2 + (l - j));
        Bits.putLong(codes, to + l, q & LOW_4);
        Bits.putLong(codes, to + l + 32, (q >>> 4) & LOW_4);
      }
    }
  }

  /** Q5_K: 32 bytes with the codes' high bits, then their low four bits as in Q4_K. */
  static void putFiveBits(byte[] codes, int from, byte[] out, int at) {
    putHighBits(codes, from, 4, out, at);
    putFourBits(codes, from, out, at + 32);
  }

  /** Codes as written by {@link #putFiveBits}. */
  static void getFiveBits(byte[] in, int at, byte[] codes, int to) {
    getFourBits(in, at + 32, codes, to);
    addHighBits(in, at, codes, to, 4);
  }

  /** 32 bytes: a byte holds the high bits of eight codes whose values lie 32 apart. */
  private static void putHighBits(byte[] codes, int from, int lowBits, byte[] out, int at) {
    for (int l = 0; l < 32; l += 8) {
      long bits = 0;
      for (int j = 0; j < 8; j++) {
        bits |= ((Bits.getLong(codes, from + 32 * j + l) >>> lowBits) & LOW_1) << j;
      }
      Bits.putLong(out, at + l, bits);
    }
  }

  /** Sets the high bits of codes whose low bits are in place, as written by {@link #putHighBits}. */
  private static void addHighBits(byte[] in, int at, byte[] codes, int to, int lowBits) {
    for (int l = 0; l < 32; l += 8) {
      long bits = Bits.getLong(in, at + l);
      for (int j = 0; j < 8; j++) {
        int code = to + 32 * j + l;
        Bits.putLong(codes, code, Bits.getLong(codes, code) | (((bits >>> j) & LOW_1) << lowBits));
      }
    }
  }

  /** Q6_K: 128 bytes with the codes' low four bits, then 64 with their high two bits. */
  static void putSixBits(byte[] codes, int from, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 128) {
      int low = at + j / 2 - j;
      int high = at + 128 + j / 4 - j;
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, from + l);
        long q2 = Bits.getLong(codes, from + l + 32);
        long q3 = Bits.getLong(codes, from + l + 64);
        long q4 = Bits.getLong(codes, from + l + 96);
        Bits.putLong(out, low + l, (q1 & LOW_4) | ((q3 & LOW_4) << 4));
        Bits.putLong(out, low + l + 32, (q2 & LOW_4) | ((q4 & LOW_4) << 4));
        Bits.putLong(
          out,
          high + l,
          ((q1 >>> 4) & LOW_2) | (((q2 >>> 4) & LOW_2) << 2) | (((q3 >>> 4) & LOW_2) << 4) | (((q4 >>> 4) & LOW_2) << 6)
        );
      }
    }
  }

  /** Codes as written by {@link #putSixBits}. */
  static void getSixBits(byte[] in, int at, byte[] codes, int to) {
    for (int j = 0; j < SUPER; j += 128) {
      int low = at + j / 2 - j;
      int high = at + 128 + j / 4 - j;
      for (int l = j; l < j + 32; l += 8) {
        long q13 = Bits.getLong(in, low + l);
        long q24 = Bits.getLong(in, low + l + 32);
        long pairs = Bits.getLong(in, high + l);
        Bits.putLong(codes, to + l, (q13 & LOW_4) | ((pairs & LOW_2) << 4));
        Bits.putLong(codes, to + l + 32, (q24 & LOW_4) | (((pairs >>> 2) & LOW_2) << 4));
        Bits.putLong(codes, to + l + 64, ((q13 >>> 4) & LOW_4) | (((pairs >>> 4) & LOW_2) << 4));
        Bits.putLong(codes, to + l + 96, ((q24 >>> 4) & LOW_4) | (((pairs >>> 6) & LOW_2) << 4));
      }
    }
  }

  /** The 16 scales of Q3_K, 6 bits each: low nibbles in 8 bytes, then high bit pairs in 4. */
  static void putSixBitScales(byte[] scales, int from, byte[] out, int at) {
    for (int j = 0; j < 8; j++) {
      out[at + j] = (byte) ((scales[from + j] & 0xF) | (scales[from + j + 8] << 4));
    }
    for (int j = 0; j < 4; j++) {
      int bits = 0;
      for (int k = 0; k < 4; k++) {
        bits |= (scales[from + 4 * k + j] >> 4) << (2 * k);
      }
      out[at + 8 + j] = (byte) bits;
    }
  }

  /** Scale {@code j} as written by {@link #putSixBitScales}. */
  static int sixBitScale(byte[] in, int at, int j) {
    int low = j < 8 ? in[at + j] & 0xF : (in[at + j - 8] >> 4) & 0xF;
    return low | (((in[at + 8 + (j & 3)] >> (2 * (j >> 2))) & 3) << 4);
  }

  /**
   * The 8 scales and 8 minima of Q4_K and Q5_K: four bytes of scales and four of minima with 6 bits each; four bytes with the low
   * nibbles of the others, whose high bit pairs fill the first eight up. A code above 63 spills over, as in ggml.
   */
  static void putScalesAndMinima(byte[] scales, byte[] minima, int from, byte[] out, int at) {
    for (int j = 0; j < 4; j++) {
      int scale = scales[from + j + 4] & 0xFF;
      int minimum = minima[from + j + 4] & 0xFF;
      out[at + j] = (byte) (scales[from + j] | ((scale >> 4) << 6));
      out[at + 4 + j] = (byte) (minima[from + j] | ((minimum >> 4) << 6));
      out[at + 8 + j] = (byte) ((scale & 0xF) | (minimum << 4));
    }
  }

  /** Scale {@code j} as written by {@link #putScalesAndMinima}. */
  static int scale(byte[] in, int at, int j) {
    return j < 4 ? in[at + j] & 63 : (in[at + j + 4] & 0xF) | (((in[at + j - 4] & 0xFF) >> 6) << 4);
  }

  /** Minimum {@code j} as written by {@link #putScalesAndMinima}. */
  static int minimum(byte[] in, int at, int j) {
    return j < 4 ? in[at + j + 4] & 63 : ((in[at + j + 4] & 0xFF) >> 4) | (((in[at + j] & 0xFF) >> 6) << 4);
  }
}
