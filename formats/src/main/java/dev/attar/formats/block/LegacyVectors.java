package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.EQ;
import static jdk.incubator.vector.VectorOperators.F2I;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.MAX;
import static jdk.incubator.vector.VectorOperators.MIN;
import static jdk.incubator.vector.VectorOperators.NE;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Encoders of 32-value blocks without importance, with SIMD along the block. Each method has the parameters of {@link
 * BlockEncoder#encode}.
 *
 * <p>Methods here exchange arrays and numbers, not vectors: a vector that is a parameter costs an object unless the method is
 * inlined, which is not certain.
 */
final class LegacyVectors {

  private static final int N = Lanes.COUNT;
  private static final int MAGNITUDE = 0x7FFFFFFF;
  private static final int SIGN = 0x80000000;
  private static final int BELOW_HALF = Float.floatToRawIntBits(ScalarEncoders.BELOW_HALF);

  private LegacyVectors() {}

  static void q80(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      q80(x, xAt + 32 * b, out, outAt + 34 * b);
    }
  }

  static void q40(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    if (w != null) {
      SearchVectors.symmetric(x, xAt, rowLength, rows, w, wAt, out, outAt, 8);
      return;
    }
    int[] q = new int[32];
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int to = outAt + 18 * b;
      Bits.putScale(out, to, roundSymmetric(x, xAt + 32 * b, 8, q));
      nibbles(q, out, to + 2);
    }
  }

  static void q50(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    if (w != null) {
      SearchVectors.symmetric(x, xAt, rowLength, rows, w, wAt, out, outAt, 16);
      return;
    }
    int[] q = new int[32];
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int to = outAt + 22 * b;
      Bits.putScale(out, to, roundSymmetric(x, xAt + 32 * b, 16, q));
      Bits.putInt(out, to + 2, fifthBits(q));
      nibbles(q, out, to + 6);
    }
  }

  static void q41(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    if (w != null) {
      SearchVectors.affine(x, xAt, rowLength, rows, w, wAt, out, outAt, 15);
      return;
    }
    int[] q = new int[32];
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int to = outAt + 20 * b;
      roundAffine(x, xAt + 32 * b, 15, q, out, to);
      nibbles(q, out, to + 4);
    }
  }

  static void q51(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    if (w != null) {
      SearchVectors.affine(x, xAt, rowLength, rows, w, wAt, out, outAt, 31);
      return;
    }
    int[] q = new int[32];
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int to = outAt + 24 * b;
      roundAffine(x, xAt + 32 * b, 31, q, out, to);
      Bits.putInt(out, to + 4, fifthBits(q));
      nibbles(q, out, to + 8);
    }
  }

  private static void q80(float[] x, int from, byte[] out, int to) {
    float d = largestMagnitude(x, from) / 127;
    float inverse = d != 0 ? 1 / d : 0;
    Bits.putScale(out, to, d);
    if (inverse == Float.POSITIVE_INFINITY) {
      inverse = 0; // the products are infinite or not numbers, and convert to 0 on x86-64
    }
    for (int k = 0; k < 32; k += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, from + k).mul(inverse);
      FloatVector half = v.reinterpretAsInts().and(SIGN).or(BELOW_HALF).reinterpretAsFloats();
      IntVector q = (IntVector) v.add(half).convert(F2I, 0);
      if (N == 16) {
        ((ByteVector) q.castShape(ByteVector.SPECIES_128, 0)).intoArray(out, to + 2 + k);
      } else if (N == 8) {
        ((ByteVector) q.castShape(ByteVector.SPECIES_64, 0)).intoArray(out, to + 2 + k);
      } else {
        Bits.putInt(out, to + 2 + k, q.castShape(ByteVector.SPECIES_64, 0).reinterpretAsInts().lane(0));
      }
    }
  }

  /** Integers from 0 to {@code 2 * top - 1} for a block; returns the scale. */
  private static float roundSymmetric(float[] x, int from, int top, int[] q) {
    float d = extreme(x, from) / -top;
    float inverse = d != 0 ? 1 / d : 0;
    round(x, from, 0, inverse, top + 0.5f, 2 * top - 1, q);
    return d;
  }

  /** Integers from 0 to {@code top} for a block, and its scale and minimum as halves. */
  private static void roundAffine(float[] x, int from, int top, int[] q, byte[] out, int to) {
    FloatVector low = FloatVector.fromArray(Lanes.FLOAT, x, from);
    FloatVector high = low;
    for (int k = N; k < 32; k += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, from + k);
      low = low.min(v);
      high = high.max(v);
    }
    float min = low.reduceLanes(MIN);
    float max = high.reduceLanes(MAX);
    if (min == 0) {
      // The signs of zeros show in the halves: of several, the first counts, while the reductions above put -0 below 0.
      min = x[from];
      max = x[from];
      for (int j = 1; j < 32; j++) {
        float v = x[from + j];
        min = v < min ? v : min;
        max = v > max ? v : max;
      }
    }
    float d = (max - min) / top;
    float inverse = d != 0 ? 1 / d : 0;
    Bits.putScale(out, to, d);
    Bits.putScale(out, to + 2, min);
    round(x, from, min, inverse, 0.5f, top, q);
  }

  /** {@code q = min(top, (x - min) * inverse + offset)}, truncated; what overflows gives 0 as on x86-64. */
  private static void round(float[] x, int from, float min, float inverse, float offset, int top, int[] q) {
    for (int k = 0; k < 32; k += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, from + k);
      FloatVector scaled = v.sub(min).mul(inverse).add(offset);
      IntVector l = (IntVector) scaled.convert(F2I, 0);
      l = l.blend(0, l.compare(EQ, Integer.MAX_VALUE));
      l.lanewise(MIN, top).lanewise(MAX, 0).intoArray(q, k);
    }
  }

  /** The largest magnitude in a block: floats without sign are ordered as their bits are. */
  private static float largestMagnitude(float[] x, int from) {
    IntVector max = FloatVector.fromArray(Lanes.FLOAT, x, from).reinterpretAsInts().and(MAGNITUDE);
    for (int k = N; k < 32; k += N) {
      max = max.lanewise(MAX, FloatVector.fromArray(Lanes.FLOAT, x, from + k).reinterpretAsInts().and(MAGNITUDE));
    }
    return Float.intBitsToFloat(max.reduceLanes(MAX));
  }

  /** The first value of the largest magnitude in a block, 0 if all are. */
  private static float extreme(float[] x, int from) {
    float most = largestMagnitude(x, from);
    if (most == 0) {
      return 0;
    }
    int bits = Float.floatToRawIntBits(most);
    for (int k = 0; k < 32; k += N) {
      IntVector magnitude = FloatVector.fromArray(Lanes.FLOAT, x, from + k).reinterpretAsInts().and(MAGNITUDE);
      long found = magnitude.compare(EQ, bits).toLong();
      if (found != 0) {
        return x[from + k + Long.numberOfTrailingZeros(found)];
      }
    }
    throw new AssertionError("the largest magnitude is not in its block");
  }

  /** As {@link Packing#nibbles}. */
  static void nibbles(int[] q, byte[] out, int at) {
    for (int k = 0; k < 16; k += N) {
      IntVector high = IntVector.fromArray(Lanes.INT, q, k + 16).lanewise(LSHL, 4);
      IntVector both = IntVector.fromArray(Lanes.INT, q, k).and(15).or(high);
      if (N == 16) {
        ((ByteVector) both.castShape(ByteVector.SPECIES_128, 0)).intoArray(out, at + k);
      } else if (N == 8) {
        ((ByteVector) both.castShape(ByteVector.SPECIES_64, 0)).intoArray(out, at + k);
      } else {
        Bits.putInt(out, at + k, both.castShape(ByteVector.SPECIES_64, 0).reinterpretAsInts().lane(0));
      }
    }
  }

  /** As {@link Packing#fifthBits}. */
  static int fifthBits(int[] q) {
    int bits = 0;
    for (int k = 0; k < 32; k += N) {
      bits |= (int) IntVector.fromArray(Lanes.INT, q, k).and(16).compare(NE, 0).toLong() << k;
    }
    return bits;
  }
}
