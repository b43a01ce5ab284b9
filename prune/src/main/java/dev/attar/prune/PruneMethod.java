package dev.attar.prune;

import java.util.Locale;

/** How the weights that are removed are chosen. */
public enum PruneMethod {
  /** The smallest. */
  MAGNITUDE,
  /**
   * The smallest times the norm of their inputs (Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2024).
   */
  WANDA,
  /**
   * Those whose removal the other weights of the row can best make up for, which they do (Frantar and Alistarh, "SparseGPT: Massive
   * Language Models Can Be Accurately Pruned in One-Shot", 2023).
   */
  SPARSEGPT;

  /** Whether it needs to know what enters a layer. */
  public boolean needsText() {
    return this != MAGNITUDE;
  }

  /** Whether it solves for the weights that are left, with a Gram matrix. */
  public boolean solves() {
    return this == SPARSEGPT;
  }

  /** As users write it: {@code wanda}. */
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }
}
