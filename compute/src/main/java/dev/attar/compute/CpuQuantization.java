package dev.attar.compute;

import java.util.Arrays;
import java.util.concurrent.atomic.AtomicInteger;

/** The CPU device's operations for quantization. Shapes have been checked. */
final class CpuQuantization {

  /** Rows of the weights that a thread takes at a time: so many that factor or Gram matrix seldom come from memory. */
  private static final int ROWS = 256;

  /** Side of the tiles in which matrices are copied. */
  private static final int TILE = 64;

  private final CpuDevice device;
  private final Level3 blas;
  private final LaneKernel kernel = LaneKernel.get();

  CpuQuantization(CpuDevice device, Level3 blas) {
    this.device = device;
    this.blas = blas;
  }

  void mirror(LaneMatrix a) {
    int n = a.rows();
    device.parallel(0, n, TILE, (from, to) -> {
      for (int tile = 0; tile <= from; tile += TILE) {
        for (int i = from; i < to; i++) {
          for (int j = tile; j < Math.min(tile + TILE, i); j++) {
            a.set(i, j, a.get(j, i));
          }
        }
      }
    });
  }

  int feedbackFactor(LaneMatrix gram, float ridge, int[] order, LaneMatrix factor) {
    int n = order.length;
    AtomicInteger finite = new AtomicInteger(n);
    int[] reversed = new int[n];
    for (int i = 0; i < n; i++) {
      reversed[i] = order[n - 1 - i];
    }
    device.parallel(0, n, TILE, (from, to) -> {
      float[] row = new float[n];
      float[] permuted = new float[n];
      for (int i = from; i < to; i++) {
        gram.read(reversed[i], 0, n, row, 0);
        boolean good = true;
        for (int j = 0; j <= i; j++) {
          float value = row[reversed[j]];
          good &= Float.isFinite(value);
          permuted[j] = value;
        }
        permuted[i] += ridge;
        factor.write(i, 0, i + 1, permuted, 0);
        if (!good) {
          finite.accumulateAndGet(i, Math::min);
        }
      }
    });
    int failed = device.choleskyInPlace(blas, factor.values(), finite.get(), n);
    if (failed != 0) {
      return failed;
    }
    float[] root = new float[n];
    float[] inverse = new float[n];
    for (int i = 0; i < n; i++) {
      root[i] = factor.get(i, i);
      inverse[i] = 1 / root[i];
    }
    device.parallel(0, n, TILE, (from, to) -> {
      float[] row = new float[n];
      for (int i = from; i < to; i++) {
        factor.read(i, 0, i, row, 0);
        for (int j = 0; j < i; j++) {
          row[j] *= inverse[j];
        }
        row[i] = root[i] * root[i];
        Arrays.fill(row, i + 1, n, 0);
        factor.write(i, 0, n, row, 0);
      }
    });
    return 0;
  }

  void columnWalk(
    LaneMatrix weights,
    LaneMatrix factor,
    float ridge,
    int[] order,
    QuantizationGrid grid,
    int reach,
    LaneMatrix levels,
    double[] errors
  ) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new ColumnWalk(blas, kernel, weights, factor, ridge, grid, order, reach, levels).walk(from, to - from, errors)
    );
  }

  void refine(
    LaneMatrix weights,
    LaneMatrix gram,
    float ridge,
    QuantizationGrid grid,
    LaneMatrix levels,
    int passes,
    boolean scales,
    double[] errors
  ) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new Refinement(blas, kernel, weights, gram, ridge, grid, levels, passes, scales).refine(from, to - from, errors)
    );
  }

  void gramErrors(LaneMatrix weights, LaneMatrix gram, QuantizationGrid grid, LaneMatrix levels, double[] errors) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new Refinement(blas, kernel, weights, gram, 0, grid, levels, 0, false).errors(from, to - from, errors)
    );
  }
}
