package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.EQ;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * Rounding to codes, a value in each lane. Codes are kept as floats, which hold them exactly.
 *
 * <p>A float between 2^23 and 2^24 has its integer in its low 23 bits. So after adding {@link KSearch#ROUNDER} codes can be cut off as
 * ints, and putting the high bits back and subtracting makes floats of them without a conversion.
 */
final class LaneCodes {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  private static final int MAGNITUDE = 0x7FFFFFFF;
  private static final int ROUNDER_BITS = Float.floatToRawIntBits(KSearch.ROUNDER);
  private static final int HIGH_BITS = ROUNDER_BITS & ~KSearch.ROUNDED_BITS;

  private LaneCodes() {}

  /** As {@link KSearch#nearest}. */
  static FloatVector nearest(FloatVector x) {
    return asFloats(rounded(x));
  }

  /** As {@link KSearch#code}. */
  static FloatVector code(FloatVector x, int least, int most) {
    return asFloats(cut(rounded(x), KSearch.ROUNDED_ZERO, least, most));
  }

  /** As {@link KSearch#code}, of values between -2^22 and 2^22; of others some code within the bounds. */
  static FloatVector small(FloatVector x, int least, int most) {
    IntVector bits = x.add(KSearch.ROUNDER).reinterpretAsInts();
    return cut(bits, ROUNDER_BITS, least, most).reinterpretAsFloats().sub(KSearch.ROUNDER);
  }

  /** The nearest integer, but at most this. */
  static FloatVector atMost(FloatVector x, int most) {
    return asFloats(rounded(x).min(KSearch.ROUNDED_ZERO + most));
  }

  /** The low 8 bits of an integer. */
  static FloatVector lowByte(FloatVector integer) {
    return asFloats(rounded(integer).and(0xFF).or(KSearch.ROUNDED_ZERO));
  }

  /** Writes codes, as {@link KSearch#code} but with {@code least} as 0, a byte each. */
  static void store(FloatVector x, int least, int most, byte[] out, int at) {
    IntVector codes = cut(rounded(x), KSearch.ROUNDED_ZERO, least, most).sub(KSearch.ROUNDED_ZERO + least);
    if (N == 16) {
      ((ByteVector) codes.castShape(ByteVector.SPECIES_128, 0)).intoArray(out, at);
    } else if (N == 8) {
      ((ByteVector) codes.castShape(ByteVector.SPECIES_64, 0)).intoArray(out, at);
    } else {
      Bits.putInt(out, at, codes.castShape(ByteVector.SPECIES_64, 0).reinterpretAsInts().lane(0));
    }
  }

  // The vectors of these small methods cost no objects, since methods of up to 35 bytes of code are always inlined.

  private static IntVector rounded(FloatVector x) {
    return x.add(KSearch.ROUNDER).reinterpretAsInts().and(KSearch.ROUNDED_BITS);
  }

  private static IntVector cut(IntVector bits, int zero, int least, int most) {
    return bits.max(zero + least).min(zero + most);
  }

  private static FloatVector asFloats(IntVector rounded) {
    return rounded.or(HIGH_BITS).reinterpretAsFloats().sub(KSearch.ROUNDER);
  }

  /**
   * As {@link KSearch#largest} for N interleaved blocks of finite values. The magnitude is found first, so that the search for the value
   * has no comparison in its chain; it goes backwards, so that the first of several stays.
   *
   * @param length of all blocks together
   */
  static void largest(float[] x, int at, int length, float[] out, int to) {
    IntVector largest = IntVector.zero(Lanes.INT);
    for (int i = 0; i < length; i += N) {
      largest = largest.max(FloatVector.fromArray(F, x, at + i).reinterpretAsInts().and(MAGNITUDE));
    }
    FloatVector found = FloatVector.zero(F);
    for (int i = length - N; i >= 0; i -= N) {
      FloatVector v = FloatVector.fromArray(F, x, at + i);
      found = found.blend(v, v.reinterpretAsInts().and(MAGNITUDE).compare(EQ, largest).cast(F));
    }
    found.intoArray(out, to);
  }
}
