package dev.attar.formats.block;

import jdk.incubator.vector.ByteVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The vectors that {@link Simd} chose. The species are constants, as the compiler needs them to be. Loaded only where the Vector API
 * is present.
 */
final class Lanes {

  /** Vectors of floats and, of the same shape, of ints. */
  static final VectorSpecies<Float> FLOAT;

  static final VectorSpecies<Integer> INT;

  /** Floats in a vector: 4, 8 or 16. */
  static final int COUNT;

  static {
    int bits = Simd.bits();
    VectorShape shape = VectorShape.forBitSize(bits);
    FLOAT = FloatVector.SPECIES_PREFERRED.withShape(shape);
    INT = IntVector.SPECIES_PREFERRED.withShape(shape);
    COUNT = FLOAT.length();
  }

  private Lanes() {}

  /** Writes the low byte of each lane. */
  static void storeBytes(IntVector v, byte[] out, int at) {
    if (COUNT == 16) {
      ((ByteVector) v.castShape(ByteVector.SPECIES_128, 0)).intoArray(out, at);
    } else {
      long bytes = v.castShape(ByteVector.SPECIES_64, 0).reinterpretAsLongs().lane(0);
      if (COUNT == 8) {
        Bits.putLong(out, at, bytes);
      } else {
        Bits.putInt(out, at, (int) bytes);
      }
    }
  }

  /**
   * Puts a block into one lane: value {@code j} of it to {@code j * COUNT + lane}, so that a vector loaded at {@code j * COUNT}
   * holds value {@code j} of as many blocks as there are lanes.
   */
  static void interleave(float[] x, int from, float[] interleaved, int lane) {
    for (int j = 0; j < 32; j++) {
      interleaved[j * COUNT + lane] = x[from + j];
    }
  }
}
