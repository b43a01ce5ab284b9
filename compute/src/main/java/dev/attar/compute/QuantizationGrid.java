package dev.attar.compute;

import java.util.Arrays;

/**
 * The values that weights can take, as block formats store them. The weight in column j and row r is
 *
 * <pre>  (d[j / blockLength][r] * scale[j / groupLength][r]) * level - dmin[j / blockLength][r] * minimum[j / groupLength][r]</pre>
 *
 * where the level is one of a few numbers; or it is 0 for ever, because the weight was pruned. Matrices have a column per row of the
 * weights, so that neighbours belong to neighbouring rows.
 *
 * @param levels the levels in ascending order, at least two
 * @param groupLength number of weights of a row that share a scale and a minimum
 * @param blockLength number of weights of a row that share d and dmin: a multiple of the group's that divides {@value #LONGEST_BLOCK};
 *     the group's if scales are fixed
 * @param leastScale the least scale, a whole number
 * @param mostScale the greatest scale, a whole number; the least one if scales are fixed
 * @param leastMinimum the least minimum, a whole number
 * @param mostMinimum the greatest minimum, a whole number; 0 if there are none
 * @param d (blocks, rows), half-precision numbers
 * @param dmin (blocks, rows), half-precision numbers
 * @param scale (groups, rows), whole numbers
 * @param minimum (groups, rows), whole numbers
 * @param pruned (columns, rows): where it is 0, the only level of the weight is 0; {@code null} for nowhere. Then 0 must be among the
 *     levels, and there must be no minimums, so that level 0 stands for exactly 0
 */
public record QuantizationGrid(
  float[] levels,
  int groupLength,
  int blockLength,
  int leastScale,
  int mostScale,
  int leastMinimum,
  int mostMinimum,
  Matrix d,
  Matrix dmin,
  Matrix scale,
  Matrix minimum,
  Matrix pruned
) {
  /** The most weights that can share d and dmin. */
  public static final int LONGEST_BLOCK = 256;

  public QuantizationGrid {
    levels = levels.clone();
    if (levels.length < 2) {
      throw new IllegalArgumentException(levels.length + " levels, expected at least 2");
    }
    for (int i = 1; i < levels.length; i++) {
      if (!(levels[i] > levels[i - 1])) {
        throw new IllegalArgumentException("levels that do not ascend: " + levels[i - 1] + ", " + levels[i]);
      }
    }
    if (
      groupLength < 1 ||
      blockLength < 1 ||
      blockLength % groupLength != 0 ||
      LONGEST_BLOCK % blockLength != 0 ||
      (leastScale == mostScale && blockLength != groupLength)
    ) {
      throw new IllegalArgumentException("groups of " + groupLength + " in blocks of " + blockLength);
    }
    int rows = d.columns();
    int groups = d.rows() * (blockLength / groupLength);
    if (
      dmin.rows() != d.rows() ||
      dmin.columns() != rows ||
      scale.rows() != groups ||
      scale.columns() != rows ||
      minimum.rows() != groups ||
      minimum.columns() != rows
    ) {
      throw new IllegalArgumentException("matrices of a grid that do not fit each other");
    }
    if (pruned != null) {
      if (pruned.rows() != d.rows() * blockLength || pruned.columns() != rows) {
        throw new IllegalArgumentException("pruned weights that do not fit the grid");
      }
      if (mostMinimum > 0 || Arrays.binarySearch(levels, 0) < 0) {
        throw new IllegalArgumentException("pruned weights on a grid where they cannot be exactly 0");
      }
    }
  }

  /** A grid without pruned weights. */
  public QuantizationGrid(
    float[] levels,
    int groupLength,
    int blockLength,
    int leastScale,
    int mostScale,
    int leastMinimum,
    int mostMinimum,
    Matrix d,
    Matrix dmin,
    Matrix scale,
    Matrix minimum
  ) {
    this(
      levels,
      groupLength,
      blockLength,
      leastScale,
      mostScale,
      leastMinimum,
      mostMinimum,
      d,
      dmin,
      scale,
      minimum,
      null
    );
  }

  /** The same grid, with these {@link #pruned} weights. */
  public QuantizationGrid withPruned(Matrix weights) {
    return new QuantizationGrid(
      levels,
      groupLength,
      blockLength,
      leastScale,
      mostScale,
      leastMinimum,
      mostMinimum,
      d,
      dmin,
      scale,
      minimum,
      weights
    );
  }

  /** Number of weights in a row. */
  public int columns() {
    return d.rows() * blockLength;
  }

  /** Number of rows of the weights. */
  public int rows() {
    return d.columns();
  }
}
