package dev.attar.compute.cuda;

import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** GGUF's block types that {@code encoding.cu} encodes, by their names there: their grids, and where in a block what lies. */
enum CudaBlockType {
  Q4_0(32, 18, integers(-8, 7), 1, 1, 0, 0, Bits.nibbles(2)),
  Q4_1(32, 20, integers(0, 15), 1, 1, 1, 0, Bits.nibbles(4)),
  Q5_0(32, 22, integers(-16, 15), 1, 1, 0, 0, Bits.fifth(2), Bits.nibbles(6)),
  Q5_1(32, 24, integers(0, 31), 1, 1, 1, 0, Bits.fifth(4), Bits.nibbles(8)),
  Q8_0(32, 34, integers(-128, 127), 1, 1, 0, 0, new Bits(0, 8, 1, 2, 32)),
  IQ4_NL(32, 18, codebook(), 1, 1, 0, 0, Bits.nibbles(2)),
  IQ4_XS(32, 136, codebook(), -32, 31, 0, 0, new Bits(0, 4, 16, 8, 128)),
  Q2_K(16, 84, integers(0, 3), 0, 15, 15, 80, new Bits(0, 2, 32, 16, 64)),
  Q3_K(16, 110, integers(-4, 3), -32, 31, 0, 108, new Bits(2, 1, 32, 0, 32), new Bits(0, 2, 32, 32, 64)),
  Q4_K(32, 144, integers(0, 15), 0, 63, 63, 0, new Bits(0, 4, 32, 16, 128)),
  Q5_K(32, 176, integers(0, 31), 0, 63, 63, 0, new Bits(4, 1, 32, 16, 32), new Bits(0, 4, 32, 48, 128)),
  Q6_K(16, 210, integers(-32, 31), -128, 127, 0, 208, new Bits(0, 4, 64, 0, 128), new Bits(4, 2, 32, 128, 64));

  /**
   * Some bits of all codes of a block.
   *
   * @param shift how many lower bits of a code lie elsewhere
   * @param bits how many there are of each code
   * @param stride how far apart the codes are that share a byte
   * @param offset the first byte
   * @param bytes how many bytes
   */
  record Bits(int shift, int bits, int stride, int offset, int bytes) {
    /** The low four bits of 32 codes. */
    static Bits nibbles(int offset) {
      return new Bits(0, 4, 16, offset, 16);
    }

    /** The fifth bits of 32 codes. */
    static Bits fifth(int offset) {
      return new Bits(4, 1, 1, offset, 4);
    }
  }

  private final int groupLength;
  private final int blockBytes;
  private final float[] levels;
  private final int leastScale;
  private final int mostScale;
  private final int mostMinimum;
  private final int halvesOffset;
  private final List<Bits> codes;

  /** @param halvesOffset where in a block d is, and dmin after it */
  CudaBlockType(
    int groupLength,
    int blockBytes,
    float[] levels,
    int leastScale,
    int mostScale,
    int mostMinimum,
    int halvesOffset,
    Bits... codes
  ) {
    this.groupLength = groupLength;
    this.blockBytes = blockBytes;
    this.levels = levels;
    this.leastScale = leastScale;
    this.mostScale = mostScale;
    this.mostMinimum = mostMinimum;
    this.halvesOffset = halvesOffset;
    this.codes = List.of(codes);
  }

  private static float[] integers(int least, int most) {
    float[] levels = new float[most - least + 1];
    for (int i = 0; i < levels.length; i++) {
      levels[i] = least + i;
    }
    return levels;
  }

  private static float[] codebook() {
    return new float[] { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };
  }

  static Optional<CudaBlockType> of(String name) {
    return Arrays.stream(values())
      .filter(type -> type.name().equals(name))
      .findFirst();
  }

  /** Weights that share a scale. */
  int groupLength() {
    return groupLength;
  }

  /** Weights in a block. */
  int blockLength() {
    return hasSubScales() ? 256 : groupLength;
  }

  /** Groups in a block. */
  int groups() {
    return blockLength() / groupLength;
  }

  int blockBytes() {
    return blockBytes;
  }

  /** Whether the groups of a block have scales of their own. */
  boolean hasSubScales() {
    return leastScale < mostScale;
  }

  boolean hasMinimum() {
    return mostMinimum > 0;
  }

  /** Whether levels are words of the codebook. */
  boolean hasCodebook() {
    return this == IQ4_NL || this == IQ4_XS;
  }

  int leastLevel() {
    return (int) levels[0];
  }

  int mostLevel() {
    return (int) levels[levels.length - 1];
  }

  /** Where in a block d is. */
  int dOffset() {
    return halvesOffset;
  }

  /** Where in a block dmin is; -1 for nowhere. */
  int dminOffset() {
    return hasMinimum() ? halvesOffset + 2 : -1;
  }

  /** Where the bits of the codes are. */
  List<Bits> codes() {
    return codes;
  }

  QuantizationGrid grid(Matrix d, Matrix dmin, Matrix scale, Matrix minimum) {
    return new QuantizationGrid(
      levels,
      groupLength,
      blockLength(),
      leastScale,
      mostScale,
      hasSubScales() ? 0 : mostMinimum,
      mostMinimum,
      d,
      dmin,
      scale,
      minimum
    );
  }
}
