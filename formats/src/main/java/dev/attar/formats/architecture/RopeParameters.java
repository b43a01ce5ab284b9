package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import java.util.Map;
import java.util.OptionalDouble;

/**
 * How a model encodes positions: {@code rope_parameters} of {@code config.json}, or the older {@code rope_scaling} with {@code
 * rope_theta} beside it.
 */
final class RopeParameters {

  private static final long MAX_CONTEXT = 1L << 31;

  private final CheckpointConfig config;
  private final String type;
  private final double theta;
  private final long originalContext;

  private RopeParameters(CheckpointConfig config, String type, double theta, long originalContext) {
    this.config = config;
    this.type = type;
    this.theta = theta;
    this.originalContext = originalContext;
  }

  /**
   * Reads them.
   *
   * @param config the checkpoint's configuration
   * @param defaultTheta the family's base if the configuration names none
   * @param context the context that the model is used with
   * @throws FormatException if a value is out of range, or the kind of scaling is not known
   */
  static RopeParameters read(CheckpointConfig config, double defaultTheta, long context) throws FormatException {
    CheckpointConfig rope = config.object(config.has("rope_parameters") ? "rope_parameters" : "rope_scaling");
    if (rope.has("full_attention")) {
      rope = rope.object("full_attention");
    }
    String type = rope.text("rope_type", rope.text("type", "default"));
    switch (type) {
      case "default", "linear", "dynamic", "yarn", "llama3" -> {
        // Known.
      }
      default -> throw rope.malformed(
        rope.has("rope_type") ? "rope_type" : "type",
        "one of default, linear, dynamic, yarn, llama3"
      );
    }
    if ((type.equals("linear") || type.equals("yarn")) && !rope.has("factor")) {
      throw rope.malformed("factor", "a number, as rope_type is " + type);
    }
    rope.positive("factor", 1);
    double theta = rope.positive("rope_theta", config.positive("rope_theta", defaultTheta));
    String original = "original_max_position_embeddings";
    long originalContext = config
      .optionalCount(original, 1, MAX_CONTEXT)
      .orElse(rope.optionalCount(original, 1, MAX_CONTEXT).orElse(context));
    return new RopeParameters(rope, type, theta, originalContext);
  }

  /** Adds the keys of the kind of scaling and the base. */
  void write(String architecture, Map<String, MetadataValue> out) throws FormatException {
    String scaling = architecture + ".rope.scaling.";
    if (type.equals("linear") || type.equals("yarn")) {
      out.put(scaling + "type", MetadataValue.string(type));
      out.put(scaling + "factor", MetadataValue.float32((float) config.positive("factor", 1)));
    }
    if (type.equals("yarn")) {
      out.put(scaling + "original_context_length", MetadataValue.uint32(originalContext));
      put(out, scaling + "yarn_ext_factor", config.number("extrapolation_factor"));
      boolean spelledOut = config.json().has("attention_factor");
      put(out, scaling + "yarn_attn_factor", config.number(spelledOut ? "attention_factor" : "attn_factor"));
      put(out, scaling + "yarn_beta_fast", config.number("beta_fast"));
      put(out, scaling + "yarn_beta_slow", config.number("beta_slow"));
    }
    out.put(architecture + ".rope.freq_base", MetadataValue.float32((float) theta));
  }

  private static void put(Map<String, MetadataValue> out, String key, OptionalDouble value) {
    value.ifPresent(number -> out.put(key, MetadataValue.float32((float) number)));
  }

  /** Whether frequencies are scaled one by one, as Llama 3.1 does, so that GGUF needs a tensor of divisors. */
  boolean hasFrequencyFactors() {
    return type.equals("llama3");
  }

  /**
   * The divisors of the frequencies: 1 for short waves, {@code factor} for long ones, in between interpolated. The formula is that
   * of Llama 3.1's {@code apply_scaling}; every step is rounded to single precision where llama.cpp's converter does.
   *
   * @param headSize the size of a head
   * @return {@code headSize / 2} divisors
   */
  float[] frequencyFactors(int headSize) throws FormatException {
    double factor = config.positive("factor", 8);
    double low = config.positive("low_freq_factor", 1);
    double high = config.positive("high_freq_factor", 4);
    if (low >= high) {
      throw config.malformed("high_freq_factor", "more than low_freq_factor " + low);
    }
    float longest = (float) (originalContext / low);
    float shortest = (float) (originalContext / high);
    float[] factors = new float[headSize / 2];
    for (int i = 0; i < factors.length; i++) {
      float exponent = (2f * i) / headSize;
      float frequency = 1f / (float) Math.pow(theta, exponent);
      float wavelength = (1f / frequency) * (float) (2 * Math.PI);
      if (wavelength < shortest) {
        factors[i] = 1;
      } else if (wavelength > longest) {
        factors[i] = (float) factor;
      } else {
        float smooth = ((1f / wavelength) * originalContext - (float) low) / (float) (high - low);
        factors[i] = 1f / ((1f - smooth) / (float) factor + smooth);
      }
    }
    return factors;
  }
}
