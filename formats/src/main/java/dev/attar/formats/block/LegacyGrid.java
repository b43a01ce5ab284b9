package dev.attar.formats.block;

import dev.attar.formats.TensorType;

/**
 * The grids of the types with blocks of 32 weights: a scale, in some types a minimum, the fifth bits of codes with five, then the codes'
 * low four bits or whole bytes.
 */
final class LegacyGrid extends BlockGrid {

  private final int codeBits;

  /** Index of the first byte of codes. */
  private final int codesAt;

  /**
   * @param codeBits 4, 5 or 8
   * @param minimum 1 if one is stored, otherwise 0
   */
  LegacyGrid(TensorType type, int codeBits, float[] levels, int minimum) {
    super(type, 1, levels, 1, 1, minimum, minimum);
    this.codeBits = codeBits;
    this.codesAt = 2 + 2 * minimum;
  }

  @Override
  void getScales(byte[] in, int at, Scales to) {
    to.d = Bits.getHalf(in, at);
    to.dmin = hasMinimum() ? -Bits.getHalf(in, at + 2) : 0;
    to.s[0] = 1;
    to.m[0] = (byte) leastMinimum();
  }

  @Override
  void putScales(Scales from, byte[] out, int at) {
    Bits.putShort(out, at, Bits.half(from.d));
    if (hasMinimum()) {
      Bits.putShort(out, at + 2, Bits.half(-from.dmin));
    }
  }

  @Override
  void getCodes(byte[] in, int at, byte[] codes, int to) {
    switch (codeBits) {
      case 4 -> Packing.fromNibbles(in, at + codesAt, codes, to);
      case 5 -> {
        Packing.fromNibbles(in, at + codesAt + 4, codes, to);
        Packing.addFifthBits(in, at + codesAt, codes, to);
      }
      default -> flipSigns(in, at + codesAt, codes, to);
    }
  }

  @Override
  void putCodes(byte[] codes, int from, byte[] out, int at) {
    switch (codeBits) {
      case 4 -> Packing.nibbles(codes, from, out, at + codesAt);
      case 5 -> {
        Packing.fifthBits(codes, from, out, at + codesAt);
        Packing.nibbles(codes, from, out, at + codesAt + 4);
      }
      default -> flipSigns(codes, from, out, at + codesAt);
    }
  }

  /** Signed bytes to their places among all of them, and back. */
  private static void flipSigns(byte[] in, int at, byte[] out, int to) {
    for (int j = 0; j < 32; j++) {
      out[to + j] = (byte) (in[at + j] ^ 0x80);
    }
  }
}
