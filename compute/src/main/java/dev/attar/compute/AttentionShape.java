package dev.attar.compute;

/**
 * How attention is cut into sequences and heads.
 *
 * @param length tokens in a sequence, a divisor of the number of rows
 * @param heads heads of queries
 * @param groups heads of keys and of values, a divisor of {@code heads}
 * @param size numbers in a head
 * @param scale what the products of queries and keys are multiplied with, above 0: usually {@code 1 / sqrt(size)}
 * @param window how many positions each one sees, itself among them; 0 for all up to itself
 */
public record AttentionShape(int length, int heads, int groups, int size, float scale, int window) {
  public AttentionShape {
    boolean fits = length >= 1 && groups >= 1 && heads >= 1 && heads % groups == 0 && size >= 1;
    if (!fits || (long) heads * size > Integer.MAX_VALUE || window < 0 || !(scale > 0)) {
      throw new IllegalArgumentException(
        "attention over %d positions with %d heads in %d groups of size %d, scale %s, window %d".formatted(
          length,
          heads,
          groups,
          size,
          scale,
          window
        )
      );
    }
  }

  /** The first position that one sees. */
  public int first(int position) {
    return window == 0 ? 0 : Math.max(0, position - window + 1);
  }
}
