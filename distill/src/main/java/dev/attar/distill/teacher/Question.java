package dev.attar.distill.teacher;

/**
 * What a teacher is asked of some windows.
 *
 * @param windows their numbers; not copied and must not be changed
 * @param distribution how what it predicts is wanted
 * @param states the blocks after which the residual stream is wanted, ascending: block 0's number is 0, and -1 stands for what enters it;
 *     not copied and must not be changed
 */
public record Question(int[] windows, Distribution distribution, int[] states) {
  /** How what a teacher predicts is wanted. */
  public sealed interface Distribution {
    /** Not at all. */
    record None() implements Distribution {}

    /** All logits. */
    record Logits() implements Distribution {}

    /**
     * The likeliest tokens, and the mass of the rest.
     *
     * @param k how many, at least 1 and less than the vocabulary
     * @param temperature what logits are divided by before the softmax, above 0
     */
    record Top(int k, float temperature) implements Distribution {}
  }
}
