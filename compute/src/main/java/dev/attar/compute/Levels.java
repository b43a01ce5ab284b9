package dev.attar.compute;

/**
 * The levels of a grid, made ready for rounding.
 *
 * @param values the levels in ascending order
 * @param bounds bounds[i] is the middle between values[i] and values[i + 1]
 * @param whole whether the levels are consecutive whole numbers
 */
public record Levels(float[] values, float[] bounds, boolean whole) {
  public static Levels of(float[] values) {
    float[] bounds = new float[values.length - 1];
    boolean whole = values[0] == Math.rint(values[0]);
    for (int i = 0; i < bounds.length; i++) {
      bounds[i] = (values[i] + values[i + 1]) / 2;
      whole &= values[i + 1] == values[i] + 1;
    }
    return new Levels(values, bounds, whole);
  }

  float least() {
    return values[0];
  }

  float most() {
    return values[values.length - 1];
  }
}
