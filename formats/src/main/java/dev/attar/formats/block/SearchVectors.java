package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.ABS;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.I2F;
import static jdk.incubator.vector.VectorOperators.LE;
import static jdk.incubator.vector.VectorOperators.LT;
import static jdk.incubator.vector.VectorOperators.MAX;
import static jdk.incubator.vector.VectorOperators.MIN;
import static jdk.incubator.vector.VectorOperators.NE;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;

/**
 * The searches for scales of 32-value blocks with importance weights: every lane runs the search of {@link ScalarEncoders} on a block
 * of its own, so the order of operations within a block stays the same. Branches become blends.
 *
 * <p>Methods here exchange arrays and numbers, not vectors: a vector that is a parameter costs an object unless the method is
 * inlined, which is not certain.
 */
final class SearchVectors {

  private static final int N = Lanes.COUNT;
  private static final float MAGIC = ScalarEncoders.MAGIC;
  private static final int MAGIC_BITS = Float.floatToRawIntBits(MAGIC);

  private SearchVectors() {}

  /** Up to {@link Lanes#COUNT} blocks on their way through a search. */
  private static final class Batch {

    /** Values and their weights, interleaved. */
    final float[] x = new float[32 * N];

    final float[] w = new float[32 * N];

    /** Scratch of a search, interleaved. */
    final float[] scratch = new float[32 * N];

    /** Per lane: the mean square of the block's row. */
    final float[] meanSquare = new float[N];

    /** Per lane, results: the scale, and what turns values into integers: {@code nearest(inverse * (x - base))}. */
    final float[] scale = new float[N];

    final float[] min = new float[N];
    final float[] inverse = new float[N];
    final float[] base = new float[N];

    /** Integers of one block. */
    final int[] q = new int[32];
  }

  /** Q4_0 ({@code top} 8) and Q5_0 (16). */
  static void symmetric(
    float[] x,
    int xAt,
    int rowLength,
    int rows,
    float[] w,
    int wAt,
    byte[] out,
    int outAt,
    int top
  ) {
    Batch batch = new Batch();
    float[] meanSquares = meanSquares(x, xAt, rowLength, rows);
    int bytes = top == 8 ? 18 : 22;
    int blocks = (rowLength / 32) * rows;
    for (int first = 0; first < blocks; first += N) {
      int count = Math.min(N, blocks - first);
      load(x, xAt, rowLength, w, wAt, first, count, meanSquares, batch);
      searchSymmetric(batch.x, batch.w, batch.scratch, top, batch.scale, batch.inverse);
      for (int lane = 0; lane < count; lane++) {
        int to = outAt + (first + lane) * bytes;
        Bits.putScale(out, to, batch.scale[lane]);
        symmetricIntegers(x, xAt + 32 * (first + lane), batch.inverse[lane], top, batch.q);
        if (top == 16) {
          Bits.putInt(out, to + 2, LegacyVectors.fifthBits(batch.q));
        }
        LegacyVectors.nibbles(batch.q, out, to + bytes - 16);
      }
    }
  }

  /** Q4_1 ({@code top} 15) and Q5_1 (31). */
  static void affine(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt, int top) {
    Batch batch = new Batch();
    float[] meanSquares = meanSquares(x, xAt, rowLength, rows);
    int bytes = top == 15 ? 20 : 24;
    int blocks = (rowLength / 32) * rows;
    for (int first = 0; first < blocks; first += N) {
      int count = Math.min(N, blocks - first);
      load(x, xAt, rowLength, w, wAt, first, count, meanSquares, batch);
      searchAffine(batch.x, batch.w, batch.scratch, top, batch);
      for (int lane = 0; lane < count; lane++) {
        int to = outAt + (first + lane) * bytes;
        Bits.putScale(out, to, batch.scale[lane]);
        Bits.putScale(out, to + 2, batch.min[lane]);
        affineIntegers(x, xAt + 32 * (first + lane), batch.base[lane], batch.inverse[lane], top, batch.q);
        if (top == 31) {
          Bits.putInt(out, to + 4, LegacyVectors.fifthBits(batch.q));
        }
        LegacyVectors.nibbles(batch.q, out, to + bytes - 16);
      }
    }
  }

  /** The mean square of each row. A sum's additions wait for one another, so four rows go side by side. */
  private static float[] meanSquares(float[] x, int xAt, int rowLength, int rows) {
    float[] means = new float[rows];
    int r = 0;
    for (; r <= rows - 4; r += 4) {
      sumsOfSquares(x, xAt + r * rowLength, rowLength, means, r);
    }
    for (; r < rows; r++) {
      means[r] = ScalarEncoders.sumOfSquares(x, xAt + r * rowLength, rowLength);
    }
    for (r = 0; r < rows; r++) {
      means[r] /= rowLength;
    }
    return means;
  }

  /** The sums of squares of four runs of {@code count} values, one after the other; each is added in order. */
  static void sumsOfSquares(float[] x, int from, int count, float[] sums, int to) {
    float a = 0;
    float b = 0;
    float c = 0;
    float d = 0;
    for (int j = from; j < from + count; j++) {
      a += x[j] * x[j];
      b += x[j + count] * x[j + count];
      c += x[j + 2 * count] * x[j + 2 * count];
      d += x[j + 3 * count] * x[j + 3 * count];
    }
    sums[to] = a;
    sums[to + 1] = b;
    sums[to + 2] = c;
    sums[to + 3] = d;
  }

  /** Interleaves blocks and computes their weights; lanes without a block get zeros. */
  private static void load(
    float[] x,
    int xAt,
    int rowLength,
    float[] w,
    int wAt,
    int first,
    int count,
    float[] meanSquares,
    Batch batch
  ) {
    if (count < N) {
      Arrays.fill(batch.x, 0);
      Arrays.fill(batch.w, 0);
    }
    for (int lane = 0; lane < count; lane++) {
      int at = 32 * (first + lane);
      Lanes.interleave(x, xAt + at, batch.x, lane);
      Lanes.interleave(w, wAt + (at % rowLength), batch.w, lane);
      batch.meanSquare[lane] = meanSquares[at / rowLength];
    }
    weigh(batch.x, batch.w, batch.meanSquare);
  }

  /** Replaces columns' weights by values' weights. */
  static void weigh(float[] x, float[] w, float[] spread) {
    FloatVector s = FloatVector.fromArray(Lanes.FLOAT, spread, 0);
    for (int j = 0; j < 32 * N; j += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      FloatVector.fromArray(Lanes.FLOAT, w, j).mul(s.add(v.mul(v)).sqrt()).intoArray(w, j);
    }
  }

  /** As {@link ScalarEncoders}'s; a lane of zeros gets an inverse that is not a number. */
  private static void searchSymmetric(float[] x, float[] w, float[] wx, int top, float[] scales, float[] inverses) {
    FloatVector most = FloatVector.zero(Lanes.FLOAT);
    FloatVector max = most;
    for (int j = 0; j < 32 * N; j += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      FloatVector magnitude = v.lanewise(ABS);
      VectorMask<Float> more = magnitude.compare(GT, most);
      most = most.blend(magnitude, more);
      max = max.blend(v, more);
      FloatVector.fromArray(Lanes.FLOAT, w, j).mul(v).intoArray(wx, j);
    }
    FloatVector scale = FloatVector.zero(Lanes.FLOAT);
    FloatVector best = scale;
    FloatVector kept = scale;
    int least = MAGIC_BITS - top;
    int largest = MAGIC_BITS + top - 1;
    for (int t = 0; t < 19; t++) {
      FloatVector inverse = FloatVector.broadcast(Lanes.FLOAT, -(top + 0.1f * ScalarEncoders.step(t))).div(max);
      FloatVector sumLx = FloatVector.zero(Lanes.FLOAT);
      FloatVector sumL2 = FloatVector.zero(Lanes.FLOAT);
      for (int j = 0; j < 32 * N; j += N) {
        // No product exceeds top + 1 in magnitude, so integers can be clamped in the form they have after adding MAGIC.
        IntVector l = inverse.mul(FloatVector.fromArray(Lanes.FLOAT, x, j)).add(MAGIC).reinterpretAsInts();
        FloatVector q = l.lanewise(MAX, least).lanewise(MIN, largest).reinterpretAsFloats().sub(MAGIC);
        sumLx = sumLx.add(FloatVector.fromArray(Lanes.FLOAT, wx, j).mul(q));
        sumL2 = sumL2.add(FloatVector.fromArray(Lanes.FLOAT, w, j).mul(q).mul(q));
      }
      FloatVector fit = sumLx.div(sumL2);
      if (t == 0) {
        scale = scale.blend(fit, sumL2.compare(NE, 0));
        best = scale.mul(sumLx);
        kept = inverse;
      } else {
        VectorMask<Float> better = sumL2.compare(GT, 0).and(sumLx.mul(sumLx).compare(GT, best.mul(sumL2)));
        scale = scale.blend(fit, better);
        best = best.blend(fit.mul(sumLx), better);
        kept = kept.blend(inverse, better);
      }
    }
    VectorMask<Float> zero = most.compare(LT, ScalarEncoders.SMALLEST);
    scale.blend(0, zero).intoArray(scales, 0);
    kept.blend(Float.NaN, zero).intoArray(inverses, 0);
  }

  private static void symmetricIntegers(float[] x, int from, float inverse, int top, int[] q) {
    if (Float.isNaN(inverse)) {
      Arrays.fill(q, 0);
      return;
    }
    for (int k = 0; k < 32; k += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, from + k);
      IntVector l = v.mul(inverse).add(MAGIC).reinterpretAsInts().sub(MAGIC_BITS - top);
      l.lanewise(MAX, 0).lanewise(MIN, 2 * top - 1).intoArray(q, k);
    }
  }

  private static void searchAffine(float[] x, float[] w, float[] tried, int top, Batch batch) {
    FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, 0);
    FloatVector min = v;
    FloatVector max = v;
    FloatVector sumW = FloatVector.fromArray(Lanes.FLOAT, w, 0);
    FloatVector sumX = sumW.mul(v);
    for (int j = N; j < 32 * N; j += N) {
      v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      FloatVector weight = FloatVector.fromArray(Lanes.FLOAT, w, j);
      min = min.blend(v, v.compare(LT, min));
      max = max.blend(v, v.compare(GT, max));
      sumW = sumW.add(weight);
      sumX = sumX.add(weight.mul(v));
    }
    min = min.blend(0, min.compare(GT, 0));
    VectorMask<Float> constant = max.compare(LE, min);
    FloatVector inverse = FloatVector.broadcast(Lanes.FLOAT, (float) top).div(max.sub(min));
    FloatVector scale = FloatVector.broadcast(Lanes.FLOAT, 1f).div(inverse);
    FloatVector keptInverse = inverse;
    FloatVector keptBase = min;
    FloatVector best = FloatVector.zero(Lanes.FLOAT);
    for (int j = 0; j < 32 * N; j += N) {
      v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      IntVector l = inverse.mul(v.sub(min)).add(MAGIC).reinterpretAsInts().and(0x7FFFFF).sub(0x400000);
      FloatVector q = (FloatVector) l.lanewise(MAX, 0).lanewise(MIN, top).convert(I2F, 0);
      FloatVector error = scale.mul(q).add(min).sub(v);
      best = best.add(FloatVector.fromArray(Lanes.FLOAT, w, j).mul(error.mul(error)));
    }
    for (int step = 0; step <= 36; step++) {
      inverse = FloatVector.broadcast(Lanes.FLOAT, ScalarEncoders.affineNumerator(step, top)).div(max.sub(min));
      FloatVector sumL = FloatVector.zero(Lanes.FLOAT);
      FloatVector sumL2 = FloatVector.zero(Lanes.FLOAT);
      FloatVector sumLx = FloatVector.zero(Lanes.FLOAT);
      for (int j = 0; j < 32 * N; j += N) {
        v = FloatVector.fromArray(Lanes.FLOAT, x, j);
        IntVector l = inverse.mul(v.sub(min)).add(MAGIC).reinterpretAsInts().and(0x7FFFFF).sub(0x400000);
        FloatVector q = (FloatVector) l.lanewise(MAX, 0).lanewise(MIN, top).convert(I2F, 0);
        q.intoArray(tried, j);
        FloatVector wl = FloatVector.fromArray(Lanes.FLOAT, w, j).mul(q);
        sumL = sumL.add(wl);
        sumL2 = sumL2.add(wl.mul(q));
        sumLx = sumLx.add(wl.mul(v));
      }
      FloatVector determinant = sumW.mul(sumL2).sub(sumL.mul(sumL));
      FloatVector fitScale = sumW.mul(sumLx).sub(sumX.mul(sumL)).div(determinant);
      FloatVector fitMin = sumL2.mul(sumX).sub(sumL.mul(sumLx)).div(determinant);
      VectorMask<Float> positive = fitMin.compare(GT, 0);
      fitMin = fitMin.blend(0, positive);
      fitScale = fitScale.blend(sumLx.div(sumL2), positive);
      FloatVector sum = FloatVector.zero(Lanes.FLOAT);
      for (int j = 0; j < 32 * N; j += N) {
        FloatVector q = FloatVector.fromArray(Lanes.FLOAT, tried, j);
        FloatVector error = fitScale.mul(q).add(fitMin).sub(FloatVector.fromArray(Lanes.FLOAT, x, j));
        sum = sum.add(FloatVector.fromArray(Lanes.FLOAT, w, j).mul(error.mul(error)));
      }
      VectorMask<Float> better = determinant.compare(GT, 0).and(sum.compare(LT, best));
      keptInverse = keptInverse.blend(inverse, better);
      keptBase = keptBase.blend(min, better);
      best = best.blend(sum, better);
      scale = scale.blend(fitScale, better);
      min = min.blend(fitMin, better);
    }
    // A constant block stopped before the steps: whatever they made of it is replaced.
    scale.blend(0, constant).intoArray(batch.scale, 0);
    keptInverse.blend(0, constant).intoArray(batch.inverse, 0);
    keptBase.intoArray(batch.base, 0);
    min.intoArray(batch.min, 0);
  }

  private static void affineIntegers(float[] x, int from, float base, float inverse, int top, int[] q) {
    for (int k = 0; k < 32; k += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, from + k);
      IntVector l = v.sub(base).mul(inverse).add(MAGIC).reinterpretAsInts().and(0x7FFFFF).sub(0x400000);
      l.lanewise(MAX, 0).lanewise(MIN, top).intoArray(q, k);
    }
  }
}
