package dev.attar.calibration;

/** Hears how far a {@link Calibrator} is, on the thread that uses it. */
@FunctionalInterface
public interface CalibrationListener {
  /** What runs over the text. */
  enum Phase {
    /** {@link Calibrator#importance}. */
    IMPORTANCE,
    /** {@link Calibrator#grams}. */
    GRAMS,
    /** {@link Calibrator#influence}. */
    INFLUENCE
  }

  /**
   * Another window was run.
   *
   * @param done windows of this pass so far, from 1
   * @param windows windows in a pass
   */
  void window(Phase phase, int done, int windows);
}
