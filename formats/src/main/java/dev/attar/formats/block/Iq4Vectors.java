package dev.attar.formats.block;

import static jdk.incubator.vector.VectorOperators.ABS;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LT;

import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;

/**
 * IQ4_NL and IQ4_XS with SIMD: every lane runs the search of {@link ScalarEncoders} on a block of its own. Each method without other
 * comment has the parameters of {@link BlockEncoder#encode}.
 *
 * <p>The nearest of the 16 values is found by halving, four comparisons with thresholds. The outcomes of the first three, each a
 * bit of {@code path} that is set where the number is below the threshold, pick the next threshold from a table held in a register.
 * With 4 lanes the tables would not fit: there the 15 steps between values are subtracted one by one where the number is below.
 */
final class Iq4Vectors {

  private static final int N = Lanes.COUNT;
  private static final float[] T = Iq4.THRESHOLDS;

  /** Super-blocks of IQ4_XS that are searched before their scales are encoded. */
  private static final int GROUP = 4;

  /** By path of two comparisons: the third threshold. By path of three: the fourth, and the value and index if not below and below. */
  private static final int[] THIRD = new int[16];

  private static final int[] FOURTH = new int[16];
  private static final int[] VALUE_NOT_BELOW = new int[16];
  private static final int[] VALUE_BELOW = new int[16];
  private static final int[] INDEX_NOT_BELOW = new int[16];

  static {
    for (int path = 0; path < 16; path++) {
      int index = ((path & 1) == 0 ? 8 : 0) + ((path & 2) == 0 ? 4 : 0);
      THIRD[path] = Float.floatToRawIntBits(T[index + 2]);
      index += (path & 4) == 0 ? 2 : 0;
      FOURTH[path] = Float.floatToRawIntBits(T[index + 1]);
      VALUE_NOT_BELOW[path] = Float.floatToRawIntBits(Iq4.VALUES[index + 1]);
      VALUE_BELOW[path] = Float.floatToRawIntBits(Iq4.VALUES[index]);
      INDEX_NOT_BELOW[path] = index + 1;
    }
  }

  private Iq4Vectors() {}

  static void iq4nl(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    float[] values = new float[32 * N];
    float[] weights = new float[32 * N];
    float[] spreads = new float[N];
    float[] scales = new float[N];
    int[] q = new int[32];
    int blocks = (rowLength * rows) / 32;
    for (int first = 0; first < blocks; first += N) {
      int count = Math.min(N, blocks - first);
      load(x, xAt + 32 * first, count, values);
      if (w == null) {
        squares(values, weights);
      } else {
        load(w, wAt, rowLength, 32 * first, count, weights);
        spreads(values, spreads);
        SearchVectors.weigh(values, weights, spreads);
      }
      search(values, weights, scales, 0);
      for (int lane = 0; lane < count; lane++) {
        int to = outAt + 18 * (first + lane);
        float scale = scales[lane];
        Bits.putScale(out, to, scale);
        codewords(x, xAt + 32 * (first + lane), scale != 0 ? 1 / scale : 0, q);
        LegacyVectors.nibbles(q, out, to + 2);
      }
    }
  }

  static void iq4xs(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    float[] values = new float[32 * N];
    float[] weights = new float[32 * N];
    float[] spreads = new float[N];
    float[] groupSpreads = new float[GROUP];
    float[] scales = new float[8 * GROUP];
    float[] inverses = new float[8];
    int[] q = new int[32];
    int superBlocks = (rowLength * rows) / 256;
    for (int first = 0; first < superBlocks; first += GROUP) {
      int from = xAt + 256 * first;
      int superCount = Math.min(GROUP, superBlocks - first);
      if (w != null) {
        groupSpreads(x, from, superCount, groupSpreads);
      }
      for (int b = 0; b < 8 * superCount; b += N) {
        int count = Math.min(N, 8 * superCount - b);
        load(x, from + 32 * b, count, values);
        if (w == null) {
          squares(values, weights);
        } else {
          load(w, wAt, rowLength, 256 * first + 32 * b, count, weights);
          for (int lane = 0; lane < count; lane++) {
            spreads[lane] = groupSpreads[(b + lane) / 8];
          }
          SearchVectors.weigh(values, weights, spreads);
        }
        search(values, weights, scales, b);
      }
      for (int s = 0; s < superCount; s++) {
        int to = outAt + 136 * (first + s);
        ScalarEncoders.iq4Scales(scales, 8 * s, inverses, out, to);
        for (int b = 0; b < 8; b++) {
          codewords(x, from + 256 * s + 32 * b, inverses[b], q);
          LegacyVectors.nibbles(q, out, to + 8 + 16 * b);
        }
      }
    }
  }

  /** Interleaves consecutive blocks; lanes without a block get zeros. */
  private static void load(float[] x, int from, int count, float[] interleaved) {
    if (count < N) {
      Arrays.fill(interleaved, 0);
    }
    for (int lane = 0; lane < count; lane++) {
      Lanes.interleave(x, from + 32 * lane, interleaved, lane);
    }
  }

  /** Interleaves the weights of the columns of consecutive blocks, the first of which is {@code at} values from the first row's start. */
  private static void load(float[] w, int wAt, int rowLength, int at, int count, float[] interleaved) {
    for (int lane = 0; lane < count; lane++) {
      Lanes.interleave(w, wAt + ((at + 32 * lane) % rowLength), interleaved, lane);
    }
  }

  private static void squares(float[] x, float[] squares) {
    for (int j = 0; j < 32 * N; j += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      v.mul(v).intoArray(squares, j);
    }
  }

  /** Twice the mean square of each lane's block. */
  private static void spreads(float[] x, float[] spreads) {
    FloatVector sum = FloatVector.zero(Lanes.FLOAT);
    for (int j = 0; j < 32 * N; j += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      sum = sum.add(v.mul(v));
    }
    sum.mul(2f / 32).intoArray(spreads, 0);
  }

  /** Twice the mean square of each super-block. */
  private static void groupSpreads(float[] x, int from, int count, float[] spreads) {
    if (count == GROUP) {
      SearchVectors.sumsOfSquares(x, from, 256, spreads, 0);
    } else {
      for (int s = 0; s < count; s++) {
        spreads[s] = ScalarEncoders.sumOfSquares(x, from + 256 * s, 256);
      }
    }
    for (int s = 0; s < count; s++) {
      spreads[s] *= 2f / 256;
    }
  }

  /** The scale of each lane's block. */
  private static void search(float[] x, float[] w, float[] scales, int to) {
    FloatVector most = FloatVector.zero(Lanes.FLOAT);
    FloatVector max = most;
    for (int j = 0; j < 32 * N; j += N) {
      FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
      FloatVector magnitude = v.lanewise(ABS);
      VectorMask<Float> more = magnitude.compare(GT, most);
      most = most.blend(magnitude, more);
      max = max.blend(v, more);
    }
    IntVector third = IntVector.fromArray(Lanes.INT, THIRD, 0);
    IntVector fourth = IntVector.fromArray(Lanes.INT, FOURTH, 0);
    IntVector valueNotBelow = IntVector.fromArray(Lanes.INT, VALUE_NOT_BELOW, 0);
    IntVector valueBelow = IntVector.fromArray(Lanes.INT, VALUE_BELOW, 0);
    FloatVector scale = FloatVector.zero(Lanes.FLOAT);
    FloatVector best = scale;
    for (int t = -1; t < 15; t++) {
      FloatVector inverse = t < 0
        ? FloatVector.broadcast(Lanes.FLOAT, 1f).div(max.neg().div(Iq4.VALUES[0]))
        : FloatVector.broadcast(Lanes.FLOAT, t - 7f + Iq4.VALUES[0]).div(max);
      FloatVector sumQx = FloatVector.zero(Lanes.FLOAT);
      FloatVector sumQ2 = FloatVector.zero(Lanes.FLOAT);
      for (int j = 0; j < 32 * N; j += N) {
        FloatVector v = FloatVector.fromArray(Lanes.FLOAT, x, j);
        FloatVector scaled = v.mul(inverse);
        FloatVector q;
        if (N >= 8) {
          VectorMask<Float> below = scaled.compare(LT, T[8]);
          IntVector path = IntVector.zero(Lanes.INT).blend(1, below.cast(Lanes.INT));
          FloatVector threshold = FloatVector.broadcast(Lanes.FLOAT, T[12]).blend(T[4], below);
          path = path.add(2, scaled.compare(LT, threshold).cast(Lanes.INT));
          threshold = path.selectFrom(third).reinterpretAsFloats();
          path = path.add(4, scaled.compare(LT, threshold).cast(Lanes.INT));
          threshold = path.selectFrom(fourth).reinterpretAsFloats();
          below = scaled.compare(LT, threshold);
          q = path.selectFrom(valueNotBelow).reinterpretAsFloats();
          q = q.blend(path.selectFrom(valueBelow).reinterpretAsFloats(), below);
        } else {
          q = FloatVector.broadcast(Lanes.FLOAT, Iq4.VALUES[15]);
          for (int i = 1; i < 16; i++) {
            q = q.sub(Iq4.VALUES[i] - Iq4.VALUES[i - 1], scaled.compare(LT, T[i]));
          }
        }
        FloatVector wq = FloatVector.fromArray(Lanes.FLOAT, w, j).mul(q);
        sumQx = sumQx.add(wq.mul(v));
        sumQ2 = sumQ2.add(wq.mul(q));
      }
      FloatVector fit = sumQx.div(sumQ2);
      VectorMask<Float> better = sumQ2.compare(GT, 0);
      if (t >= 0) {
        better = better.and(sumQx.mul(sumQx).compare(GT, best.mul(sumQ2)));
      }
      scale = scale.blend(fit, better);
      best = t < 0 ? scale.mul(sumQx) : best.blend(fit.mul(sumQx), better);
    }
    scale = scale.blend(0, most.compare(LT, ScalarEncoders.SMALLEST));
    if (to <= scales.length - N) {
      scale.intoArray(scales, to);
    } else {
      scale.intoArray(scales, to, Lanes.FLOAT.indexInRange(0, scales.length - to));
    }
  }

  /** The indexes of the values nearest to {@code inverse * x} in a block. */
  private static void codewords(float[] x, int from, float inverse, int[] q) {
    IntVector third = IntVector.fromArray(Lanes.INT, THIRD, 0);
    IntVector fourth = IntVector.fromArray(Lanes.INT, FOURTH, 0);
    IntVector notBelow = IntVector.fromArray(Lanes.INT, INDEX_NOT_BELOW, 0);
    for (int k = 0; k < 32; k += N) {
      FloatVector scaled = FloatVector.fromArray(Lanes.FLOAT, x, from + k).mul(inverse);
      IntVector index;
      if (N >= 8) {
        VectorMask<Float> below = scaled.compare(LT, T[8]);
        IntVector path = IntVector.zero(Lanes.INT).blend(1, below.cast(Lanes.INT));
        FloatVector threshold = FloatVector.broadcast(Lanes.FLOAT, T[12]).blend(T[4], below);
        path = path.add(2, scaled.compare(LT, threshold).cast(Lanes.INT));
        threshold = path.selectFrom(third).reinterpretAsFloats();
        path = path.add(4, scaled.compare(LT, threshold).cast(Lanes.INT));
        threshold = path.selectFrom(fourth).reinterpretAsFloats();
        index = path.selectFrom(notBelow).sub(1, scaled.compare(LT, threshold).cast(Lanes.INT));
      } else {
        index = IntVector.broadcast(Lanes.INT, 15);
        for (int i = 1; i < 16; i++) {
          index = index.sub(1, scaled.compare(LT, T[i]).cast(Lanes.INT));
        }
      }
      index.intoArray(q, k);
    }
  }
}
