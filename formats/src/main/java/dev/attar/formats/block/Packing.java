package dev.attar.formats.block;

/** How the 32 integers of a block lie in its bytes. */
final class Packing {

  private Packing() {}

  /** 4 bits of each integer: byte {@code j} of 16 holds integer {@code j} low and integer {@code j + 16} high. */
  static void nibbles(int[] q, byte[] out, int at) {
    for (int j = 0; j < 16; j++) {
      out[at + j] = (byte) ((q[j] & 15) | (q[j + 16] << 4));
    }
  }

  /** Bit 4 of each integer, as 32 bits. */
  static void fifthBits(int[] q, byte[] out, int at) {
    int bits = 0;
    for (int j = 0; j < 32; j++) {
      bits |= ((q[j] >> 4) & 1) << j;
    }
    Bits.putInt(out, at, bits);
  }
}
