package dev.attar.prune.structure;

/** What is removed as a whole. */
public enum Structure {
  /** Neurons of the feed-forward networks: rows of {@code ffn_gate} and {@code ffn_up}, columns of {@code ffn_down}. */
  FFN,
  /** Heads of attention, in whole groups: a head of keys and values with all heads of queries that use it. */
  HEADS,
  /** Whole layers. */
  LAYERS
}
