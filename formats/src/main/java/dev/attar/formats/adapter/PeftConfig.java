package dev.attar.formats.adapter;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.architecture.CheckpointConfig;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * What PEFT's {@code adapter_config.json} says of ranks and scales. {@code fan_in_fan_out} is not looked at: it is about layers that no
 * architecture here has, and PEFT ignores it for others.
 */
final class PeftConfig {

  private static final int MAX_RANK = 1 << 20;

  /** Ways to begin a training that change the base: what is learnt is not about the original. */
  private static final List<String> CHANGING_BASE = List.of("pissa", "olora", "corda", "loftq", "lora_ga");

  private final CheckpointConfig config;
  private final long rank;
  private final double alpha;
  private final boolean rootScaled;

  private PeftConfig(CheckpointConfig config) throws FormatException {
    this.config = config;
    requireMergeable();
    rank = config.count("r", 1, MAX_RANK);
    alpha = config.number("lora_alpha").orElseThrow(() -> missing(config, "lora_alpha"));
    rootScaled = config.flag("use_rslora", false);
    config.object("rank_pattern");
    config.object("alpha_pattern");
  }

  /**
   * Reads it.
   *
   * @throws FormatException if it is malformed, or of an adapter that cannot be merged
   */
  static PeftConfig read(Path file) throws IOException {
    return new PeftConfig(CheckpointConfig.read(file));
  }

  private static FormatException missing(CheckpointConfig config, String key) {
    return new FormatException(config.file(), key, "nothing", "a number");
  }

  private void requireMergeable() throws FormatException {
    if (!config.text("peft_type", "nothing").equals("LORA")) {
      throw config.malformed("peft_type", "LORA: others cannot be merged");
    }
    if (config.flag("use_dora", false)) {
      throw config.malformed("use_dora", "false: DoRA cannot be merged");
    }
    if (!config.text("bias", "none").equals("none")) {
      throw config.malformed("bias", "none: biases cannot be merged");
    }
    if (config.flag("lora_bias", false)) {
      throw config.malformed("lora_bias", "false: biases cannot be merged");
    }
    for (String key : List.of("modules_to_save", "layer_replication", "trainable_token_indices", "target_parameters")) {
      JsonNode value = config.json().path(key);
      if (config.has(key) && !(value.isContainerNode() && value.isEmpty())) {
        throw config.malformed(key, "nothing: an adapter that is more than LoRA of layers cannot be merged");
      }
    }
    if (config.has("alora_invocation_tokens")) {
      throw config.malformed("alora_invocation_tokens", "nothing: an activated LoRA cannot be merged");
    }
    String start = config.json().path("init_lora_weights").asText("");
    if (CHANGING_BASE.stream().anyMatch(start::startsWith)) {
      throw config.malformed(
        "init_lora_weights",
        "one that leaves the base as it is: such an adapter is for another base"
      );
    }
  }

  /**
   * The rank of a module.
   *
   * @param module its name in the base, {@code model.layers.0.self_attn.q_proj}
   */
  long rank(String module) throws FormatException {
    String key = pattern("rank_pattern", module);
    return key == null ? rank : config.object("rank_pattern").count(key, 1, MAX_RANK);
  }

  /** What the product of a module's factors is multiplied by. */
  float scale(String module) throws FormatException {
    String key = pattern("alpha_pattern", module);
    double own = key == null ? alpha : config.object("alpha_pattern").number(key).orElse(alpha);
    double size = rank(module);
    return (float) (own / (rootScaled ? Math.sqrt(size) : size));
  }

  /** The first of the regular expressions that a module's name matches, from the beginning or behind a dot; {@code null} for none. */
  private String pattern(String patterns, String module) throws FormatException {
    for (var entry : config.object(patterns).json().properties()) {
      try {
        if (Pattern.compile("(.*\\.)?(" + entry.getKey() + ")").matcher(module).matches()) {
          return entry.getKey();
        }
      } catch (PatternSyntaxException e) {
        String problem = patterns + ": " + entry.getKey() + " is no regular expression: " + e.getDescription();
        throw (FormatException) new FormatException(config.file(), problem).initCause(e);
      }
    }
    return null;
  }
}
