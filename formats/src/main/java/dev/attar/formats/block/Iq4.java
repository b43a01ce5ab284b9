package dev.attar.formats.block;

/** The 16 values of IQ4_NL and IQ4_XS, finer near zero, and the nearest of them to a number. */
final class Iq4 {

  /** The values, ascending. */
  static final byte[] VALUES = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

  /**
   * {@code THRESHOLDS[i]} is the least float that is nearer to value {@code i} than to value {@code i - 1}, a tie counting as
   * nearer. All are multiples of a half, hence exact. Element 0 has no meaning.
   */
  static final float[] THRESHOLDS = thresholds();

  private Iq4() {}

  /** The index of the nearest value; 15 for what is not a number. */
  static int index(float x) {
    int i = x < THRESHOLDS[8] ? 0 : 8;
    i = x < THRESHOLDS[i + 4] ? i : i + 4;
    i = x < THRESHOLDS[i + 2] ? i : i + 2;
    return x < THRESHOLDS[i + 1] ? i : i + 1;
  }

  /** {@link #VALUES} in single precision; a new array. */
  static float[] levels() {
    float[] levels = new float[VALUES.length];
    for (int i = 0; i < levels.length; i++) {
      levels[i] = VALUES[i];
    }
    return levels;
  }

  private static float[] thresholds() {
    float[] thresholds = new float[16];
    thresholds[0] = Float.NEGATIVE_INFINITY;
    for (int i = 1; i < 16; i++) {
      thresholds[i] = 0.5f * (VALUES[i - 1] + VALUES[i]);
    }
    return thresholds;
  }
}
