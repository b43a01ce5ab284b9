package dev.attar.distill.train;

import java.time.Duration;
import java.util.Optional;
import java.util.function.LongSupplier;

/** How long training has taken, in all runs, and how long it may take. */
final class TimeBudget {

  /** The part of the time after which the number of steps is settled, and the least number of steps. */
  private static final double SEEN = 0.05;

  private static final int LEAST_STEPS = 8;

  /** The part of the time that is planned for: the rest is for what takes longer than it did. */
  private static final double PLANNED = 0.98;

  /** The part of the time after which reconstruction ends. */
  private static final double RECONSTRUCTION = 0.25;

  private final LongSupplier nanos;
  private final long begin;
  private final double before;
  private final double most;

  /**
   * @param nanos a clock
   * @param begin what it said when this run began
   * @param before seconds that runs before this one have taken
   * @param most how long all may take; empty for any time
   */
  TimeBudget(LongSupplier nanos, long begin, double before, Optional<Duration> most) {
    this.nanos = nanos;
    this.begin = begin;
    this.before = before;
    this.most = most.map(TimeBudget::seconds).orElse(Double.POSITIVE_INFINITY);
  }

  private static double seconds(Duration duration) {
    return duration.toNanos() / 1e9;
  }

  /** Seconds since some time in the past. */
  double now() {
    return nanos.getAsLong() / 1e9;
  }

  /** Seconds of all runs. */
  double seconds() {
    return before + (nanos.getAsLong() - begin) / 1e9;
  }

  /** Seconds that are left; infinite if there is no limit. */
  double left() {
    return most - seconds();
  }

  /** Whether reconstruction has taken its part of the time: the student learns more in distillation. */
  boolean isReconstructionUp() {
    return seconds() >= RECONSTRUCTION * most;
  }

  /**
   * Whether enough has been seen to say how many steps there will be.
   *
   * @param steps of the phase in this run
   * @param stepSeconds that they took
   */
  boolean canEstimate(int steps, double stepSeconds) {
    return steps >= LEAST_STEPS && stepSeconds >= SEEN * most;
  }

  /**
   * How many steps more there is time for.
   *
   * @param reserved seconds for what comes at the end
   * @param perStep seconds that a step takes, with its part of validations and checkpoints
   * @return at least 1
   */
  int estimate(double reserved, double perStep) {
    return (int) Math.clamp((PLANNED * left() - reserved) / perStep, 1, Integer.MAX_VALUE / 2);
  }
}
