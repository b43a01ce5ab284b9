package dev.attar.compute.cuda;

import dev.attar.compute.Levels;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The CUDA device's operations for quantization, in the blocks and the order of the CPU's: apart from what cuBLAS and cuSOLVER compute,
 * results have the same bits. A thread takes a row of the weights. Within operations of the context; shapes have been checked.
 */
final class CudaQuantization {

  /** Columns between two matrix products: whole groups and blocks of the grid. */
  private static final int BLOCK = QuantizationGrid.LONGEST_BLOCK;

  /** Rows of the weights that a block of threads takes, as in grid.cuh. */
  private static final int LANES = 32;

  private final CudaContext context;
  private final CudaTransfers transfers;
  private final CudaKernels kernels;
  private final CudaAlgebra algebra;

  CudaQuantization(CudaContext context, CudaTransfers transfers, CudaKernels kernels, CudaAlgebra algebra) {
    this.context = context;
    this.transfers = transfers;
    this.kernels = kernels;
    this.algebra = algebra;
  }

  int feedbackFactor(CudaMatrix gram, float ridge, int[] order, CudaMatrix factor) {
    int n = order.length;
    try (CudaMemory work = new CudaMemory(context)) {
      long columns = transfers.upload(work, MemorySegment.ofArray(reversed(order)), "an order of columns");
      launchWalk("permuteLower", Shape.of(factor.count()), gram, ridge, columns, n, factor);
      int minor = algebra.choleskySingle(factor);
      if (minor == 0) {
        long roots = work.allocate(n, Float.BYTES, "a factor's diagonal");
        launchWalk("diagonalOf", Shape.of(n), factor, n, roots);
        launchWalk("unitLower", Shape.of(factor.count()), factor, roots, n);
      }
      return minor;
    }
  }

  void columnWalk(
    CudaMatrix weights,
    CudaMatrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    CudaMatrix levels,
    double[] errors
  ) {
    int n = weights.rows();
    int rows = weights.columns();
    try (CudaMemory work = new CudaMemory(context)) {
      // left[i] belongs to column order[n - 1 - i]: the walk goes from the last row to the first.
      long columns = transfers.upload(work, MemorySegment.ofArray(reversed(order)), "an order of columns");
      List<Object> form = arguments(work, grid);
      long left = work.floats(n, rows, "what levels leave of the weights");
      long fed = n <= BLOCK ? 0 : work.floats(BLOCK, rows, "errors that are fed back");
      long search = reach == 0 ? 0 : work.floats(2 * grid.groupLength(), rows, "a search for scales");
      long sums = work.zeros(rows, Double.BYTES, "errors of rows");
      for (int end = n; end > 0; end -= BLOCK) {
        int begin = Math.max(0, end - BLOCK);
        int width = end - begin;
        if (end < n) {
          long of = factor.at(end, begin);
          algebra.gemm(true, false, width, rows, n - end, 1, of, n, at(left, end, rows), rows, 0, fed, rows);
        }
        List<Object> arguments = new ArrayList<>();
        arguments.addAll(List.of(weights, factor, ridge, columns, n, rows, begin, width, end < n ? fed : 0L));
        arguments.addAll(form);
        arguments.addAll(List.of(reach, search, levels, left, sums));
        launchWalk("columnWalk", Shape.of(rows, LANES), arguments.toArray());
      }
      download(sums, errors);
    }
  }

  void refine(
    CudaMatrix weights,
    CudaMatrix gram,
    float ridge,
    QuantizationGrid grid,
    CudaMatrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    int n = weights.rows();
    int rows = weights.columns();
    try (CudaMemory work = new CudaMemory(context)) {
      List<Object> form = arguments(work, grid);
      long left = residual(work, weights, form, levels);
      long gradient = work.floats(Math.min(BLOCK, n), rows, "a gradient");
      long sums = transfers.upload(work, MemorySegment.ofArray(errors), "errors of rows");
      for (int pass = 0; pass < passes; pass++) {
        for (int begin = 0; begin < n; begin += BLOCK) {
          int width = Math.min(BLOCK, n - begin);
          algebra.gemm(false, false, width, rows, n, 1, gram.at(begin, 0), n, left, rows, 0, gradient, rows);
          List<Object> arguments = new ArrayList<>();
          arguments.addAll(List.of(weights, gram, ridge, n, rows, begin, width, gradient));
          arguments.addAll(form);
          arguments.addAll(List.of(scales ? 1 : 0, levels, left, sums));
          launchRefinement("refine", Shape.of(rows, LANES), arguments.toArray());
        }
      }
      download(sums, errors);
    }
  }

  void gramErrors(CudaMatrix weights, CudaMatrix gram, QuantizationGrid grid, CudaMatrix levels, double[] errors) {
    int n = weights.rows();
    int rows = weights.columns();
    try (CudaMemory work = new CudaMemory(context)) {
      long left = residual(work, weights, arguments(work, grid), levels);
      long product = work.floats(Math.min(BLOCK, n), rows, "products with the Gram matrix");
      long sums = work.zeros(rows, Double.BYTES, "errors of rows");
      for (int begin = 0; begin < n; begin += BLOCK) {
        int width = Math.min(BLOCK, n - begin);
        int end = begin + width;
        long own = at(left, begin, rows);
        // The matrix is symmetric: what is right of the block on the diagonal counts twice.
        algebra.gemm(false, false, width, rows, width, 1, gram.at(begin, begin), n, own, rows, 0, product, rows);
        if (end < n) {
          long after = at(left, end, rows);
          algebra.gemm(false, false, width, rows, n - end, 2, gram.at(begin, end), n, after, rows, 1, product, rows);
        }
        launchRefinement("addColumnProducts", Shape.of(rows, LANES), own, product, width, rows, sums);
      }
      download(sums, errors);
    }
  }

  /** What levels leave of the weights, (n, rows). */
  private long residual(CudaMemory work, CudaMatrix weights, List<Object> grid, CudaMatrix levels) {
    int n = weights.rows();
    int rows = weights.columns();
    long left = work.floats(n, rows, "what levels leave of the weights");
    List<Object> arguments = new ArrayList<>();
    arguments.add(weights);
    arguments.addAll(grid);
    arguments.addAll(List.of(levels, n, rows, left));
    launchRefinement("residual", Shape.of(weights.count()), arguments.toArray());
    return left;
  }

  private void launchWalk(String kernel, Shape shape, Object... arguments) {
    kernels.launch("column_walk", kernel, shape, arguments);
  }

  private void launchRefinement(String kernel, Shape shape, Object... arguments) {
    kernels.launch("refinement", kernel, shape, arguments);
  }

  /** A grid as GRID_PARAMETERS of grid.cuh. */
  private List<Object> arguments(CudaMemory work, QuantizationGrid grid) {
    Levels levels = Levels.of(grid.levels());
    int count = levels.values().length;
    // After the levels the middles between them.
    float[] withBounds = Arrays.copyOf(levels.values(), 2 * count - 1);
    System.arraycopy(levels.bounds(), 0, withBounds, count, count - 1);
    return List.of(
      address(grid.d()),
      address(grid.dmin()),
      address(grid.scale()),
      address(grid.minimum()),
      grid.pruned() == null ? 0L : address(grid.pruned()),
      transfers.upload(work, MemorySegment.ofArray(withBounds), "a grid's levels"),
      count,
      levels.whole() ? 1 : 0,
      grid.groupLength(),
      grid.blockLength(),
      grid.leastScale(),
      grid.mostScale(),
      grid.leastMinimum(),
      grid.mostMinimum()
    );
  }

  private static long address(Matrix matrix) {
    return ((CudaMatrix) matrix).address();
  }

  private static int[] reversed(int[] order) {
    int[] reversed = new int[order.length];
    for (int i = 0; i < order.length; i++) {
      reversed[i] = order[order.length - 1 - i];
    }
    return reversed;
  }

  /** The address of a row. */
  private static long at(long matrix, int row, int columns) {
    return matrix + (long) row * columns * Float.BYTES;
  }

  /** Copies what the kernels on the stream have left, after they are done. */
  private void download(long address, double[] to) {
    context.synchronize();
    transfers.download(address, MemorySegment.ofArray(to), (long) to.length * Double.BYTES);
  }
}
