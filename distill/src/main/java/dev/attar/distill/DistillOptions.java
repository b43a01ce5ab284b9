package dev.attar.distill;

import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DistributionLoss.Divergence;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/**
 * How a student is trained.
 *
 * @param loss what is minimized
 * @param reconstruction the first phase, in which each block learns alone; empty for none
 * @param schedule how long, and how fast
 * @param batch sequences of a step
 * @param micro sequences that are computed together, a divisor of {@code batch}; empty for as many as are fast
 * @param context tokens in a sequence
 * @param recompute whether blocks' activations are computed anew for gradients; empty for where memory is short
 * @param validationEvery steps between validations
 * @param checkpointEvery steps between checkpoints
 * @param seed of the order of windows and of fresh projections
 * @param threads how many compute, the teacher's too
 * @param device what computes
 * @param maxMemory the most bytes that training may take on the device; empty for what is there
 */
public record DistillOptions(
  Loss loss,
  Optional<Reconstruction> reconstruction,
  Schedule schedule,
  int batch,
  OptionalInt micro,
  int context,
  Optional<Boolean> recompute,
  int validationEvery,
  int checkpointEvery,
  long seed,
  int threads,
  DeviceChoice device,
  OptionalLong maxMemory
) {
  public DistillOptions {
    require(batch >= 1, "batch", batch, "at least 1");
    if (micro.isPresent()) {
      int part = micro.getAsInt();
      require(part >= 1 && batch % part == 0, "micro", part, "a divisor of the batch, " + batch);
    }
    require(context >= 2, "context", context, "at least 2");
    require(validationEvery >= 1, "validationEvery", validationEvery, "at least 1");
    require(checkpointEvery >= 1, "checkpointEvery", checkpointEvery, "at least 1");
    require(threads >= 1, "threads", threads, "at least 1");
  }

  private static void require(boolean good, String what, Object found, String expected) {
    if (!good) {
      throw new IllegalArgumentException(what + " " + found + ", expected " + expected);
    }
  }

  private static boolean isWeight(float value) {
    return value >= 0 && value < Float.POSITIVE_INFINITY;
  }

  /**
   * What is minimized: a sum of weighted means over tokens.
   *
   * @param divergence the kind of divergence between teacher and student
   * @param beta of the generalized Jensen-Shannon divergence, above 0 and below 1
   * @param temperature of the divergence, above 0
   * @param divergenceWeight 0 for none: the teacher is not asked for distributions then
   * @param crossEntropyWeight weight of the cross-entropy on the text
   * @param top how many of the teacher's likeliest tokens count; empty for all
   * @param states hidden states that are compared
   * @param statesWeight weight of their mean
   * @param cosine whether states are compared by direction, otherwise by mean squared difference
   */
  public record Loss(
    Divergence divergence,
    float beta,
    float temperature,
    float divergenceWeight,
    float crossEntropyWeight,
    OptionalInt top,
    List<StatePair> states,
    float statesWeight,
    boolean cosine
  ) {
    public Loss {
      states = List.copyOf(states);
      boolean mixed = divergence == Divergence.JENSEN_SHANNON;
      require(!mixed || (beta > 0 && beta < 1), "beta", beta, "above 0 and below 1");
      require(temperature > 0 && isWeight(temperature), "temperature", temperature, "above 0");
      require(isWeight(divergenceWeight), "divergenceWeight", divergenceWeight, "at least 0");
      require(isWeight(crossEntropyWeight), "crossEntropyWeight", crossEntropyWeight, "at least 0");
      require(isWeight(statesWeight), "statesWeight", statesWeight, "at least 0");
      require(top.orElse(1) >= 1, "top", top, "at least 1");
      boolean any = divergenceWeight > 0 || crossEntropyWeight > 0 || (statesWeight > 0 && !states.isEmpty());
      require(any, "loss", "of weights 0", "something to minimize");
    }

    /** Whether hidden states count. */
    public boolean comparesStates() {
      return statesWeight > 0 && !states.isEmpty();
    }
  }

  /**
   * What leaves a block of the student is to be what leaves a block of the teacher, through a learned projection if their widths differ.
   *
   * @param student the student's block, from 0; -1 for what enters the first
   * @param teacher the teacher's block, from 0; -1 for what enters the first
   */
  public record StatePair(int student, int teacher) {
    public StatePair {
      require(student >= -1, "state of the student's block", student, "at least -1");
      require(teacher >= -1, "state of the teacher's block", teacher, "at least -1");
    }
  }

  /**
   * Block reconstruction: each block of the student is given what enters a range of the teacher's blocks, and learns to give what leaves
   * it.
   *
   * @param ends for each block of the student the teacher's block after which it ends, ascending; it begins where the one before it ends
   * @param steps how many steps, each with one batch for all blocks
   * @param rate the learning rate at its highest
   */
  public record Reconstruction(List<Integer> ends, int steps, float rate) {
    public Reconstruction {
      ends = List.copyOf(ends);
      for (int i = 0; i < ends.size(); i++) {
        require(ends.get(i) > (i == 0 ? -1 : ends.get(i - 1)), "ends", ends, "ascending numbers from 0");
      }
      require(steps >= 1, "steps of reconstruction", steps, "at least 1");
      require(rate > 0 && isWeight(rate), "rate of reconstruction", rate, "above 0");
    }
  }

  /**
   * How long, and how fast.
   *
   * @param steps how many steps; empty for one that reads the text once, or as many as fit into {@code maxTime}
   * @param maxTime how long training may take in all, reconstruction too, which ends after a quarter of it; empty for any time. If {@code
   *     steps} is empty, the number of steps is estimated after the first ones, and kept when training is resumed
   * @param rate the learning rate at its highest
   * @param warmup steps in which it rises from 0
   * @param leastRate the part of it that is left at the end of the cosine, 0 to 1
   * @param beta1 of AdamW
   * @param beta2 of AdamW
   * @param epsilon of AdamW
   * @param decay of AdamW
   * @param clip the largest norm of the gradient, above 0: longer ones are shortened to it
   */
  public record Schedule(
    OptionalInt steps,
    Optional<Duration> maxTime,
    float rate,
    int warmup,
    float leastRate,
    float beta1,
    float beta2,
    float epsilon,
    float decay,
    float clip
  ) {
    public Schedule {
      require(steps.orElse(1) >= 1, "steps", steps, "at least 1");
      require(rate > 0 && isWeight(rate), "rate", rate, "above 0");
      require(warmup >= 0, "warmup", warmup, "at least 0");
      require(leastRate >= 0 && leastRate <= 1, "leastRate", leastRate, "0 to 1");
      require(beta1 >= 0 && beta1 < 1, "beta1", beta1, "at least 0 and below 1");
      require(beta2 >= 0 && beta2 < 1, "beta2", beta2, "at least 0 and below 1");
      require(epsilon > 0 && isWeight(epsilon), "epsilon", epsilon, "above 0");
      require(isWeight(decay), "decay", decay, "at least 0");
      require(clip > 0, "clip", clip, "above 0");
    }
  }
}
