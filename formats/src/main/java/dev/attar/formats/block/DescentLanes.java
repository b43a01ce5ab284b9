package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.ABS;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.NE;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorSpecies;

/** The search of {@link KSearch#descend}, a block in each lane; see {@link AffineLanes}. */
final class DescentLanes {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  /** Floats in N blocks. */
  private static final int GROUP = KQuants.Symmetric.LENGTH * N;

  /** The scales found, an entry for each block. */
  final float[] scales;

  /** The codes found, interleaved as the values. */
  final float[] codes;

  private final float[] squares = new float[GROUP];
  private final float[] cubes = new float[GROUP];
  private final float[] state = new float[3 * N];

  // Where the state's vectors lie.
  private static final int MAXIMUM = 0;
  private static final int SUM_XL = N;
  private static final int SUM_L2 = 2 * N;

  /** Makes room for the results of this many blocks. */
  DescentLanes(int blocks) {
    scales = new float[blocks];
    codes = new float[KQuants.Symmetric.LENGTH * blocks];
  }

  /**
   * Searches scales and codes of N blocks.
   *
   * @param x the values
   * @param at where they begin, and where the codes begin
   * @param half codes lie between this, negated, and one less; they are given with this added
   * @param to where the scale of the first lane goes
   */
  void search(float[] x, int at, int half, int to) {
    LaneCodes.largest(x, at, GROUP, state, MAXIMUM);
    round(x, at, half);
    for (int t = 0; t < KSearch.DESCENTS; t++) {
      if (!descend(x, at, half)) {
        break;
      }
    }
    finish(at, half, to);
  }

  private void round(float[] x, int at, int half) {
    FloatVector inverse = FloatVector.broadcast(F, -half).div(FloatVector.fromArray(F, state, MAXIMUM));
    FloatVector sumXl = FloatVector.zero(F);
    FloatVector sumL2 = FloatVector.zero(F);
    for (int i = 0; i < GROUP; i += N) {
      FloatVector v = FloatVector.fromArray(F, x, at + i);
      FloatVector square = v.mul(v);
      FloatVector cube = square.mul(v);
      FloatVector l = LaneCodes.small(inverse.mul(v), -half, half - 1);
      sumXl = sumXl.add(cube.mul(l));
      sumL2 = sumL2.add(square.mul(l).mul(l));
      square.intoArray(squares, i);
      cube.intoArray(cubes, i);
      l.intoArray(codes, at + i);
    }
    sumXl.intoArray(state, SUM_XL);
    sumL2.intoArray(state, SUM_L2);
  }

  /**
   * Goes over the codes once. A lane in which nothing changes would not change in further rounds either.
   *
   * <p>A step waits for the sums of the one before it, unless the branch says, ahead of the division, that no lane's code changes.
   */
  private boolean descend(float[] x, int at, int half) {
    FloatVector sumXl = FloatVector.fromArray(F, state, SUM_XL);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    boolean changed = false;
    for (int i = 0; i < GROUP; i += N) {
      FloatVector l = FloatVector.fromArray(F, codes, at + i);
      FloatVector square = FloatVector.fromArray(F, squares, i);
      FloatVector cube = FloatVector.fromArray(F, cubes, i);
      FloatVector othersXl = sumXl.sub(cube.mul(l));
      FloatVector othersL2 = sumL2.sub(square.mul(l).mul(l));
      FloatVector ideal = FloatVector.fromArray(F, x, at + i).mul(othersL2).div(othersXl);
      FloatVector better = LaneCodes.code(ideal, -half, half - 1);
      VectorMask<Float> other = othersXl.compare(GT, 0).and(better.compare(NE, l));
      if (!other.anyTrue()) {
        continue;
      }
      FloatVector newXl = othersXl.add(cube.mul(better));
      FloatVector newL2 = othersL2.add(square.mul(better).mul(better));
      VectorMask<Float> take = other
        .and(newL2.compare(GT, 0))
        .and(newXl.mul(newXl).mul(sumL2).compare(GT, sumXl.mul(sumXl).mul(newL2)));
      l.blend(better, take).intoArray(codes, at + i);
      sumXl = sumXl.blend(newXl, take);
      sumL2 = sumL2.blend(newL2, take);
      changed |= take.anyTrue();
    }
    sumXl.intoArray(state, SUM_XL);
    sumL2.intoArray(state, SUM_L2);
    return changed;
  }

  private void finish(int at, int half, int to) {
    VectorMask<Float> none = FloatVector.fromArray(F, state, MAXIMUM).lanewise(ABS).lt(KSearch.ZERO);
    FloatVector sumL2 = FloatVector.fromArray(F, state, SUM_L2);
    FloatVector scale = FloatVector.fromArray(F, state, SUM_XL).div(sumL2);
    FloatVector.zero(F).blend(scale, sumL2.compare(GT, 0)).blend(0, none).intoArray(scales, to);
    for (int i = 0; i < GROUP; i += N) {
      FloatVector.fromArray(F, codes, at + i).add(half).blend(0, none).intoArray(codes, at + i);
    }
  }
}
