package dev.attar.prune.structure;

import java.util.List;
import java.util.Set;

/** What llama.cpp v0.5.0 allows, by architecture: facts about its loaders and graphs. */
final class Families {

  /** The one whose layers may differ: each has its own number of heads and width of the feed-forward network. */
  static final String NON_UNIFORM = "deci";

  /** Their loaders take {@code key_length} times the number of heads as the width of attention; others want the embedding's. */
  private static final List<String> OTHER_WIDTHS = List.of("llama", "qwen3", NON_UNIFORM);

  /**
   * All layers do the same, and nothing depends on how many there are or on a layer's place. Others may alternate (sliding windows,
   * recurrent layers, layers without positions), begin with dense layers, or guess from the number of layers what the model is.
   */
  private static final List<String> ALIKE = List.of(
    "llama",
    NON_UNIFORM,
    "qwen",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "gpt2",
    "gptneox",
    "bloom",
    "falcon",
    "starcoder",
    "starcoder2",
    "phi2",
    "stablelm",
    "internlm2",
    "xverse",
    "gemma",
    "olmo",
    "olmoe",
    "nemotron",
    "exaone",
    "arcee"
  );

  /** Their neurons depend on each other: one is active only if it is among the largest of its layer. */
  private static final Set<String> COMPETING_NEURONS = Set.of("gemma3n");

  /** What a graph of {@link #NON_UNIFORM} uses in a layer. */
  private static final Set<String> LAYER_PARTS = Set.of(
    "attn_norm.weight",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_gate.bias",
    "ffn_up.weight",
    "ffn_up.bias",
    "ffn_down.weight",
    "ffn_down.bias"
  );

  private static final Set<String> OUTSIDE = Set.of(
    "token_embd.weight",
    "output_norm.weight",
    "output.weight",
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight"
  );

  private Families() {}

  /** Why heads cannot be removed without another architecture; {@code null} if they can. */
  static String obstacleToOtherWidths(String architecture) {
    return OTHER_WIDTHS.contains(architecture)
      ? null
      : "llama.cpp takes heads that do not add up to the embedding's width only of " +
        String.join(", ", OTHER_WIDTHS) +
        ", this is " +
        architecture +
        (canBecomeNonUniform(architecture) ? " (it becomes deci if layers may come to differ)" : "");
  }

  /** Why layers cannot be removed; {@code null} if they can. */
  static String obstacleToFewerLayers(String architecture) {
    return ALIKE.contains(architecture)
      ? null
      : "layers of " + architecture + " are not known to be alike, those of these are: " + String.join(", ", ALIKE);
  }

  /** Why neurons cannot be removed; {@code null} if they can. */
  static String obstacleToFewerNeurons(String architecture) {
    return COMPETING_NEURONS.contains(architecture) ? "neurons of " + architecture + " depend on each other" : null;
  }

  /** Whether {@link #NON_UNIFORM} can do what this does, but for tensors that it does not know. */
  static boolean canBecomeNonUniform(String architecture) {
    return architecture.equals("llama") || architecture.equals("qwen2") || architecture.equals(NON_UNIFORM);
  }

  /** Whether it turns halves of heads by their positions, where {@link #NON_UNIFORM} turns neighbours. */
  static boolean rotatesHalves(String architecture) {
    return architecture.equals("qwen2");
  }

  /** Whether a graph of {@link #NON_UNIFORM} uses a tensor. */
  static boolean isKnownToNonUniform(String tensor) {
    return LayerTensor.of(tensor)
      .map(name -> LAYER_PARTS.contains(name.part()))
      .orElseGet(() -> OUTSIDE.contains(tensor));
  }
}
