package dev.attar.quant.gptq;

/**
 * How much work GPTQ spends on a matrix.
 *
 * @param level the number that the user says
 * @param reach how far the walk looks for scales: see {@link dev.attar.compute.Device#columnWalk}
 * @param passes passes of refinement after the walk
 * @param scales whether the refinement changes scales too
 */
public record Effort(int level, int reach, int passes, boolean scales) {
  /** What is done unless the user says otherwise. */
  public static final int DEFAULT = 2;

  /** The most that can be asked for. */
  public static final int MOST = 3;

  /**
   * The effort of a level: 0 walks the columns with the scales of rounding, 1 chooses scales nearby on the way and refines once, 2 looks
   * further and refines twice, 3 does more of both.
   *
   * @param level 0 to {@link #MOST}
   */
  public static Effort of(int level) {
    return switch (level) {
      case 0 -> new Effort(0, 0, 0, false);
      case 1 -> new Effort(1, 1, 1, true);
      case 2 -> new Effort(2, 3, 2, true);
      case 3 -> new Effort(3, 6, 6, true);
      default -> throw new IllegalArgumentException("effort " + level + ", expected 0 to " + MOST);
    };
  }
}
