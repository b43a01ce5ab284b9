package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.MAX;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.ShortVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/** Encoders of values one by one, with SIMD. Each method has the parameters of {@link BlockEncoder#encode}. */
final class PlainVectors {

  private static final int N = Lanes.COUNT;
  private static final int QUIET_NAN = 0x7E00;
  private static final VectorSpecies<Short> SHORTS = ShortVector.SPECIES_PREFERRED.withShape(
    VectorShape.forBitSize(16 * N)
  );

  private PlainVectors() {}

  /**
   * The bits of the nearest halves, ties to even. The magnitude is scaled up, which makes what is too large infinite, and back down;
   * adding a power of two 13 binary places above it then rounds it to a half's 10 bits of fraction, or to a multiple of the smallest
   * half.
   */
  static void f16(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    int count = rowLength * rows;
    int i = 0;
    for (; i <= count - N; i += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, xAt + i);
      IntVector bits = v.reinterpretAsInts();
      IntVector magnitude = bits.and(0x7FFFFFFF);
      IntVector exponent = bits.and(0x7F800000).lanewise(MAX, 0x38800000);
      FloatVector scaled = magnitude.reinterpretAsFloats().mul(0x1p112f).mul(0x1p-110f);
      IntVector rounded = exponent.add(0x07800000).reinterpretAsFloats().add(scaled).reinterpretAsInts();
      IntVector half = rounded.lanewise(LSHR, 13).and(0x7C00).add(rounded.and(0xFFF));
      half = half.blend(QUIET_NAN, magnitude.compare(GT, 0x7F800000)).or(bits.lanewise(LSHR, 16).and(0x8000));
      half.castShape(SHORTS, 0).reinterpretAsBytes().intoArray(out, outAt + 2 * i);
    }
    ScalarEncoders.f16(x, xAt + i, count - i, 1, w, wAt, out, outAt + 2 * i);
  }

  /** The bits of the nearest bfloat16, ties to even. */
  static void bf16(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    int count = rowLength * rows;
    int i = 0;
    for (; i <= count - N; i += N) {
      IntVector bits = FloatVector.fromArray(Lanes.FLOAT, x, xAt + i).reinterpretAsInts();
      IntVector high = bits.lanewise(LSHR, 16);
      IntVector rounded = high.and(1).add(0x7FFF).add(bits).lanewise(LSHR, 16);
      rounded = rounded.blend(high.or(0x40), bits.and(0x7FFFFFFF).compare(GT, 0x7F800000));
      rounded.castShape(SHORTS, 0).reinterpretAsBytes().intoArray(out, outAt + 2 * i);
    }
    ScalarEncoders.bf16(x, xAt + i, count - i, 1, w, wAt, out, outAt + 2 * i);
  }
}
