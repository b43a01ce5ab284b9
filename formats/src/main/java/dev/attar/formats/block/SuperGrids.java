package dev.attar.formats.block;

import dev.attar.formats.TensorType;

/** The grids of the types with super-blocks of 256 weights, whose groups have scales of their own: the k-quants and IQ4_XS. */
final class SuperGrids {

  /** What the stored scales of Q3_K and IQ4_XS, 6 bits each, exceed the signed ones by. */
  private static final int HALF_SCALES = 32;

  private SuperGrids() {}

  static final class Q2K extends BlockGrid {

    Q2K() {
      super(TensorType.Q2_K, 16, integers(0, 3), 0, 15, 0, 15);
    }

    @Override
    void getScales(byte[] in, int at, Scales to) {
      to.d = Bits.getHalf(in, at + 80);
      to.dmin = Bits.getHalf(in, at + 82);
      for (int g = 0; g < 16; g++) {
        to.s[g] = (byte) (in[at + g] & 15);
        to.m[g] = (byte) ((in[at + g] >> 4) & 15);
      }
    }

    @Override
    void putScales(Scales from, byte[] out, int at) {
      for (int g = 0; g < 16; g++) {
        out[at + g] = (byte) (from.s[g] | (from.m[g] << 4));
      }
      Bits.putShort(out, at + 80, Bits.half(from.d));
      Bits.putShort(out, at + 82, Bits.half(from.dmin));
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      KLayout.getTwoBits(in, at + 16, codes, to);
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      KLayout.putTwoBits(codes, from, out, at + 16);
    }
  }

  static final class Q3K extends BlockGrid {

    Q3K() {
      super(TensorType.Q3_K, 16, integers(-4, 3), -HALF_SCALES, HALF_SCALES - 1, 0, 0);
    }

    @Override
    void getScales(byte[] in, int at, Scales to) {
      to.d = Bits.getHalf(in, at + 108);
      to.dmin = 0;
      for (int g = 0; g < 16; g++) {
        to.s[g] = (byte) (KLayout.sixBitScale(in, at + 96, g) - HALF_SCALES);
        to.m[g] = 0;
      }
    }

    @Override
    void putScales(Scales from, byte[] out, int at) {
      byte[] stored = new byte[16];
      for (int g = 0; g < 16; g++) {
        stored[g] = (byte) (from.s[g] + HALF_SCALES);
      }
      KLayout.putSixBitScales(stored, 0, out, at + 96);
      Bits.putShort(out, at + 108, Bits.half(from.d));
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      KLayout.getThreeBits(in, at, codes, to);
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      KLayout.putThreeBits(codes, from, out, at);
    }
  }

  /** What Q4_K and Q5_K have in common: all but the codes. */
  private abstract static class ScalesAndMinima extends BlockGrid {

    ScalesAndMinima(TensorType type, float[] levels) {
      super(type, 8, levels, 0, 63, 0, 63);
    }

    @Override
    void getScales(byte[] in, int at, Scales to) {
      to.d = Bits.getHalf(in, at);
      to.dmin = Bits.getHalf(in, at + 2);
      for (int g = 0; g < 8; g++) {
        to.s[g] = (byte) KLayout.scale(in, at + 4, g);
        to.m[g] = (byte) KLayout.minimum(in, at + 4, g);
      }
    }

    @Override
    void putScales(Scales from, byte[] out, int at) {
      Bits.putShort(out, at, Bits.half(from.d));
      Bits.putShort(out, at + 2, Bits.half(from.dmin));
      KLayout.putScalesAndMinima(from.s, from.m, 0, out, at + 4);
    }
  }

  static final class Q4K extends ScalesAndMinima {

    Q4K() {
      super(TensorType.Q4_K, integers(0, 15));
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      KLayout.getFourBits(in, at + 16, codes, to);
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      KLayout.putFourBits(codes, from, out, at + 16);
    }
  }

  static final class Q5K extends ScalesAndMinima {

    Q5K() {
      super(TensorType.Q5_K, integers(0, 31));
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      KLayout.getFiveBits(in, at + 16, codes, to);
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      KLayout.putFiveBits(codes, from, out, at + 16);
    }
  }

  static final class Q6K extends BlockGrid {

    Q6K() {
      super(TensorType.Q6_K, 16, integers(-32, 31), Byte.MIN_VALUE, Byte.MAX_VALUE, 0, 0);
    }

    @Override
    void getScales(byte[] in, int at, Scales to) {
      to.d = Bits.getHalf(in, at + 208);
      to.dmin = 0;
      for (int g = 0; g < 16; g++) {
        to.s[g] = in[at + 192 + g];
        to.m[g] = 0;
      }
    }

    @Override
    void putScales(Scales from, byte[] out, int at) {
      System.arraycopy(from.s, 0, out, at + 192, 16);
      Bits.putShort(out, at + 208, Bits.half(from.d));
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      KLayout.getSixBits(in, at, codes, to);
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      KLayout.putSixBits(codes, from, out, at);
    }
  }

  static final class Iq4Xs extends BlockGrid {

    Iq4Xs() {
      super(TensorType.IQ4_XS, 8, Iq4.levels(), -HALF_SCALES, HALF_SCALES - 1, 0, 0);
    }

    @Override
    void getScales(byte[] in, int at, Scales to) {
      to.d = Bits.getHalf(in, at);
      to.dmin = 0;
      int high = Bits.getUnsignedShort(in, at + 2);
      int low = Bits.getInt(in, at + 4);
      for (int g = 0; g < 8; g++) {
        int stored = ((low >> (4 * g)) & 15) | (((high >> (2 * g)) & 3) << 4);
        to.s[g] = (byte) (stored - HALF_SCALES);
        to.m[g] = 0;
      }
    }

    @Override
    void putScales(Scales from, byte[] out, int at) {
      int high = 0;
      int low = 0;
      for (int g = 0; g < 8; g++) {
        int stored = from.s[g] + HALF_SCALES;
        low |= (stored & 15) << (4 * g);
        high |= (stored >> 4) << (2 * g);
      }
      Bits.putShort(out, at, Bits.half(from.d));
      Bits.putShort(out, at + 2, high);
      Bits.putInt(out, at + 4, low);
    }

    @Override
    void getCodes(byte[] in, int at, byte[] codes, int to) {
      for (int g = 0; g < 8; g++) {
        Packing.fromNibbles(in, at + 8 + 16 * g, codes, to + 32 * g);
      }
    }

    @Override
    void putCodes(byte[] codes, int from, byte[] out, int at) {
      for (int g = 0; g < 8; g++) {
        Packing.nibbles(codes, from + 32 * g, out, at + 8 + 16 * g);
      }
    }
  }
}
