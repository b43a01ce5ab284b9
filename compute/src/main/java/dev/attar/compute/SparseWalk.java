package dev.attar.compute;

import java.lang.foreign.Arena;
import java.util.Arrays;

/**
 * The walk of {@link Device#sparseWalk} on the CPU, a block of columns at a time: what earlier blocks left is one matrix product, what is
 * left within the block goes column by column, rows in lanes. Threads share the rows of a block.
 */
final class SparseWalk {

  private final Level3 blas;
  private final LaneKernel kernel;
  private final LaneMatrix weights;
  private final LaneMatrix factor;
  private final float ridge;
  private final int[] order;
  private final int[] ranks;
  private final Sparsity sparsity;
  private final LaneMatrix pruned;

  /** Row i belongs to column order[n - 1 - i], as in the factor: the walk goes from the last row to the first. */
  private final LaneMatrix errors;

  /** What earlier blocks feed back into this one's columns, in the order of the factor's rows. */
  private final LaneMatrix left;

  /** What the block's columns become if none is removed, by their ranks. */
  private final LaneMatrix targets;

  SparseWalk(
    Arena arena,
    Level3 blas,
    LaneKernel kernel,
    LaneMatrix weights,
    LaneMatrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    LaneMatrix pruned
  ) {
    this.blas = blas;
    this.kernel = kernel;
    this.weights = weights;
    this.factor = factor;
    this.ridge = ridge;
    this.order = order;
    this.sparsity = sparsity;
    this.pruned = pruned;
    ranks = new SparseBlocks(order).ranks();
    int width = Math.min(SparseBlocks.WIDTH, order.length);
    errors = LaneMatrix.allocate(arena, order.length, weights.columns());
    left = LaneMatrix.allocate(arena, width, weights.columns());
    targets = LaneMatrix.allocate(arena, width, weights.columns());
  }

  Block block(int begin, int width) {
    return new Block(begin, width);
  }

  /** Some columns that follow each other in the order. */
  final class Block {

    private final int begin;
    private final int width;

    /** {@code factor[i * width + k]} is by what the block's column k enters its later column i. */
    private final float[] feedback;

    /** D, by the columns' places in the block. */
    private final float[] diagonal;

    private Block(int begin, int width) {
      this.begin = begin;
      this.width = width;
      feedback = new float[width * width];
      diagonal = new float[width];
      float[] row = new float[width];
      for (int k = 0; k < width; k++) {
        factor.read(row(k), row(width - 1), width, row, 0);
        for (int i = k; i < width; i++) {
          feedback[i * width + k] = row[width - 1 - i];
        }
        diagonal[k] = feedback[k * width + k];
      }
    }

    /** The row in the factor of the block's column i. */
    private int row(int i) {
      return order.length - 1 - begin - i;
    }

    /** Says what the columns become if none is removed, of rows {@code from} to {@code to}. */
    void aim(int from, int to) {
      int rows = to - from;
      if (begin > 0) {
        int next = row(-1);
        blas.gemm(
          true,
          false,
          width,
          rows,
          begin,
          1,
          factor.block(next, row(width - 1)),
          errors.block(next, from),
          0,
          left.block(0, from)
        );
      }
      if (!(sparsity instanceof Sparsity.Pattern)) {
        inLanes(from, to, Lanes::aim);
      }
    }

    /** Walks rows {@code from} to {@code to}. Adds what the block adds to their errors. */
    void walk(int from, int to, Cuts cuts, double[] sums) {
      inLanes(from, to, (lanes, first, count) -> lanes.walk(first, count, cuts, sums));
    }

    private interface LanesTask {
      void run(Lanes lanes, int first, int count);
    }

    private void inLanes(int from, int to, LanesTask task) {
      Lanes lanes = new Lanes();
      for (int first = from; first < to; first += LaneKernel.LANES) {
        task.run(lanes, first, Math.min(LaneKernel.LANES, to - first));
      }
    }

    /** The scores by which columns are chosen, by rank. */
    Cuts.Scores scores() {
      float[] sorted = new float[width];
      for (int i = 0; i < width; i++) {
        sorted[ranks[begin + i]] = diagonal[i];
      }
      return Cuts.Scores.ofTargets(targets, width, sorted);
    }

    /** Some rows on their way: arrays of width x lanes, in the order of the walk. */
    private final class Lanes {

      final float[] weight = new float[width * LaneKernel.LANES];
      final float[] target = new float[width * LaneKernel.LANES];
      final float[] free = new float[width * LaneKernel.LANES];
      final float[] error = new float[width * LaneKernel.LANES];
      final boolean[] removed = new boolean[width * LaneKernel.LANES];
      final float[] value = new float[LaneKernel.LANES];
      final float[] cost = new float[LaneKernel.LANES];

      private void read(int first, int lanes) {
        for (int i = 0; i < width; i++) {
          int at = i * LaneKernel.LANES;
          weights.read(order[begin + i], first, lanes, weight, at);
          left.read(width - 1 - i, first, lanes, target, at);
          for (int k = at; k < at + lanes; k++) {
            target[k] = begin > 0 ? target[k] + weight[k] : weight[k];
          }
        }
      }

      void aim(int first, int lanes) {
        read(first, lanes);
        walkFreely(0, width);
        for (int i = 0; i < width; i++) {
          targets.write(ranks[begin + i], first, lanes, free, i * LaneKernel.LANES);
        }
      }

      /** What some columns become if none of them is removed; their targets know of all columns before them. */
      private void walkFreely(int group, int length) {
        for (int i = group; i < group + length; i++) {
          int at = i * LaneKernel.LANES;
          System.arraycopy(target, at, free, at, LaneKernel.LANES);
          kernel.addProducts(feedback, i * width + group, error, group, i - group, free, at);
          for (int k = at; k < at + LaneKernel.LANES; k++) {
            error[k] = weight[k] - free[k];
          }
        }
      }

      void walk(int first, int lanes, Cuts cuts, double[] sums) {
        read(first, lanes);
        Arrays.fill(cost, 0);
        int length = width;
        if (sparsity instanceof Sparsity.Pattern pattern) {
          length = pattern.of();
        } else {
          cut(first, lanes, cuts);
        }
        for (int group = 0; group < width; group += length) {
          for (int i = group; i < group + length; i++) {
            kernel.addProducts(feedback, i * width, error, 0, group, target, i * LaneKernel.LANES);
          }
          if (sparsity instanceof Sparsity.Pattern pattern) {
            choose(group, pattern, lanes);
          }
          for (int i = group; i < group + length; i++) {
            int at = i * LaneKernel.LANES;
            kernel.addProducts(feedback, i * width + group, error, group, i - group, target, at);
            decide(i, lanes);
            errors.write(row(i), first, lanes, error, at);
            pruned.write(order[begin + i], first, lanes, value, 0);
          }
        }
        for (int k = 0; k < lanes; k++) {
          sums[first + k] += cost[k];
        }
      }

      private void cut(int first, int lanes, Cuts cuts) {
        for (int i = 0; i < width; i++) {
          int rank = ranks[begin + i];
          targets.read(rank, first, lanes, value, 0);
          for (int k = 0; k < lanes; k++) {
            int key = Cuts.squareKey(diagonal[i], value[k]);
            removed[i * LaneKernel.LANES + k] = cuts.removes(first + k, rank, key);
          }
        }
      }

      /** Chooses what is removed of a group's columns. */
      private void choose(int group, Sparsity.Pattern pattern, int lanes) {
        walkFreely(group, pattern.of());
        int[] keys = new int[pattern.of()];
        int firstColumn = (order[begin + group] / keys.length) * keys.length;
        for (int k = 0; k < lanes; k++) {
          for (int i = group; i < group + keys.length; i++) {
            keys[order[begin + i] - firstColumn] = Cuts.squareKey(diagonal[i], free[i * LaneKernel.LANES + k]);
          }
          for (int i = group; i < group + keys.length; i++) {
            int before = Cuts.rank(keys, order[begin + i] - firstColumn);
            removed[i * LaneKernel.LANES + k] = before < pattern.removed();
          }
        }
      }

      /** Decides on a column. By the decomposition, what it adds to the error is D (target - value)², less the ridge's part. */
      private void decide(int i, int lanes) {
        for (int k = 0; k < lanes; k++) {
          int at = i * LaneKernel.LANES + k;
          value[k] = removed[at] ? 0 : target[at];
          error[at] = weight[at] - value[k];
          float missed = target[at] - value[k];
          cost[k] += diagonal[i] * missed * missed - ridge * error[at] * error[at];
        }
      }
    }
  }
}
