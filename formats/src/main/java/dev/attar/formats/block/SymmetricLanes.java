package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.ABS;
import static jdk.incubator.vector.VectorOperators.EQ;
import static jdk.incubator.vector.VectorOperators.GT;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/**
 * The search of {@link KSearch#symmetric}, a block in each lane; see {@link AffineLanes}. The best codes are not kept; they are {@code
 * code(inverse * x)}.
 */
final class SymmetricLanes {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  /** The most values per block. */
  private static final int LONGEST = 16;

  /** The scales found, an entry for each block. */
  final float[] scales;

  /** How the best codes come about; not a number where all values are almost zero. */
  final float[] inverses;

  /** Sums of weights. */
  final float[] weights;

  private final float[] state = new float[STATE];
  private final float[] products = new float[LONGEST * N];

  // Where the state's vectors lie.
  private static final int MAXIMUM = 0;
  private static final int BEST = N;
  private static final int SCALE = 2 * N;
  private static final int INVERSE = 3 * N;
  private static final int TRIED_INVERSE = 4 * N;
  private static final int SUM_XL = 5 * N;
  private static final int SUM_L2 = 6 * N;
  private static final int STATE = 7 * N;

  /** Makes room for the results of this many blocks. */
  SymmetricLanes(int blocks) {
    scales = new float[blocks];
    inverses = new float[blocks];
    weights = new float[blocks];
  }

  /**
   * Searches scales of N blocks. Values that are not almost zero are multiplied by less than {@code half + 1} over the largest, so the
   * products are small.
   *
   * @param x the values, finite
   * @param w their weights
   * @param at where both begin
   * @param n values per block
   * @param half codes lie between this, negated, and one less
   * @param to where the results of the first lane go
   */
  void search(float[] x, float[] w, int at, int n, int half, int to) {
    start(x, w, at, n, to);
    for (int t = 0; t < KSearch.SYMMETRIC_TRIES; t++) {
      int offset = KSearch.symmetricOffset(t);
      round(x, w, at, n, half, -(half + 0.1f * offset));
      if (offset == 0) {
        acceptFirst();
      } else {
        accept();
      }
    }
    finish(to);
  }

  private void start(float[] x, float[] w, int at, int n, int to) {
    LaneCodes.largest(x, at, n * N, state, MAXIMUM);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector weight = FloatVector.fromArray(F, w, at + i);
      sum = sum.add(weight);
      weight.mul(FloatVector.fromArray(F, x, at + i)).intoArray(products, i);
    }
    sum.intoArray(weights, to);
  }

  private void round(float[] x, float[] w, int at, int n, int half, float span) {
    FloatVector inverse = FloatVector.broadcast(F, span).div(FloatVector.fromArray(F, state, MAXIMUM));
    FloatVector sumXl = FloatVector.zero(F);
    FloatVector sumL2 = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector l = LaneCodes.small(inverse.mul(FloatVector.fromArray(F, x, at + i)), -half, half - 1);
      sumXl = sumXl.add(FloatVector.fromArray(F, products, i).mul(l));
      sumL2 = sumL2.add(FloatVector.fromArray(F, w, at + i).mul(l).mul(l));
    }
    inverse.intoArray(state, TRIED_INVERSE);
    sumXl.intoArray(state, SUM_XL);
    sumL2.intoArray(state, SUM_L2);
  }

  private void acceptFirst() {
    FloatVector sumXl = FloatVector.fromArray(F, state, SUM_XL);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    FloatVector scale = sumXl.div(sumL2).blend(0, sumL2.compare(EQ, 0));
    scale.intoArray(state, SCALE);
    scale.mul(sumXl).intoArray(state, BEST);
    FloatVector.fromArray(F, state, TRIED_INVERSE).intoArray(state, INVERSE);
  }

  private void accept() {
    FloatVector sumXl = FloatVector.fromArray(F, state, SUM_XL);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    FloatVector best = FloatVector.fromArray(F, state, BEST);
    VectorMask<Float> better = sumL2.compare(GT, 0).and(sumXl.mul(sumXl).compare(GT, best.mul(sumL2)));
    FloatVector scale = sumXl.div(sumL2);
    best.blend(scale.mul(sumXl), better).intoArray(state, BEST);
    FloatVector.fromArray(F, state, SCALE).blend(scale, better).intoArray(state, SCALE);
    FloatVector.fromArray(F, state, INVERSE)
      .blend(FloatVector.fromArray(F, state, TRIED_INVERSE), better)
      .intoArray(state, INVERSE);
  }

  private void finish(int to) {
    VectorMask<Float> none = FloatVector.fromArray(F, state, MAXIMUM).lanewise(ABS).lt(KSearch.ZERO);
    FloatVector.fromArray(F, state, SCALE).blend(0, none).intoArray(scales, to);
    FloatVector.fromArray(F, state, INVERSE).blend(Float.NaN, none).intoArray(inverses, to);
  }
}
