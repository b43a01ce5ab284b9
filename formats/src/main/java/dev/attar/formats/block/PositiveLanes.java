package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.NE;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/** The search of {@link KSearch#positive}, a block in each lane; see {@link AffineLanes}. */
final class PositiveLanes {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  /** The most values per block. */
  private static final int LONGEST = 16;

  /** Receives the values, interleaved. */
  final float[] values = new float[LONGEST * N];

  /** Receives their weights. */
  final float[] weights = new float[LONGEST * N];

  /** The codes found, interleaved. */
  final float[] codes = new float[LONGEST * N];

  /** The scales found, an entry for each lane. */
  final float[] scales = new float[N];

  private final float[] state = new float[STATE];

  // Where the state's vectors lie.
  private static final int MAXIMUM = 0;
  private static final int BEST = N;
  private static final int INVERSE = 2 * N;
  private static final int SUM_XL = 3 * N;
  private static final int SUM_L2 = 4 * N;
  private static final int STATE = 5 * N;

  /**
   * Searches scales and codes of N blocks.
   *
   * @param n values per block
   */
  void search(int n, int maxCode) {
    start(n, maxCode);
    for (int t = -4; t <= 4; t++) {
      if (t != 0) {
        attempt(n, maxCode, 0.1f * t + maxCode);
      }
    }
    round(n, maxCode);
    for (int t = 0; t < KSearch.DESCENTS; t++) {
      if (!descend(n, maxCode)) {
        break;
      }
    }
    finish(n);
  }

  private void start(int n, int maxCode) {
    FloatVector max = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, values, i);
      max = v.blend(max, max.compare(GT, v));
    }
    FloatVector inverse = FloatVector.broadcast(F, maxCode).div(max);
    FloatVector scale = FloatVector.broadcast(F, 1).div(inverse);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, values, i);
      FloatVector l = LaneCodes.lowByte(LaneCodes.nearest(inverse.mul(v)));
      FloatVector difference = v.sub(scale.mul(l));
      sum = sum.add(FloatVector.fromArray(F, weights, i).mul(difference).mul(difference));
    }
    max.intoArray(state, MAXIMUM);
    inverse.intoArray(state, INVERSE);
    sum.intoArray(state, BEST);
  }

  private void attempt(int n, int maxCode, float span) {
    FloatVector inverse = FloatVector.broadcast(F, span).div(FloatVector.fromArray(F, state, MAXIMUM));
    FloatVector scale = FloatVector.broadcast(F, 1).div(inverse);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, values, i);
      FloatVector difference = v.sub(scale.mul(LaneCodes.atMost(inverse.mul(v), maxCode)));
      sum = sum.add(FloatVector.fromArray(F, weights, i).mul(difference).mul(difference));
    }
    FloatVector best = FloatVector.fromArray(F, state, BEST);
    VectorMask<Float> better = sum.lt(best);
    best.blend(sum, better).intoArray(state, BEST);
    FloatVector.fromArray(F, state, INVERSE).blend(inverse, better).intoArray(state, INVERSE);
  }

  private void round(int n, int maxCode) {
    FloatVector inverse = FloatVector.fromArray(F, state, INVERSE);
    FloatVector sumXl = FloatVector.zero(F);
    FloatVector sumL2 = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, values, i);
      FloatVector w = FloatVector.fromArray(F, weights, i);
      FloatVector l = LaneCodes.atMost(inverse.mul(v), maxCode);
      sumXl = sumXl.add(w.mul(v).mul(l));
      sumL2 = sumL2.add(w.mul(l).mul(l));
      LaneCodes.lowByte(l).intoArray(codes, i);
    }
    sumXl.intoArray(state, SUM_XL);
    sumL2.intoArray(state, SUM_L2);
  }

  /** Goes over the codes once. A lane in which nothing changes would not change in further rounds either. */
  private boolean descend(int n, int maxCode) {
    FloatVector sumXl = FloatVector.fromArray(F, state, SUM_XL);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    boolean changed = false;
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, values, i);
      FloatVector w = FloatVector.fromArray(F, weights, i);
      FloatVector l = FloatVector.fromArray(F, codes, i);
      FloatVector wv = w.mul(v);
      FloatVector othersXl = sumXl.sub(wv.mul(l));
      FloatVector othersL2 = sumL2.sub(w.mul(l).mul(l));
      FloatVector better = LaneCodes.atMost(v.mul(othersL2).div(othersXl), maxCode);
      FloatVector newXl = othersXl.add(wv.mul(better));
      FloatVector newL2 = othersL2.add(w.mul(better).mul(better));
      VectorMask<Float> take = othersXl
        .compare(GT, 0)
        .and(othersL2.compare(GT, 0))
        .and(better.compare(NE, l))
        .and(newXl.mul(newXl).mul(sumL2).compare(GT, sumXl.mul(sumXl).mul(newL2)));
      l.blend(LaneCodes.lowByte(better), take).intoArray(codes, i);
      sumXl = sumXl.blend(newXl, take);
      sumL2 = sumL2.blend(newL2, take);
      changed |= take.anyTrue();
    }
    sumXl.intoArray(state, SUM_XL);
    sumL2.intoArray(state, SUM_L2);
    return changed;
  }

  private void finish(int n) {
    FloatVector zero = FloatVector.zero(F);
    VectorMask<Float> none = FloatVector.fromArray(F, state, MAXIMUM).lt(KSearch.ZERO);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    FloatVector scale = FloatVector.fromArray(F, state, SUM_XL).div(sumL2);
    zero.blend(scale, sumL2.compare(GT, 0)).blend(0, none).intoArray(scales, 0);
    for (int i = 0; i < n * N; i += N) {
      FloatVector.fromArray(F, codes, i).blend(0, none).intoArray(codes, i);
    }
  }
}
