package dev.attar.distill.train;

import dev.attar.distill.DistillOptions.Loss;

/** Losses summed up over the rows of some windows, in double precision and the order of the rows. */
final class LossSums {

  private final int context;
  private long windows;
  private double divergence;
  private double crossEntropy;
  private double states;

  /**
   * @param context tokens in a window
   */
  LossSums(int context) {
    this.context = context;
  }

  /** Counts windows whose rows are added. */
  void addWindows(int count) {
    windows += count;
  }

  /** Adds a row's losses. */
  void addRow(double rowDivergence, double rowCrossEntropy) {
    divergence += rowDivergence;
    crossEntropy += rowCrossEntropy;
  }

  /** Adds what a row loses in hidden states, or a block in its fit. */
  void addStates(double row) {
    states += row;
  }

  /** The mean over tokens, in nats. */
  double divergence() {
    return divergence / (windows * context);
  }

  /** The mean over the tokens that have one after them in their window, in nats. */
  double crossEntropy() {
    return crossEntropy / (windows * (context - 1));
  }

  /**
   * The mean over tokens.
   *
   * @param each how many states each token has
   */
  double states(int each) {
    return states / (windows * context * each);
  }

  /** What is not finite; what is minimized if nothing else. */
  String notFinite() {
    if (!Double.isFinite(divergence)) {
      return "divergence";
    }
    if (!Double.isFinite(crossEntropy)) {
      return "cross-entropy";
    }
    return Double.isFinite(states) ? "loss" : "loss of hidden states";
  }

  /** What is minimized. */
  double total(Loss loss) {
    double total = loss.crossEntropyWeight() * crossEntropy();
    if (loss.divergenceWeight() > 0) {
      total += (double) loss.divergenceWeight() * loss.temperature() * loss.temperature() * divergence();
    }
    return loss.comparesStates() ? total + loss.statesWeight() * states(loss.states().size()) : total;
  }
}
