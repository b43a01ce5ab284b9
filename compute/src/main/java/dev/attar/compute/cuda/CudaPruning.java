package dev.attar.compute.cuda;

import dev.attar.compute.SparseBlocks;
import dev.attar.compute.Sparsity;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.MemorySegment;

/**
 * The CUDA device's operations for pruning, in the blocks and the order of the CPU's: apart from what cuBLAS computes, results have the
 * same bits. Within operations of the context; shapes have been checked.
 */
final class CudaPruning {

  /** Rows of the weights that a block of threads takes side by side, as in pruning.cu. */
  private static final int LANES = 32;

  /** Threads that share a row's columns. */
  private static final int SLICES = 8;

  /** Values of 8 bits, and the threads that count them. */
  private static final int BINS = 256;

  /** Blocks of threads that share the columns of some rows: enough to fill a GPU. */
  private static final int MAX_BLOCKS_OF_COLUMNS = 64;

  private final CudaContext context;
  private final CudaTransfers transfers;
  private final CudaKernels kernels;
  private final CudaAlgebra algebra;

  CudaPruning(CudaContext context, CudaTransfers transfers, CudaKernels kernels, CudaAlgebra algebra) {
    this.context = context;
    this.transfers = transfers;
    this.kernels = kernels;
    this.algebra = algebra;
  }

  /**
   * What scores are computed from, (columns, rows).
   *
   * @param factors of the columns
   * @param squared whether scores are factor * value², or |value| * factor
   */
  private record Scores(long values, int columns, int rows, long factors, boolean squared) {}

  void prune(CudaMatrix weights, float[] norms, Sparsity sparsity) {
    int columns = weights.rows();
    int rows = weights.columns();
    try (CudaMemory work = new CudaMemory(context)) {
      long factors = transfers.upload(work, MemorySegment.ofArray(norms), "norms of columns");
      if (sparsity instanceof Sparsity.Pattern pattern) {
        Shape shape = shared(rows, columns / pattern.of());
        launch("removeByPattern", shape, weights, factors, columns, rows, pattern.removed(), pattern.of());
        return;
      }
      Cutter cutter = new Cutter(work, columns, rows);
      cutter.cut(new Scores(weights.address(), columns, rows, factors, false), sparsity);
      launch("removeWeights", shared(rows, columns), weights, factors, columns, rows, cutter.cuts);
    }
  }

  /** A thread for each row, and some blocks that share its columns. */
  private static Shape shared(int rows, int columns) {
    return Shape.of(rows, BINS, Math.min(columns, MAX_BLOCKS_OF_COLUMNS));
  }

  /** Finds what has the least scores. */
  private final class Cutter {

    /** (2, rows): the last score that is removed, and the last column in which it is. */
    final long cuts;

    private final long state;
    private final long bins;
    private final long equal;

    Cutter(CudaMemory work, int columns, int rows) {
      cuts = work.allocate(2L * rows, Integer.BYTES, "cuts of " + rows + " rows");
      state = work.allocate(2, Long.BYTES, "a search");
      bins = work.zeros(BINS, Long.BYTES, "counts of digits");
      equal = work.allocate(columns, Integer.BYTES, "counts of equal scores");
    }

    void cut(Scores scores, Sparsity sparsity) {
      switch (sparsity) {
        case Sparsity.Rows(int removed) -> cutRows(scores, removed);
        case Sparsity.Whole(long removed) -> cutWhole(scores, removed);
        case Sparsity.Pattern _ -> throw new IllegalArgumentException("patterns are not cut");
      }
    }

    private void cutRows(Scores of, int removed) {
      Shape shape = new Shape(Math.ceilDiv(of.rows, LANES), 1, LANES, SLICES);
      launch("cutRows", shape, of.values, of.factors, squared(of), of.columns, of.rows, removed, cuts);
    }

    private void cutWhole(Scores of, long removed) {
      Shape all = shared(of.rows, of.columns);
      Shape one = new Shape(1, 1, BINS, 1);
      int above = 31;
      while (above > 0) {
        int shift = Math.max(above - 8, 0);
        launch("countDigits", all, of.values, of.factors, squared(of), of.columns, of.rows, above, shift, state, bins);
        launch("chooseDigit", one, bins, above, shift, removed, state);
        above = shift;
      }
      Shape columns = new Shape(of.columns, 1, BINS, 1);
      launch("countEqual", columns, of.values, of.factors, squared(of), of.rows, state, equal);
      launch("cutWhole", one, of.values, of.factors, squared(of), of.columns, of.rows, state, equal, cuts);
    }

    private static int squared(Scores scores) {
      return scores.squared ? 1 : 0;
    }
  }

  void sparseWalk(
    CudaMatrix weights,
    CudaMatrix factor,
    float ridge,
    int[] order,
    Sparsity sparsity,
    CudaMatrix pruned,
    double[] errors
  ) {
    int n = weights.rows();
    int rows = weights.columns();
    SparseBlocks blocks = new SparseBlocks(order);
    int most = blocks.width(0);
    try (CudaMemory work = new CudaMemory(context)) {
      Walk walk = new Walk(
        weights,
        factor,
        ridge,
        transfers.upload(work, MemorySegment.ofArray(order), "an order of columns"),
        transfers.upload(work, MemorySegment.ofArray(blocks.ranks()), "ranks of columns"),
        pruned,
        blocks.count() == 1 ? 0 : work.floats(most, rows, "errors that are fed back"),
        sparsity instanceof Sparsity.Pattern ? 0 : work.floats(most, rows, "what columns become"),
        work.floats(n, rows, "what pruning leaves of the weights"),
        work.zeros(rows, Double.BYTES, "errors of rows")
      );
      long diagonal = work.floats(1, most, "a factor's diagonal");
      Cutter cutter = new Cutter(work, most, rows);
      for (int b = 0; b < blocks.count(); b++) {
        int begin = blocks.begin(b);
        int width = blocks.width(b);
        feedBack(walk, begin, width);
        if (sparsity instanceof Sparsity.Pattern pattern) {
          walk(walk, begin, width, false, 0, pattern.removed(), pattern.of());
          continue;
        }
        walk(walk, begin, width, true, 0, 0, 0);
        launch("diagonalByRank", Shape.of(width), factor, n, begin, width, walk.ranks, diagonal);
        Scores scores = new Scores(walk.targets, width, rows, diagonal, true);
        cutter.cut(scores, share(blocks, b, sparsity));
        walk(walk, begin, width, false, cutter.cuts, 0, 0);
      }
      context.synchronize();
      transfers.download(walk.sums, MemorySegment.ofArray(errors), (long) rows * Double.BYTES);
    }
  }

  private static Sparsity share(SparseBlocks blocks, int block, Sparsity sparsity) {
    return switch (sparsity) {
      case Sparsity.Rows(int removed) -> new Sparsity.Rows(Math.toIntExact(blocks.share(block, removed)));
      case Sparsity.Whole(long removed) -> new Sparsity.Whole(blocks.share(block, removed));
      case Sparsity.Pattern pattern -> pattern;
    };
  }

  /** What a walk works on; see pruning.cu. */
  private record Walk(
    CudaMatrix weights,
    CudaMatrix factor,
    float ridge,
    long order,
    long ranks,
    CudaMatrix pruned,
    long left,
    long targets,
    long errors,
    long sums
  ) {}

  /** What the errors of earlier blocks add to a block's columns. */
  private void feedBack(Walk walk, int begin, int width) {
    if (begin > 0) {
      int n = walk.weights.rows();
      int rows = walk.weights.columns();
      int end = n - begin;
      long of = walk.factor.at(end, end - width);
      long errors = walk.errors + (long) end * rows * Float.BYTES;
      algebra.gemm(true, false, width, rows, begin, 1, of, n, errors, rows, 0, walk.left, rows);
    }
  }

  private void walk(Walk walk, int begin, int width, boolean freely, long cuts, int removedOfGroup, int of) {
    int n = walk.weights.rows();
    int rows = walk.weights.columns();
    launch(
      "sparseWalk",
      Shape.of(rows, LANES),
      walk.weights,
      walk.factor,
      walk.ridge,
      walk.order,
      walk.ranks,
      n,
      rows,
      begin,
      width,
      walk.left,
      freely ? 1 : 0,
      cuts,
      removedOfGroup,
      of,
      walk.targets,
      walk.errors,
      walk.pruned,
      walk.sums
    );
  }

  private void launch(String kernel, Shape shape, Object... arguments) {
    kernels.launch("pruning", kernel, shape, arguments);
  }
}
