package dev.attar.compute;

import static jdk.incubator.vector.VectorOperators.GE;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.NE;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/** With the JDK's Vector API. */
final class VectorLaneKernel implements LaneKernel {

  private static final VectorSpecies<Float> S = FloatVector.SPECIES_PREFERRED.length() > LANES / 4
    ? FloatVector.SPECIES_512
    : FloatVector.SPECIES_PREFERRED;
  private static final int V = S.length();

  /** Adding and subtracting it rounds a number below 2^22 to a whole one. */
  private static final float MAGIC = 0x1.8p23f;

  @Override
  public String name() {
    return S.vectorBitSize() + "-bit vectors";
  }

  @Override
  public void addProducts(float[] factor, int factorAt, float[] x, int from, int count, float[] sum, int sumAt) {
    // Four vectors of sums stay in registers.
    for (int lane = 0; lane < LANES; lane += 4 * V) {
      addFour(factor, factorAt, x, from * LANES + lane, count, sum, sumAt + lane);
    }
  }

  private static void addFour(float[] factor, int factorAt, float[] x, int xAt, int count, float[] sum, int sumAt) {
    FloatVector sum0 = FloatVector.fromArray(S, sum, sumAt);
    FloatVector sum1 = FloatVector.fromArray(S, sum, sumAt + V);
    FloatVector sum2 = FloatVector.fromArray(S, sum, sumAt + 2 * V);
    FloatVector sum3 = FloatVector.fromArray(S, sum, sumAt + 3 * V);
    for (int k = 0; k < count; k++) {
      FloatVector f = FloatVector.broadcast(S, factor[factorAt + k]);
      int at = xAt + k * LANES;
      sum0 = f.fma(FloatVector.fromArray(S, x, at), sum0);
      sum1 = f.fma(FloatVector.fromArray(S, x, at + V), sum1);
      sum2 = f.fma(FloatVector.fromArray(S, x, at + 2 * V), sum2);
      sum3 = f.fma(FloatVector.fromArray(S, x, at + 3 * V), sum3);
    }
    sum0.intoArray(sum, sumAt);
    sum1.intoArray(sum, sumAt + V);
    sum2.intoArray(sum, sumAt + 2 * V);
    sum3.intoArray(sum, sumAt + 3 * V);
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
    if (levels.whole()) {
      roundToWhole(target, targetAt, scale, offset, gridAt, levels.least(), levels.most(), level, value, at);
    } else {
      roundToListed(target, targetAt, scale, offset, gridAt, levels, level, value, at);
    }
  }

  private static void roundToWhole(
    float[] target,
    int targetAt,
    float[] scale,
    float[] offset,
    int gridAt,
    float least,
    float most,
    float[] level,
    float[] value,
    int at
  ) {
    for (int lane = 0; lane < LANES; lane += V) {
      FloatVector s = FloatVector.fromArray(S, scale, gridAt + lane);
      FloatVector o = FloatVector.fromArray(S, offset, gridAt + lane);
      FloatVector y = FloatVector.fromArray(S, target, targetAt + lane).sub(o).div(s);
      y = FloatVector.zero(S).blend(y, s.compare(NE, 0));
      // Clamped first, so that the rounding is exact; half a step more, so that the bounds themselves can be reached.
      y = y.max(least).min(most).add(0.5f);
      FloatVector floor = y.add(MAGIC).sub(MAGIC);
      floor = floor.blend(floor.sub(1), floor.compare(GT, y)).min(most);
      floor.intoArray(level, at + lane);
      s.mul(floor).add(o).intoArray(value, at + lane);
    }
  }

  private static void roundToListed(
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
    float[] values = levels.values();
    float[] bounds = levels.bounds();
    for (int lane = 0; lane < LANES; lane += V) {
      FloatVector s = FloatVector.fromArray(S, scale, gridAt + lane);
      FloatVector o = FloatVector.fromArray(S, offset, gridAt + lane);
      FloatVector y = FloatVector.fromArray(S, target, targetAt + lane).sub(o).div(s);
      y = FloatVector.zero(S).blend(y, s.compare(NE, 0));
      FloatVector nearest = FloatVector.broadcast(S, values[0]);
      for (int i = 0; i < bounds.length; i++) {
        nearest = nearest.blend(values[i + 1], y.compare(GE, bounds[i]));
      }
      nearest.intoArray(level, at + lane);
      s.mul(nearest).add(o).intoArray(value, at + lane);
    }
  }
}
