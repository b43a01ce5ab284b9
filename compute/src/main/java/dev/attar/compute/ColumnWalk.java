package dev.attar.compute;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * The walk of {@link Device#columnWalk} on the CPU. A thread takes some rows of the weights through all columns, a block of columns
 * at a time: what earlier blocks left is one matrix product, what is left within the block goes column by column, rows in lanes.
 */
final class ColumnWalk {

  /** Columns that are walked between two matrix products: whole groups of the grid. */
  private static final int BLOCK = QuantizationGrid.LONGEST_BLOCK;

  private final Level3 blas;
  private final LaneKernel kernel;
  private final LaneMatrix weights;
  private final LaneMatrix factor;
  private final float ridge;
  private final QuantizationGrid form;
  private final Levels levels;
  private final int[] order;
  private final int reach;
  private final LaneMatrix chosen;

  ColumnWalk(
    Level3 blas,
    LaneKernel kernel,
    LaneMatrix weights,
    LaneMatrix factor,
    float ridge,
    QuantizationGrid grid,
    int[] order,
    int reach,
    LaneMatrix chosen
  ) {
    this.blas = blas;
    this.kernel = kernel;
    this.weights = weights;
    this.factor = factor;
    this.ridge = ridge;
    this.form = grid;
    this.levels = Levels.of(grid.levels());
    this.order = order;
    this.reach = reach;
    this.chosen = chosen;
  }

  /** Walks the rows of the weights from {@code first} on; they are columns of the matrices. Writes the errors of these. */
  void walk(int first, int rows, double[] to) {
    int n = order.length;
    Arrays.fill(to, first, first + rows, 0);
    try (Arena arena = Arena.ofConfined()) {
      // errors[i] belongs to column order[n - 1 - i]: the walk goes from the last row to the first.
      LaneMatrix errors = LaneMatrix.allocate(arena, n, rows);
      LaneMatrix left = LaneMatrix.allocate(arena, Math.min(BLOCK, n), rows);
      Block block = new Block(Math.min(BLOCK, n));
      for (int end = n; end > 0; end -= BLOCK) {
        int begin = Math.max(0, end - BLOCK);
        int width = end - begin;
        if (end < n) {
          blas.gemm(
            true,
            false,
            width,
            rows,
            n - end,
            1,
            factor.block(end, begin),
            errors.block(end, 0),
            0,
            left.block(0, 0)
          );
        }
        block.factor(begin, width);
        for (int lane = 0; lane < rows; lane += LaneKernel.LANES) {
          block.walk(begin, width, first, lane, Math.min(LaneKernel.LANES, rows - lane), errors, left, to);
        }
      }
    }
  }

  /** A block of columns of some rows on their way: arrays of width x lanes. */
  private final class Block {

    final LaneGrid grid = new LaneGrid(form);
    final ScaleSearch search = reach == 0 ? null : new ScaleSearch(kernel, form, levels, grid, reach);

    /** The transposed factor, so that what enters one column is contiguous, and the diagonal of the decomposition. */
    final float[] factor;

    final float[] diagonal;
    final float[] weight;
    final float[] target;
    final float[] scale;
    final float[] offset;
    final float[] level;
    final float[] value;
    final float[] error;

    /** What is left of the weights after pruning; null if nothing is pruned. */
    final float[] unpruned;

    /** Per lane: what the block adds to the error. */
    final float[] cost = new float[LaneKernel.LANES];

    Block(int width) {
      factor = new float[width * width];
      diagonal = new float[width];
      int size = width * LaneKernel.LANES;
      weight = new float[size];
      target = new float[size];
      scale = new float[size];
      offset = new float[size];
      level = new float[size];
      value = new float[size];
      error = new float[size];
      unpruned = grid.hasPruned() ? new float[size] : null;
    }

    void factor(int begin, int width) {
      for (int k = 0; k < width; k++) {
        MemorySegment row = ColumnWalk.this.factor.at(begin + k, begin);
        for (int i = 0; i < width; i++) {
          factor[i * width + k] = row.getAtIndex(LaneMatrix.FLOAT, i);
        }
        diagonal[k] = factor[k * width + k];
      }
    }

    void walk(int begin, int width, int first, int lane, int lanes, LaneMatrix errors, LaneMatrix left, double[] to) {
      int n = order.length;
      boolean isFirst = begin + width == n;
      for (int i = 0; i < width; i++) {
        int at = i * LaneKernel.LANES;
        int column = order[n - 1 - begin - i];
        weights.read(column, first + lane, lanes, weight, at);
        grid.read(column, first + lane, lanes, scale, offset, at);
        if (unpruned != null) {
          grid.readLeft(column, first + lane, lanes, unpruned, at);
        }
        if (isFirst) {
          System.arraycopy(weight, at, target, at, lanes);
        } else {
          left.read(i, lane, lanes, target, at);
          for (int k = 0; k < lanes; k++) {
            target[at + k] += weight[at + k];
          }
        }
      }
      Arrays.fill(cost, 0);
      for (int i = width - 1; i >= 0; i--) {
        int at = i * LaneKernel.LANES;
        int column = order[n - 1 - begin - i];
        if (search != null && (width - 1 - i) % form.groupLength() == 0) {
          chooseScales(i, width, column / form.groupLength(), first + lane, lanes);
        }
        kernel.addProducts(factor, i * width + i + 1, error, i + 1, width - 1 - i, target, at);
        kernel.round(target, at, scale, offset, at, levels, level, value, at);
        if (unpruned != null) {
          LaneGrid.clearPruned(unpruned, at, level, value, at);
        }
        for (int k = 0; k < LaneKernel.LANES; k++) {
          error[at + k] = weight[at + k] - value[at + k];
        }
        errors.write(begin + i, lane, lanes, error, at);
        chosen.write(column, first + lane, lanes, level, at);
        addCost(at, diagonal[i]);
      }
      for (int k = 0; k < lanes; k++) {
        to[first + lane + k] += cost[k];
      }
    }

    /** By the decomposition, e (gram + ridge I) e' is the sum of D (target - value)² over the columns. */
    private void addCost(int at, float diagonal) {
      for (int k = 0; k < LaneKernel.LANES; k++) {
        float missed = target[at + k] - value[at + k];
        cost[k] += diagonal * missed * missed - ridge * error[at + k] * error[at + k];
      }
    }

    /** Chooses the scales of the group whose first column to be rounded is i, seeing what the columns before it left. */
    private void chooseScales(int i, int width, int group, int row, int lanes) {
      int length = form.groupLength();
      int from = i - length + 1;
      for (int j = i; j >= from; j--) {
        int at = j * LaneKernel.LANES;
        System.arraycopy(target, at, search.target, (j - from) * LaneKernel.LANES, LaneKernel.LANES);
        System.arraycopy(weight, at, search.weight, (j - from) * LaneKernel.LANES, LaneKernel.LANES);
        kernel.addProducts(
          factor,
          j * width + i + 1,
          error,
          i + 1,
          width - 1 - i,
          search.target,
          (j - from) * LaneKernel.LANES
        );
        if (unpruned != null) {
          System.arraycopy(unpruned, at, search.unpruned, (j - from) * LaneKernel.LANES, LaneKernel.LANES);
        }
        search.diagonal[j - from] = diagonal[j];
        System.arraycopy(factor, j * width + from, search.factor, (j - from) * length, length);
      }
      search.choose(group, row, lanes);
      for (int j = i; j >= from; j--) {
        System.arraycopy(search.step, 0, scale, j * LaneKernel.LANES, LaneKernel.LANES);
        System.arraycopy(search.offset, 0, offset, j * LaneKernel.LANES, LaneKernel.LANES);
      }
    }
  }
}
