package dev.attar.compute;

/** How many weights of a matrix are removed, and from where. */
public sealed interface Sparsity {
  /** The longest run of columns that a {@link Pattern} can be of. */
  int LONGEST_PATTERN = 32;

  /**
   * Of each row of the weights, so many.
   *
   * @param removed at least 0, at most the number of columns
   */
  record Rows(int removed) implements Sparsity {}

  /**
   * Of the whole matrix, so many.
   *
   * @param removed at least 0, at most the number of weights
   */
  record Whole(long removed) implements Sparsity {}

  /**
   * Of each {@code of} consecutive columns of a row, all but {@code kept}: 2:4, 4:8.
   *
   * @param kept at least 0, at most {@code of}
   * @param of a power of two up to {@value #LONGEST_PATTERN} that divides the number of columns
   */
  record Pattern(int kept, int of) implements Sparsity {
    public int removed() {
      return of - kept;
    }
  }
}
