package dev.attar.distill.network;

import dev.attar.formats.Metadata;
import java.util.Arrays;

/**
 * How positions are rotated: rotary embedding (Su et al., 2021), with what GGUF's metadata says of longer contexts: linear scaling, YaRN
 * (Peng et al., 2023), and divisors of single frequencies (Llama 3.1).
 *
 * @param neighbours whether pairs are neighbours, otherwise they lie half of the rotated part apart
 * @param frequencies of each pair: angle per position, in radians; not to be changed
 * @param magnitude what cosines and sines are multiplied with: 1 but for YaRN
 */
public record Rotary(boolean neighbours, double[] frequencies, double magnitude) {
  private static final double DEFAULT_BASE = 10_000;

  /** YaRN's rotations within the original context above which a pair is left alone, and below which it is scaled in full. */
  private static final double FAST = 32;

  private static final double SLOW = 1;

  /**
   * Reads it as llama.cpp does.
   *
   * @param metadata of a model whose numbers are in range
   * @param neighbours whether pairs are neighbours
   * @param rotated how many numbers of a head are rotated, even
   * @param divisors of the frequencies; null for none
   */
  static Rotary of(Metadata metadata, boolean neighbours, int rotated, float[] divisors) {
    String rope = metadata.architecture() + ".rope.";
    String scaling = rope + "scaling.";
    String type = metadata.string(scaling + "type").orElse("linear");
    double base = metadata.number(rope + "freq_base").orElse(DEFAULT_BASE);
    double stated = metadata.number(scaling + "factor").orElse(metadata.number(rope + "scale_linear").orElse(0));
    double factor = type.equals("none") || stated == 0 ? 1 : stated;
    double extrapolated = metadata.number(scaling + "yarn_ext_factor").orElse(-1);
    if (extrapolated < 0) {
      extrapolated = type.equals("yarn") ? 1 : 0;
    }
    double[] frequencies = new double[rotated / 2];
    Arrays.setAll(frequencies, i -> Math.pow(base, (-2.0 * i) / rotated) / (divisors == null ? 1 : divisors[i]));
    double magnitude = metadata.number(scaling + "attn_factor").orElse(1);
    if (extrapolated == 0) {
      Arrays.setAll(frequencies, i -> frequencies[i] / factor);
      magnitude *= metadata.number(scaling + "yarn_attn_factor").orElse(1);
    } else {
      // Of YaRN, llama.cpp does not read yarn_attn_factor.
      double context = metadata
        .number(scaling + "original_context_length")
        .orElse(metadata.number(metadata.architecture() + ".context_length").orElse(0));
      double fast = metadata.number(scaling + "yarn_beta_fast").orElse(FAST);
      double slow = metadata.number(scaling + "yarn_beta_slow").orElse(SLOW);
      double low = Math.max(0, Math.floor(pair(rotated, context, fast, base)));
      double high = Math.min(rotated - 1, Math.ceil(pair(rotated, context, slow, base)));
      for (int i = 0; i < frequencies.length; i++) {
        double ramp = Math.clamp((i - low) / Math.max(0.001, high - low), 0, 1);
        double kept = (1 - ramp) * extrapolated;
        frequencies[i] *= (1 - kept) / factor + kept;
      }
      magnitude *= factor > 1 ? 1 + 0.1 * Math.log(factor) : 1;
    }
    return new Rotary(neighbours, frequencies, magnitude);
  }

  /** The pair, as a real number, that rotates so many times within a context. */
  private static double pair(int rotated, double context, double rotations, double base) {
    return (rotated * Math.log(context / (rotations * 2 * Math.PI))) / (2 * Math.log(base));
  }

  /**
   * Cosines and sines.
   *
   * @param positions how many positions, from 0 on
   * @return for each position the cosines of all pairs, then their sines
   */
  float[] angles(int positions) {
    int pairs = frequencies.length;
    float[] angles = new float[Math.multiplyExact(positions, 2 * pairs)];
    for (int position = 0; position < positions; position++) {
      for (int i = 0; i < pairs; i++) {
        double angle = position * frequencies[i];
        angles[2 * pairs * position + i] = (float) (Math.cos(angle) * magnitude);
        angles[2 * pairs * position + pairs + i] = (float) (Math.sin(angle) * magnitude);
      }
    }
    return angles;
  }

  @Override
  public boolean equals(Object other) {
    return (
      other instanceof Rotary that &&
      neighbours == that.neighbours &&
      magnitude == that.magnitude &&
      Arrays.equals(frequencies, that.frequencies)
    );
  }

  @Override
  public int hashCode() {
    return 31 * Arrays.hashCode(frequencies) + Double.hashCode(magnitude);
  }

  @Override
  public String toString() {
    return "rotary of " + frequencies.length + (neighbours ? " neighbouring pairs" : " pairs");
  }
}
