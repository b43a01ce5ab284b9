package dev.attar.distill.train;

import java.util.OptionalInt;

/**
 * The learning rate of each step: a straight rise, then half a cosine down (Loshchilov and Hutter, 2017).
 *
 * @param peak at its highest
 * @param warmup steps of the rise; the last of them has the highest rate
 * @param least the part of it that the cosine ends at, 0 to 1
 */
record LearningRate(double peak, int warmup, double least) {
  /**
   * The rate of a step.
   *
   * @param step its number, from 1
   * @param steps how many there will be; while that is not known, the rate stays where the cosine begins
   */
  double at(int step, OptionalInt steps) {
    if (step <= warmup) {
      return (peak * step) / warmup;
    }
    if (steps.isEmpty()) {
      return peak;
    }
    double done = (step - warmup - 1) / (double) (steps.getAsInt() - warmup);
    return peak * (least + (1 - least) * 0.5 * (1 + Math.cos(Math.PI * Math.min(1, done))));
  }
}
