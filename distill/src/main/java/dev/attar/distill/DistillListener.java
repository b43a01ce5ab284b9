package dev.attar.distill;

import java.time.Duration;
import java.util.Optional;

/** Told how training goes, on the thread that trains. */
public interface DistillListener {
  /** What is under way. */
  void at(String phase, long done, long total, String unit);

  /** A step is done. */
  void step(Step step);

  /** The student was validated. */
  void validated(Validation validation);

  /** Which device computes, one line. */
  void device(String line);

  /** Something that the user should know, one line. */
  void warn(String message);

  /**
   * A step.
   *
   * @param phase {@code reconstruction} or {@code distillation}
   * @param number from 1
   * @param steps how many there will be; 0 while that is not known
   * @param loss what is minimized, mean over the step's tokens
   * @param divergence from the teacher, in nats; NaN where there is none
   * @param crossEntropy on the text, in nats; NaN where there is none
   * @param states loss of hidden states; NaN where there is none
   * @param gradientNorm before clipping
   * @param rate the learning rate
   * @param tokensPerSecond so far in this phase and run
   * @param left how long the phase will take; empty where that is not known yet
   */
  record Step(
    String phase,
    int number,
    int steps,
    double loss,
    double divergence,
    double crossEntropy,
    double states,
    double gradientNorm,
    double rate,
    double tokensPerSecond,
    Optional<Duration> left
  ) {}

  /**
   * A validation, over all windows that are held out.
   *
   * @param phase {@code start}, {@code reconstruction} (at its end) or {@code distillation}
   * @param step after how many steps of the phase
   * @param loss what is minimized
   * @param divergence from the teacher, in nats; NaN where there is none
   * @param crossEntropy on the text, in nats: its exponential is the perplexity
   * @param best whether it is the lowest loss so far
   */
  record Validation(String phase, int step, double loss, double divergence, double crossEntropy, boolean best) {}
}
