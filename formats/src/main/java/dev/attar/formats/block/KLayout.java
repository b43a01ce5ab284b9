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
  static void putTwoBits(byte[] codes, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 128) {
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, l) & LOW_2;
        long q2 = Bits.getLong(codes, l + 32) & LOW_2;
        long q3 = Bits.getLong(codes, l + 64) & LOW_2;
        long q4 = Bits.getLong(codes, l + 96) & LOW_2;
        Bits.putLong(out, at + j / 4 + (l - j), q1 | (q2 << 2) | (q3 << 4) | (q4 << 6));
      }
    }
  }

  /** Q3_K: 32 bytes with the codes' high bits, then their low two bits as in Q2_K. */
  static void putThreeBits(byte[] codes, byte[] out, int at) {
    putHighBits(codes, 2, out, at);
    putTwoBits(codes, out, at + 32);
  }

  /** Q4_K, 128 bytes: a byte holds the codes of two values that lie 32 apart. */
  static void putFourBits(byte[] codes, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 64) {
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, l) & LOW_4;
        long q2 = Bits.getLong(codes, l + 32) & LOW_4;
        Bits.putLong(out, at + j / 2 + (l - j), q1 | (q2 << 4));
      }
    }
  }

  /** Q5_K: 32 bytes with the codes' high bits, then their low four bits as in Q4_K. */
  static void putFiveBits(byte[] codes, byte[] out, int at) {
    putHighBits(codes, 4, out, at);
    putFourBits(codes, out, at + 32);
  }

  /** 32 bytes: a byte holds the high bits of eight codes whose values lie 32 apart. */
  private static void putHighBits(byte[] codes, int lowBits, byte[] out, int at) {
    for (int l = 0; l < 32; l += 8) {
      long bits = 0;
      for (int j = 0; j < 8; j++) {
        bits |= ((Bits.getLong(codes, 32 * j + l) >>> lowBits) & LOW_1) << j;
      }
      Bits.putLong(out, at + l, bits);
    }
  }

  /** Q6_K: 128 bytes with the codes' low four bits, then 64 with their high two bits. */
  static void putSixBits(byte[] codes, byte[] out, int at) {
    for (int j = 0; j < SUPER; j += 128) {
      int low = at + j / 2 - j;
      int high = at + 128 + j / 4 - j;
      for (int l = j; l < j + 32; l += 8) {
        long q1 = Bits.getLong(codes, l);
        long q2 = Bits.getLong(codes, l + 32);
        long q3 = Bits.getLong(codes, l + 64);
        long q4 = Bits.getLong(codes, l + 96);
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
