package dev.attar.compute;

/** The reference, and what runs without the Vector API. */
final class ScalarLaneKernel implements LaneKernel {

  @Override
  public String name() {
    return "scalar";
  }

  @Override
  public void addProducts(float[] factor, int factorAt, float[] x, int from, int count, float[] sum, int sumAt) {
    for (int k = 0; k < count; k++) {
      float f = factor[factorAt + k];
      for (int lane = 0; lane < LANES; lane++) {
        sum[sumAt + lane] = Math.fma(f, x[(from + k) * LANES + lane], sum[sumAt + lane]);
      }
    }
  }

  @Override
  public void round(
    float[] target,
    int targetAt,
    float[] scale,
    float[] offset,
    int gridAt,
    Levels levels,
    float[] level,
    float[] value,
    int at
  ) {
    for (int lane = 0; lane < LANES; lane++) {
      float s = scale[gridAt + lane];
      float o = offset[gridAt + lane];
      float y = s == 0 ? 0 : (target[targetAt + lane] - o) / s;
      float nearest = nearest(y, levels);
      level[at + lane] = nearest;
      value[at + lane] = s * nearest + o;
    }
  }

  private static float nearest(float y, Levels levels) {
    if (levels.whole()) {
      return Math.min(levels.most(), Math.max(levels.least(), (float) Math.floor(y + 0.5f)));
    }
    float nearest = levels.least();
    for (int i = 0; i < levels.bounds().length; i++) {
      if (y >= levels.bounds()[i]) {
        nearest = levels.values()[i + 1];
      }
    }
    return nearest;
  }
}
