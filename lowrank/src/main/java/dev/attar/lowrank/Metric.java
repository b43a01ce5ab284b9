package dev.attar.lowrank;

/** What a factorization makes as small as it can be. */
public enum Metric {
  /** The squared error of the weights: plain SVD. */
  PLAIN("svd"),

  /** The squared error of what the layer puts out on the calibration text, as SVD-LLM (Wang et al., 2024). */
  ACTIVATION("activation");

  private final String word;

  Metric(String word) {
    this.word = word;
  }

  /** How users call it. */
  public String word() {
    return word;
  }
}
