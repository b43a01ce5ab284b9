package dev.attar.compute;

import java.util.Arrays;

/**
 * Chooses the scales of a group of columns at the moment when the column walk comes to them: for each candidate the columns are rounded
 * one after the other with feedback among them, and the candidate is kept that leaves the least {@code sum of D_j (x_j - q_j)²}, where
 * x_j is what column j was to become. By the LDL decomposition, that is exactly what the group adds to the whole error if the columns
 * after it can be chosen freely. Rows in lanes; an object serves one thread.
 */
final class ScaleSearch {

  private static final int L = LaneKernel.LANES;

  /** Of formats without scales of groups, d itself is varied in these steps, further down than up. */
  private static final float STEP = 0.03f;

  private final LaneKernel kernel;
  private final QuantizationGrid form;
  private final Levels levels;
  private final LaneGrid grid;
  private final int reach;

  /** Input: what the columns are to become without feedback from each other, and the weights; (group, lanes). */
  final float[] target;

  final float[] weight;

  /** Input: what is left of the weights after pruning; null if nothing is pruned. */
  final float[] unpruned;

  /** Input: the diagonal D, and the factor among the columns, transposed; the column of the highest number is rounded first. */
  final float[] diagonal;

  final float[] factor;

  /** Output: what multiplies levels, and what is added, per lane. */
  final float[] step = new float[L];

  final float[] offset = new float[L];

  private final float[] d = new float[L];
  private final float[] dmin = new float[L];
  private final float[] s = new float[L];
  private final float[] m = new float[L];
  private final float[] x = new float[L];
  private final float[] level = new float[L];
  private final float[] value = new float[L];
  private final float[] error;
  private final float[] cost = new float[L];
  private final float[] least = new float[L];

  /** The candidate's parameters and the best one's, per lane. */
  private final float[] candidateD = new float[L];

  private final float[] candidateS = new float[L];
  private final float[] candidateM = new float[L];
  private final float[] bestD = new float[L];
  private final float[] bestS = new float[L];
  private final float[] bestM = new float[L];
  private final float[] candidateStep = new float[L];
  private final float[] candidateOffset = new float[L];

  /** @param reach how far scales may be from those of the grid; minimums may be two thirds as far */
  ScaleSearch(LaneKernel kernel, QuantizationGrid form, Levels levels, LaneGrid grid, int reach) {
    this.kernel = kernel;
    this.form = form;
    this.levels = levels;
    this.grid = grid;
    this.reach = reach;
    int length = form.groupLength();
    target = new float[length * L];
    weight = new float[length * L];
    unpruned = grid.hasPruned() ? new float[length * L] : null;
    diagonal = new float[length];
    factor = new float[length * length];
    error = new float[length * L];
  }

  /** Chooses the scales of a group and writes them to the grid. */
  void choose(int group, int row, int lanes) {
    int block = (group * form.groupLength()) / form.blockLength();
    grid.readBlock(block, row, lanes, d, dmin);
    grid.readGroup(group, row, lanes, s, m);
    System.arraycopy(d, 0, bestD, 0, L);
    System.arraycopy(s, 0, bestS, 0, L);
    System.arraycopy(m, 0, bestM, 0, L);
    Arrays.fill(least, Float.POSITIVE_INFINITY);
    if (form.leastScale() < form.mostScale()) {
      int minimums = form.mostMinimum() > form.leastMinimum() ? (2 * reach + 1) / 3 : 0;
      // What is there first, so that it stays if nothing is better.
      tryOffset(0, 0);
      for (int ds = -reach; ds <= reach; ds++) {
        for (int dm = -minimums; dm <= minimums; dm++) {
          if (ds != 0 || dm != 0) {
            tryOffset(ds, dm);
          }
        }
      }
      grid.writeGroup(group, row, lanes, bestS, bestM);
    } else {
      tryFactor(1);
      for (int i = -4 * reach; i <= 2 * reach; i++) {
        if (i != 0) {
          tryFactor(1 + i * STEP);
        }
      }
      grid.writeBlock(block, row, lanes, bestD, dmin);
    }
    for (int k = 0; k < L; k++) {
      step[k] = bestD[k] * bestS[k];
      offset[k] = -(dmin[k] * bestM[k]);
    }
  }

  private void tryOffset(int ds, int dm) {
    for (int k = 0; k < L; k++) {
      candidateD[k] = d[k];
      candidateS[k] = Math.clamp(s[k] + ds, (float) form.leastScale(), (float) form.mostScale());
      candidateM[k] = Math.clamp(m[k] + dm, (float) form.leastMinimum(), (float) form.mostMinimum());
    }
    consider();
  }

  private void tryFactor(float factor) {
    for (int k = 0; k < L; k++) {
      float half = Float.float16ToFloat(Float.floatToFloat16(d[k] * factor));
      candidateD[k] = Float.isFinite(half) ? half : d[k];
      candidateS[k] = s[k];
      candidateM[k] = m[k];
    }
    consider();
  }

  /** Rounds the group with the candidate; keeps it where it costs less than the best so far. */
  private void consider() {
    for (int k = 0; k < L; k++) {
      candidateStep[k] = candidateD[k] * candidateS[k];
      candidateOffset[k] = -(dmin[k] * candidateM[k]);
      cost[k] = 0;
    }
    int length = form.groupLength();
    for (int j = length - 1; j >= 0; j--) {
      int at = j * L;
      System.arraycopy(target, at, x, 0, L);
      kernel.addProducts(factor, j * length + j + 1, error, j + 1, length - 1 - j, x, 0);
      kernel.round(x, 0, candidateStep, candidateOffset, 0, levels, level, value, 0);
      if (unpruned != null) {
        LaneGrid.clearPruned(unpruned, at, level, value, 0);
      }
      float weightOfColumn = diagonal[j];
      for (int k = 0; k < L; k++) {
        float left = x[k] - value[k];
        cost[k] += weightOfColumn * left * left;
        error[at + k] = weight[at + k] - value[k];
      }
    }
    for (int k = 0; k < L; k++) {
      if (cost[k] < least[k]) {
        least[k] = cost[k];
        bestD[k] = candidateD[k];
        bestS[k] = candidateS[k];
        bestM[k] = candidateM[k];
      }
    }
  }
}
