package dev.attar.distill.train;

import java.util.ArrayList;
import java.util.List;

/** How long steps, validations and checkpoints take, in seconds. */
final class Pace {

  private final int validationEvery;
  private final int checkpointEvery;
  private final List<Double> steps = new ArrayList<>();
  private double stepBefore;
  private double validation;
  private double checkpoint;

  Pace(int validationEvery, int checkpointEvery) {
    this.validationEvery = validationEvery;
    this.checkpointEvery = checkpointEvery;
  }

  /**
   * Begins with the steps of a phase.
   *
   * @param before what a step took in the run before; 0 if that is not known
   */
  void begin(double before) {
    steps.clear();
    stepBefore = before;
  }

  void addStep(double seconds) {
    steps.add(seconds);
  }

  void addValidation(double seconds) {
    validation = Math.max(validation, seconds);
  }

  void addCheckpoint(double seconds) {
    checkpoint = Math.max(checkpoint, seconds);
  }

  /** Steps of the phase in this run. */
  int steps() {
    return steps.size();
  }

  /** What these took together. */
  double sum() {
    return steps.stream().mapToDouble(Double::doubleValue).sum();
  }

  /** What a step takes in the mean. */
  double step() {
    return steps.isEmpty() ? stepBefore : sum() / steps.size();
  }

  /** The most that a validation has taken. */
  double validation() {
    return validation;
  }

  /** What comes after the last step. */
  double end() {
    return validation + checkpoint;
  }

  /** What a step will take, with its part of validations and checkpoints. */
  double settledStep() {
    // The first ones are slow: code is being compiled.
    List<Double> later = steps.subList(steps.size() / 2, steps.size());
    double one = later.stream().mapToDouble(Double::doubleValue).average().orElse(0);
    return one + validation / validationEvery + checkpoint / checkpointEvery;
  }

  /** What so many steps will take, and the validations after them if there are any. */
  double of(int count, boolean validated) {
    return count * step() + (validated ? Math.ceilDiv(count, validationEvery) * validation : 0);
  }
}
