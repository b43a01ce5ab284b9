package dev.attar.compute;

import dev.attar.compute.Cuts.Scores;
import java.lang.foreign.Arena;
import java.util.Arrays;

/** The CPU device's operations for pruning. Shapes have been checked. */
final class CpuPruning {

  /** Rows of the weights that a thread takes at a time. */
  private static final int ROWS = 256;

  private final CpuDevice device;
  private final Level3 blas;
  private final LaneKernel kernel = LaneKernel.get();

  CpuPruning(CpuDevice device, Level3 blas) {
    this.device = device;
    this.blas = blas;
  }

  void prune(LaneMatrix weights, float[] norms, Sparsity sparsity) {
    Scores scores = Scores.ofWeights(weights, norms);
    if (sparsity instanceof Sparsity.Pattern pattern) {
      inLanes(weights.columns(), (row, lanes) -> removeByPattern(scores, pattern, row, lanes));
      return;
    }
    Cuts cuts = new Cuts(weights.columns());
    cut(cuts, scores, sparsity);
    inLanes(weights.columns(), (row, lanes) -> remove(scores, cuts, row, lanes));
  }

  private void cut(Cuts cuts, Scores scores, Sparsity sparsity) {
    switch (sparsity) {
      case Sparsity.Rows(int removed) -> device.parallel(0, scores.values().columns(), ROWS, (from, to) ->
        cuts.inRows(scores, removed, from, to)
      );
      case Sparsity.Whole(long removed) -> cuts.inWhole(device, scores, removed);
      case Sparsity.Pattern _ -> throw new IllegalArgumentException("patterns are not cut");
    }
  }

  /** Works on some rows at a time, side by side. */
  private void inLanes(int rows, Workers.RangeTask task) {
    device.parallel(0, rows, ROWS, (from, to) -> {
      for (int row = from; row < to; row += LaneKernel.LANES) {
        task.run(row, Math.min(LaneKernel.LANES, to - row));
      }
    });
  }

  private static void remove(Scores scores, Cuts cuts, int row, int lanes) {
    float[] values = new float[LaneKernel.LANES];
    for (int j = 0; j < scores.columns(); j++) {
      scores.values().read(j, row, lanes, values, 0);
      for (int lane = 0; lane < lanes; lane++) {
        if (cuts.removes(row + lane, j, scores.key(j, values[lane]))) {
          values[lane] = 0;
        }
      }
      scores.values().write(j, row, lanes, values, 0);
    }
  }

  private static void removeByPattern(Scores scores, Sparsity.Pattern pattern, int row, int lanes) {
    int of = pattern.of();
    float[] values = new float[of * LaneKernel.LANES];
    int[] keys = new int[of];
    for (int first = 0; first < scores.columns(); first += of) {
      for (int j = 0; j < of; j++) {
        scores.values().read(first + j, row, lanes, values, j * LaneKernel.LANES);
      }
      for (int lane = 0; lane < lanes; lane++) {
        for (int j = 0; j < of; j++) {
          keys[j] = scores.key(first + j, values[j * LaneKernel.LANES + lane]);
        }
        for (int j = 0; j < of; j++) {
          if (Cuts.rank(keys, j) < pattern.removed()) {
            values[j * LaneKernel.LANES + lane] = 0;
          }
        }
      }
      for (int j = 0; j < of; j++) {
        scores.values().write(first + j, row, lanes, values, j * LaneKernel.LANES);
      }
    }
  }

  void sparseWalk(
    LaneMatrix weights,
    LaneMatrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    LaneMatrix pruned,
    double[] errors
  ) {
    int rows = weights.columns();
    Arrays.fill(errors, 0);
    SparseBlocks blocks = new SparseBlocks(order);
    try (Arena arena = Arena.ofShared()) {
      SparseWalk walk = new SparseWalk(arena, blas, kernel, weights, factor, ridge, order, sparsity, pruned);
      for (int b = 0; b < blocks.count(); b++) {
        SparseWalk.Block block = walk.block(blocks.begin(b), blocks.width(b));
        device.parallel(0, rows, ROWS, block::aim);
        Cuts cuts = new Cuts(rows);
        switch (sparsity) {
          case Sparsity.Rows(int removed) -> cut(
            cuts,
            block.scores(),
            new Sparsity.Rows((int) blocks.share(b, removed))
          );
          case Sparsity.Whole(long removed) -> cut(cuts, block.scores(), new Sparsity.Whole(blocks.share(b, removed)));
          case Sparsity.Pattern _ -> {}
        }
        device.parallel(0, rows, ROWS, (from, to) -> block.walk(from, to, cuts, errors));
      }
    }
  }
}
