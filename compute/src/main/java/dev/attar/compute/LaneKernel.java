package dev.attar.compute;

/**
 * Loops over {@link #LANES} rows of the weights at once. Arrays hold a number per row, row after row of a matrix whose columns are
 * those rows: {@code array[k * LANES + lane]}. Both implementations give the same bits.
 */
interface LaneKernel {
  /** Number of rows that are worked on together. */
  int LANES = 64;

  /** The implementation for this process. */
  static LaneKernel get() {
    return ModuleLayer.boot().findModule("jdk.incubator.vector").isPresent()
      ? VectorHolder.KERNEL
      : new ScalarLaneKernel();
  }

  /** Apart, so that it is loaded only where the Vector API is there. */
  final class VectorHolder {

    private static final LaneKernel KERNEL = new VectorLaneKernel();

    private VectorHolder() {}
  }

  /** What it is, for the device's name. */
  String name();

  /**
   * {@code sum[lane] += Σ_k factor[factorAt + k] * x[(from + k) * LANES + lane]} for k from 0 to count - 1, in this order,
   * with fused multiply-add.
   */
  void addProducts(float[] factor, int factorAt, float[] x, int from, int count, float[] sum, int sumAt);

  /**
   * The nearest point of a grid. With {@code y = (target - offset) / scale}, or 0 where the scale is 0, level becomes the nearest of
   * the levels (the upper of two that are equally near), and value {@code scale * level + offset}, not fused.
   */
  void round(
    float[] target,
    int targetAt,
    float[] scale,
    float[] offset,
    int gridAt,
    Levels levels,
    float[] level,
    float[] value,
    int at
  );
}
