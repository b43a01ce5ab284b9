package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.ABS;
import static jdk.incubator.vector.VectorOperators.GT;

import dev.attar.formats.block.KQuants.Range;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/**
 * The search of {@link KSearch#affine}, a block in each lane. A lane does what the scalar search does on its own block, operation by
 * operation, so its sums are rounded in the same order and the result has the same bits; where the scalar search branches, a mask says
 * which lanes take the new value. Adding along a block with vectors would be as quick, but would add in another order.
 *
 * <p>Blocks lie interleaved: value {@code i} of lane {@code k} is at {@code i * N + k}, N lanes. Between the steps of a search its
 * state lies in memory: the compiler reliably keeps vectors in registers within one small method only, and a small method is compiled
 * soon.
 *
 * <p>Where all values are the same, the inverse of the scale is infinite, the scale 0, the codes 0, and the error 0 or not a number, so
 * that no try is better. The best codes are not kept, as they are seldom needed; they are {@code code(inverse * (x - origin))}.
 */
final class AffineLanes {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  /** The scales found, an entry for each block. */
  final float[] scales;

  /** The minima, negated. */
  final float[] minima;

  /** With the next: how the best codes come about. */
  final float[] inverses;

  final float[] origins;

  /** Sums of weights. */
  final float[] weights;

  private final float[] state = new float[STATE];
  private final float[] tried = new float[32 * N];

  /** Makes room for the results of this many blocks, of 32 values at most. */
  AffineLanes(int blocks) {
    scales = new float[blocks];
    minima = new float[blocks];
    inverses = new float[blocks];
    origins = new float[blocks];
    weights = new float[blocks];
  }

  /**
   * Searches scales and minima of N blocks.
   *
   * @param x the values
   * @param w their weights
   * @param at where both begin
   * @param n values per block
   * @param to where the results of the first lane go
   */
  void search(float[] x, float[] w, int at, int n, int maxCode, Range range, int to) {
    start(x, w, at, n);
    first(x, w, at, n, maxCode, range.absolute());
    for (int t = 0; t <= range.last(); t++) {
      solve(x, w, at, n, maxCode, range.from() + range.step() * t + maxCode);
      if (range.absolute()) {
        absoluteError(x, w, at, n);
      } else {
        squaredError(x, w, at, n);
      }
      accept();
    }
    System.arraycopy(state, SCALE, scales, to, N);
    FloatVector.fromArray(F, state, MINIMUM).neg().intoArray(minima, to);
    System.arraycopy(state, INVERSE, inverses, to, N);
    System.arraycopy(state, ORIGIN, origins, to, N);
    System.arraycopy(state, SUM_W, weights, to, N);
  }

  // Where the state's vectors lie.
  private static final int MINIMUM = 0;
  private static final int MAXIMUM = N;
  private static final int SUM_W = 2 * N;
  private static final int SUM_X = 3 * N;
  private static final int BEST = 4 * N;
  private static final int SCALE = 5 * N;
  private static final int INVERSE = 6 * N;
  private static final int ORIGIN = 7 * N;
  private static final int TRIED_SCALE = 8 * N;
  private static final int TRIED_MINIMUM = 9 * N;
  private static final int TRIED_INVERSE = 10 * N;
  private static final int TRIED_ERROR = 11 * N;
  private static final int STATE = 12 * N;

  private void start(float[] x, float[] w, int at, int n) {
    FloatVector min = FloatVector.fromArray(F, x, at);
    FloatVector max = min;
    FloatVector sumW = FloatVector.fromArray(F, w, at);
    FloatVector sumX = sumW.mul(min);
    for (int i = N; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, x, at + i);
      FloatVector weight = FloatVector.fromArray(F, w, at + i);
      min = min.blend(v, v.lt(min));
      max = max.blend(v, v.compare(GT, max));
      sumW = sumW.add(weight);
      sumX = sumX.add(weight.mul(v));
    }
    min.blend(0, min.compare(GT, 0)).intoArray(state, MINIMUM);
    max.intoArray(state, MAXIMUM);
    sumW.intoArray(state, SUM_W);
    sumX.intoArray(state, SUM_X);
  }

  private void first(float[] x, float[] w, int at, int n, int maxCode, boolean absolute) {
    FloatVector min = FloatVector.fromArray(F, state, MINIMUM);
    FloatVector inverse = FloatVector.broadcast(F, maxCode).div(FloatVector.fromArray(F, state, MAXIMUM).sub(min));
    for (int i = 0; i < n * N; i += N) {
      LaneCodes.code(inverse.mul(FloatVector.fromArray(F, x, at + i).sub(min)), 0, maxCode).intoArray(tried, i);
    }
    FloatVector scale = FloatVector.broadcast(F, 1).div(inverse);
    scale.intoArray(state, TRIED_SCALE);
    scale.intoArray(state, SCALE);
    min.intoArray(state, TRIED_MINIMUM);
    inverse.intoArray(state, INVERSE);
    min.intoArray(state, ORIGIN);
    if (absolute) {
      absoluteError(x, w, at, n);
    } else {
      squaredError(x, w, at, n);
    }
    System.arraycopy(state, TRIED_ERROR, state, BEST, N);
  }

  private void solve(float[] x, float[] w, int at, int n, int maxCode, float span) {
    FloatVector min = FloatVector.fromArray(F, state, MINIMUM);
    FloatVector inverse = FloatVector.broadcast(F, span).div(FloatVector.fromArray(F, state, MAXIMUM).sub(min));
    FloatVector sumL = FloatVector.zero(F);
    FloatVector sumL2 = FloatVector.zero(F);
    FloatVector sumXl = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector v = FloatVector.fromArray(F, x, at + i);
      FloatVector l = LaneCodes.code(inverse.mul(v.sub(min)), 0, maxCode);
      l.intoArray(tried, i);
      FloatVector wl = FloatVector.fromArray(F, w, at + i).mul(l);
      sumL = sumL.add(wl);
      sumL2 = sumL2.add(wl.mul(l));
      sumXl = sumXl.add(wl.mul(v));
    }
    FloatVector sumW = FloatVector.fromArray(F, state, SUM_W);
    FloatVector sumX = FloatVector.fromArray(F, state, SUM_X);
    FloatVector determinant = sumW.mul(sumL2).sub(sumL.mul(sumL));
    FloatVector triedScale = sumW.mul(sumXl).sub(sumX.mul(sumL)).div(determinant);
    FloatVector triedMin = sumL2.mul(sumX).sub(sumL.mul(sumXl)).div(determinant);
    VectorMask<Float> positive = triedMin.compare(GT, 0);
    // Without a solution the error is made not a number, so that it is not smaller.
    VectorMask<Float> solved = determinant.compare(GT, 0);
    FloatVector none = FloatVector.broadcast(F, Float.NaN);
    none.blend(triedScale.blend(sumXl.div(sumL2), positive), solved).intoArray(state, TRIED_SCALE);
    triedMin.blend(0, positive).intoArray(state, TRIED_MINIMUM);
    inverse.intoArray(state, TRIED_INVERSE);
  }

  private void squaredError(float[] x, float[] w, int at, int n) {
    FloatVector scale = FloatVector.fromArray(F, state, TRIED_SCALE);
    FloatVector min = FloatVector.fromArray(F, state, TRIED_MINIMUM);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector l = FloatVector.fromArray(F, tried, i);
      FloatVector difference = scale.mul(l).add(min).sub(FloatVector.fromArray(F, x, at + i));
      sum = sum.add(FloatVector.fromArray(F, w, at + i).mul(difference.mul(difference)));
    }
    sum.intoArray(state, TRIED_ERROR);
  }

  private void absoluteError(float[] x, float[] w, int at, int n) {
    FloatVector scale = FloatVector.fromArray(F, state, TRIED_SCALE);
    FloatVector min = FloatVector.fromArray(F, state, TRIED_MINIMUM);
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n * N; i += N) {
      FloatVector l = FloatVector.fromArray(F, tried, i);
      FloatVector difference = scale.mul(l).add(min).sub(FloatVector.fromArray(F, x, at + i));
      sum = sum.add(FloatVector.fromArray(F, w, at + i).mul(difference.lanewise(ABS)));
    }
    sum.intoArray(state, TRIED_ERROR);
  }

  private void accept() {
    FloatVector sum = FloatVector.fromArray(F, state, TRIED_ERROR);
    VectorMask<Float> better = sum.lt(FloatVector.fromArray(F, state, BEST));
    keep(TRIED_ERROR, BEST, better);
    keep(TRIED_SCALE, SCALE, better);
    keep(TRIED_INVERSE, INVERSE, better);
    keep(MINIMUM, ORIGIN, better);
    keep(TRIED_MINIMUM, MINIMUM, better);
  }

  private void keep(int from, int to, VectorMask<Float> lanes) {
    FloatVector.fromArray(F, state, to).blend(FloatVector.fromArray(F, state, from), lanes).intoArray(state, to);
  }
}
