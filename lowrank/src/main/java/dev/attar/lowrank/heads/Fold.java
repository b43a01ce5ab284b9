package dev.attar.lowrank.heads;

/**
 * Neighbouring rotary pairs, with neighbouring frequencies, in whose place there are fewer.
 *
 * @param first the first pair
 * @param count how many pairs
 * @param kept how many are there instead, 0 to {@code count}; {@code count} only if that is 1, which stays as it is then
 * @param frequency the pair whose frequency those have
 */
public record Fold(int first, int count, int kept, int frequency) {
  /** Whether it is a pair that stays as it is. */
  boolean isWhole() {
    return kept == count;
  }
}
