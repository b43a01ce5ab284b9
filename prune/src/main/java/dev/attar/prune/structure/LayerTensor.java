package dev.attar.prune.structure;

import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Whose a tensor of a layer is: {@code blk.3.ffn_up.weight} is the {@code ffn_up.weight} of layer 3.
 *
 * @param layer its number
 * @param part what it is in the layer
 */
record LayerTensor(int layer, String part) {
  private static final Pattern NAME = Pattern.compile("blk\\.(0|[1-9]\\d{0,5})\\.(.+)");

  /** Reads a name; empty if it is no layer's. */
  static Optional<LayerTensor> of(String name) {
    Matcher matcher = NAME.matcher(name);
    return matcher.matches()
      ? Optional.of(new LayerTensor(Integer.parseInt(matcher.group(1)), matcher.group(2)))
      : Optional.empty();
  }

  /** The tensor's name. */
  String name() {
    return "blk." + layer + "." + part;
  }

  /** Whether it belongs to attention, norm before it included. */
  boolean isAttention() {
    return part.startsWith("attn_");
  }
}
