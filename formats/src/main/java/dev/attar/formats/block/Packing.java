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

  /** 4 bits of each integer as in {@link #nibbles(int[], byte[], int)}; the integers come one a byte. */
  static void nibbles(byte[] q, int from, byte[] out, int at) {
    for (int j = 0; j < 16; j++) {
      out[at + j] = (byte) ((q[from + j] & 15) | (q[from + j + 16] << 4));
    }
  }

  /** Integers as written by {@link #nibbles(byte[], int, byte[], int)}. */
  static void fromNibbles(byte[] in, int at, byte[] q, int to) {
    for (int j = 0; j < 16; j++) {
      q[to + j] = (byte) (in[at + j] & 15);
      q[to + j + 16] = (byte) ((in[at + j] >> 4) & 15);
    }
  }

  /** Bit 4 of each integer, as 32 bits; the integers come one a byte. */
  static void fifthBits(byte[] q, int from, byte[] out, int at) {
    int bits = 0;
    for (int j = 0; j < 32; j++) {
      bits |= ((q[from + j] >> 4) & 1) << j;
    }
    Bits.putInt(out, at, bits);
  }

  /** Sets bit 4 of integers whose low bits are in place, as written by {@link #fifthBits(byte[], int, byte[], int)}. */
  static void addFifthBits(byte[] in, int at, byte[] q, int to) {
    int bits = Bits.getInt(in, at);
    for (int j = 0; j < 32; j++) {
      q[to + j] |= (byte) (((bits >> j) & 1) << 4);
    }
  }
}
