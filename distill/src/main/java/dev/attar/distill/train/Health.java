package dev.attar.distill.train;

/**
 * Watches the losses of a phase: training has diverged if {@value #PATIENCE} steps one after the other lose more than twice what the first
 * one did and {@code slack} more. A loss that was small from the beginning may well rise for a while; this is far beyond that.
 */
final class Health {

  /** Steps with a high loss that are too many. */
  static final int PATIENCE = 20;

  private final double slack;
  private double most = Double.NaN;
  private int high;

  /**
   * @param slack how much a loss may rise in any case: a nat for losses of distributions
   */
  Health(double slack) {
    this.slack = slack;
  }

  /** A step's loss. */
  void see(double loss) {
    if (Double.isNaN(most)) {
      most = 2 * loss + slack;
    }
    high = loss > most ? high + 1 : 0;
  }

  /** Whether the last loss was high, so that what came of it should not replace what was good. */
  boolean isHigh() {
    return high > 0;
  }

  /** Whether training has diverged. */
  boolean hasDiverged() {
    return high >= PATIENCE;
  }

  /** The highest loss that is not high. */
  double most() {
    return most;
  }
}
