package dev.attar.compute;

/** What a teacher says of the next token, for each row of a student's logits. */
public sealed interface TeacherRows {
  /**
   * All of it.
   *
   * @param logits (n, vocabulary), finite or negative infinity
   */
  record Logits(Matrix logits) implements TeacherRows {}

  /**
   * The likeliest tokens, and the rest's mass. The divergence is that of distributions over k + 1 events then: the tokens, and any other
   * one.
   *
   * @param tokens (n, k) row-major, k different ones in each row, at least 1 and less than the vocabulary
   * @param logProbabilities (n, k + 1): the logarithms of the tokens' probabilities at the loss's temperature, and of the rest's mass,
   *     which may be negative infinity
   */
  record Top(int[] tokens, Matrix logProbabilities) implements TeacherRows {}
}
