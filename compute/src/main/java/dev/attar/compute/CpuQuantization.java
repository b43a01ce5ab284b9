package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicInteger;

/** The CPU device's operations for quantization. Shapes have been checked. */
final class CpuQuantization {

  /** Rows of the weights that a thread takes at a time. */
  private static final int ROWS = 128;

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
    try (Arena arena = Arena.ofShared()) {
      MemorySegment h = NativeMemory.zeros(arena, (long) n * n, Double.BYTES, "a factor of " + n + " x " + n);
      AtomicInteger finite = new AtomicInteger(n);
      device.parallel(0, n, TILE, (from, to) -> {
        for (int i = from; i < to; i++) {
          boolean good = true;
          for (int j = 0; j <= i; j++) {
            double value = gram.get(order[n - 1 - i], order[n - 1 - j]);
            good &= Double.isFinite(value);
            h.setAtIndex(JAVA_DOUBLE, (long) i * n + j, i == j ? value + ridge : value);
          }
          if (!good) {
            finite.accumulateAndGet(i, Math::min);
          }
        }
      });
      int failed = device.choleskyInPlace(h, finite.get(), n);
      if (failed != 0) {
        return failed;
      }
      double[] root = new double[n];
      for (int i = 0; i < n; i++) {
        root[i] = h.getAtIndex(JAVA_DOUBLE, (long) i * n + i);
      }
      device.parallel(0, n, TILE, (from, to) -> {
        for (int i = from; i < to; i++) {
          for (int j = 0; j < n; j++) {
            double lower = j > i ? 0 : h.getAtIndex(JAVA_DOUBLE, (long) i * n + j) / root[j];
            factor.set(i, j, (float) (i == j ? root[i] * root[i] : lower));
          }
        }
      });
      return 0;
    }
  }

  void columnWalk(
    LaneMatrix weights,
    LaneMatrix factor,
    int[] order,
    QuantizationGrid grid,
    int reach,
    LaneMatrix levels
  ) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new ColumnWalk(blas, kernel, weights, factor, grid, order, reach, levels).walk(from, to - from)
    );
  }

  void refine(
    LaneMatrix weights,
    LaneMatrix gram,
    float ridge,
    QuantizationGrid grid,
    LaneMatrix levels,
    int passes,
    boolean scales
  ) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new Refinement(blas, kernel, weights, gram, ridge, grid, levels, passes, scales).refine(from, to - from)
    );
  }

  void gramErrors(LaneMatrix weights, LaneMatrix gram, QuantizationGrid grid, LaneMatrix levels, double[] errors) {
    device.parallel(0, grid.rows(), ROWS, (from, to) ->
      new Refinement(blas, kernel, weights, gram, 0, grid, levels, 0, false).errors(from, to - from, errors)
    );
  }
}
