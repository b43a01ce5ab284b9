package dev.attar.cli;

import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;

/**
 * Whether what was made is better than plain quantization at the same bytes.
 *
 * @param bytes how many
 * @param name what was made
 * @param divergence its mean KL divergence; empty if it could not be measured
 * @param plain that of plain quantization; empty if it could not be measured
 * @param obstacle why there is no plain quantization at these bytes, a clause; empty if there is one
 */
record Verdict(long bytes, String name, OptionalDouble divergence, OptionalDouble plain, Optional<String> obstacle) {
  /** What differs by less is not told apart. */
  private static final double SAME = 1.005;

  /** Which is better: {@code plain}, {@code lowrank}, {@code neither} or {@code unknown}. */
  String better() {
    if (divergence.isEmpty() || plain.isEmpty()) {
      return "unknown";
    }
    return ratio() < SAME ? "neither" : plain.getAsDouble() < divergence.getAsDouble() ? "plain" : "lowrank";
  }

  /** The larger divergence over the smaller one. */
  private double ratio() {
    double more = Math.max(plain.getAsDouble(), divergence.getAsDouble());
    double less = Math.min(plain.getAsDouble(), divergence.getAsDouble());
    return more == less ? 1 : less <= 0 ? Double.POSITIVE_INFINITY : more / less;
  }

  /** In one line. */
  String line() {
    String at = "at " + Text.size(bytes) + ": ";
    if (obstacle.isPresent()) {
      return at + obstacle.get() + "; " + name + has(divergence, " has KL divergence ");
    }
    String values = at + "plain quantization" + has(plain, " has KL divergence ") + ", " + name + has(divergence, " ");
    return switch (better()) {
      case "unknown" -> values;
      case "neither" -> values + ": no difference";
      case String better -> values +
      ": " +
      (better.equals("plain") ? "plain quantization" : name) +
      " is better" +
      (Double.isFinite(ratio()) ? " (" + Text.number(ratio(), 2) + " times less)" : "");
    };
  }

  private static String has(OptionalDouble divergence, String words) {
    return divergence.isEmpty() ? " could not be measured" : words + Text.number(divergence.getAsDouble(), 3);
  }

  /** For programs. */
  Map<String, Object> json() {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("bytes", bytes);
    json.put("name", name);
    divergence.ifPresent(value -> json.put("kl_divergence", value));
    plain.ifPresent(value -> json.put("plain_kl_divergence", value));
    json.put("better", better());
    json.put("verdict", line());
    return json;
  }
}
