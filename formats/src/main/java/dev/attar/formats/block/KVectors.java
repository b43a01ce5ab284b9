package dev.attar.formats.block;

import static dev.attar.formats.block.KQuants.SUPER;
import static dev.attar.formats.block.KQuants.Symmetric.LENGTH;
import static dev.attar.formats.block.KQuants.Symmetric.SUB_BLOCKS;

import dev.attar.formats.block.KQuants.Affine;
import dev.attar.formats.block.KQuants.Range;
import dev.attar.formats.block.KQuants.Symmetric;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorSpecies;

/**
 * The k-quants' encoders with SIMD. A batch of super-blocks is cut into groups of as many sub-blocks as there are lanes, whose values
 * are interleaved for the searches in lanes. The last rounding runs along the sub-blocks, as it adds nothing up.
 */
final class KVectors {

  private static final VectorSpecies<Float> F = Lanes.FLOAT;
  private static final int N = Lanes.COUNT;

  /** Super-blocks per batch: their scales and minima together fill the lanes. */
  private static final int BATCH = N / 2;

  private KVectors() {}

  /** Encodes a type whose sub-blocks have a scale and a minimum. */
  record WithMinimum(Affine kind) implements BlockEncoders.Kernel {
    @Override
    public void encode(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
      Working a = new Working();
      AffineLanes found = new AffineLanes(BATCH * kind.subBlocks());
      PositiveLanes fit = new PositiveLanes();
      int total = (rowLength * rows) / SUPER;
      for (int b = 0; b < total; b += BATCH) {
        int count = Math.min(BATCH, total - b);
        int from = xAt + SUPER * b;
        interleave(x, from, count, kind.length, a.values);
        if (w == null) {
          weighByMagnitude(a, count);
          search(a, count, kind.plain, found);
        } else {
          weighByImportance(a.natural, count, kind.sigma, x, from, w, wAt, (SUPER * b) % rowLength, rowLength);
          interleave(a.natural, 0, count, kind.length, a.weights);
          search(a, count, Affine.WEIGHTED, found);
          fit(found, count, fit);
        }
        for (int k = 0; k < count; k++) {
          finish(a, found, w == null ? null : fit, k, x, from + SUPER * k, out, outAt + kind.bytes * (b + k));
        }
      }
    }

    /** Without importance a value weighs more the larger it is. */
    private void weighByMagnitude(Working a, int count) {
      int group = kind.length * N;
      for (int at = 0; at < count * SUPER; at += group) {
        FloatVector mean = FloatVector.zero(F);
        if (kind != Affine.Q2_K) {
          for (int i = at; i < at + group; i += N) {
            FloatVector v = FloatVector.fromArray(F, a.values, i);
            mean = mean.add(v.mul(v));
          }
          mean = mean.div(kind.length).sqrt();
        }
        for (int i = at; i < at + group; i += N) {
          mean.add(FloatVector.fromArray(F, a.values, i).abs()).intoArray(a.weights, i);
        }
      }
    }

    private void search(Working a, int count, Range range, AffineLanes found) {
      for (int s = 0; s < count * kind.subBlocks(); s += N) {
        found.search(a.values, a.weights, s * kind.length, kind.length, kind.maxCode, range, s);
      }
    }

    /** Fits the super-blocks' scales and minima, a super-block's scales in one lane and its minima in another. */
    private void fit(AffineLanes found, int count, PositiveLanes fit) {
      int n = kind.subBlocks();
      for (int k = 0; k < count; k++) {
        for (int j = 0; j < n; j++) {
          int s = n * k + j;
          int lane = N * j + k;
          fit.values[lane] = found.scales[s];
          fit.values[lane + BATCH] = found.minima[s];
          fit.weights[lane] = found.weights[s];
          fit.weights[lane + BATCH] = found.weights[s];
        }
      }
      fit.search(n, kind.maxScale);
    }

    private void finish(
      Working a,
      AffineLanes found,
      PositiveLanes fit,
      int k,
      float[] x,
      int from,
      byte[] out,
      int to
    ) {
      int n = kind.subBlocks();
      float d;
      float dMin;
      if (fit == null) {
        d = kind.asFractions(found.scales, n * k, a.scaleCodes, 0);
        dMin = kind.asFractions(found.minima, n * k, a.minimumCodes, 0);
      } else {
        for (int j = 0; j < n; j++) {
          a.scaleCodes[j] = (byte) (int) fit.codes[N * j + k];
          a.minimumCodes[j] = (byte) (int) fit.codes[N * j + k + BATCH];
        }
        d = fit.scales[k];
        dMin = fit.scales[k + BATCH];
      }
      kind.putScales(a.scaleCodes, a.minimumCodes, 0, d, dMin, out, to);
      kind.getScales(out, to, a.scales, a.minima);
      for (int j = 0; j < n; j++) {
        int i = kind.length * j;
        int s = n * k + j;
        if (a.scales[j] != 0) {
          divide(x, from + i, kind.length, a.minima[j], a.scales[j], kind.maxCode, a.codes, i);
        } else {
          // the search's codes stand
          multiply(x, from + i, kind.length, found.origins[s], found.inverses[s], kind.maxCode, a.codes, i);
        }
      }
      kind.putCodes(a.codes, out, to);
    }

    private static void divide(float[] x, int from, int n, float add, float by, int most, byte[] codes, int to) {
      for (int i = 0; i < n; i += N) {
        FloatVector v = FloatVector.fromArray(F, x, from + i).add(add).div(by);
        LaneCodes.store(v, 0, most, codes, to + i);
      }
    }

    private static void multiply(float[] x, int from, int n, float origin, float by, int most, byte[] codes, int to) {
      for (int i = 0; i < n; i += N) {
        FloatVector v = FloatVector.fromArray(F, x, from + i).sub(origin).mul(by);
        LaneCodes.store(v, 0, most, codes, to + i);
      }
    }
  }

  /** Encodes a type whose sub-blocks have a scale alone. */
  record WithoutMinimum(Symmetric kind) implements BlockEncoders.Kernel {
    @Override
    public void encode(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
      Working a = new Working();
      SymmetricLanes found = new SymmetricLanes(BATCH * SUB_BLOCKS);
      DescentLanes descent = kind == Symmetric.Q3_K && w == null ? new DescentLanes(BATCH * SUB_BLOCKS) : null;
      SymmetricLanes fit = kind == Symmetric.Q3_K && w != null ? new SymmetricLanes(N) : null;
      int total = (rowLength * rows) / SUPER;
      for (int b = 0; b < total; b += BATCH) {
        int count = Math.min(BATCH, total - b);
        int from = xAt + SUPER * b;
        interleave(x, from, count, LENGTH, a.values);
        if (descent != null) {
          for (int s = 0; s < count * SUB_BLOCKS; s += N) {
            descent.search(a.values, LENGTH * s, kind.half, s);
          }
        } else {
          weigh(a, count, x, from, w, wAt, (SUPER * b) % rowLength, rowLength);
          for (int s = 0; s < count * SUB_BLOCKS; s += N) {
            found.search(a.values, a.weights, LENGTH * s, LENGTH, kind.half, s);
          }
          if (fit != null) {
            fit(a, found, count, fit);
          }
        }
        for (int k = 0; k < count; k++) {
          int to = outAt + kind.bytes * (b + k);
          if (putScales(a, found, descent, fit, k, out, to)) {
            finish(a, found, descent, k, x, from + SUPER * k, out, to);
          } else {
            Arrays.fill(out, to, to + kind.bytes, (byte) 0);
          }
        }
      }
    }

    private void weigh(Working a, int count, float[] x, int from, float[] w, int wAt, int column, int rowLength) {
      if (kind == Symmetric.Q3_K) {
        weighByImportance(a.natural, count, 2, x, from, w, wAt, column, rowLength);
        interleave(a.natural, 0, count, LENGTH, a.weights);
      } else if (w != null) {
        for (int k = 0; k < count; k++) {
          System.arraycopy(w, wAt + ((column + SUPER * k) % rowLength), a.natural, SUPER * k, SUPER);
        }
        interleave(a.natural, 0, count, LENGTH, a.weights);
      } else {
        for (int i = 0; i < count * SUPER; i += N) {
          FloatVector v = FloatVector.fromArray(F, a.values, i);
          v.mul(v).intoArray(a.weights, i);
        }
      }
    }

    /** Fits the scales of Q3_K, a super-block in each lane. */
    private static void fit(Working a, SymmetricLanes found, int count, SymmetricLanes fit) {
      for (int k = 0; k < count; k++) {
        for (int j = 0; j < SUB_BLOCKS; j++) {
          a.fitValues[N * j + k] = found.scales[SUB_BLOCKS * k + j];
          a.fitWeights[N * j + k] = found.weights[SUB_BLOCKS * k + j];
        }
      }
      fit.search(a.fitValues, a.fitWeights, 0, SUB_BLOCKS, Symmetric.HALF_SCALES, 0);
    }

    /**
     * Writes the scales of super-block {@code k}.
     *
     * @return false if it is almost zero, and nothing was written
     */
    private boolean putScales(
      Working a,
      SymmetricLanes found,
      DescentLanes descent,
      SymmetricLanes fit,
      int k,
      byte[] out,
      int to
    ) {
      if (kind == Symmetric.Q6_K) {
        return Symmetric.putFractions(found.scales, SUB_BLOCKS * k, out, to);
      }
      float d;
      if (descent != null) {
        d = Symmetric.asFractions(descent.scales, SUB_BLOCKS * k, a.scaleCodes, 0);
      } else if (areFinite(found.scales, SUB_BLOCKS * k)) {
        d = fitted(a, found, fit, k);
      } else {
        // which the fit in lanes cannot do
        int from = SUB_BLOCKS * k;
        int half = Symmetric.HALF_SCALES;
        d = KSearch.symmetric(found.scales, from, found.weights, from, SUB_BLOCKS, half, a.scaleCodes, 0);
      }
      Symmetric.putScales(a.scaleCodes, 0, d, out, to);
      return true;
    }

    private static boolean areFinite(float[] scales, int from) {
      float sum = 0;
      for (int j = 0; j < SUB_BLOCKS; j++) {
        sum += 0 * scales[from + j]; // not a number unless the scale is finite
      }
      return sum == 0;
    }

    /** The scale that was fitted, and its codes. */
    private static float fitted(Working a, SymmetricLanes found, SymmetricLanes fit, int k) {
      int half = Symmetric.HALF_SCALES;
      float inverse = fit.inverses[k];
      for (int j = 0; j < SUB_BLOCKS; j++) {
        int code = KSearch.code(inverse * found.scales[SUB_BLOCKS * k + j], -half, half - 1);
        a.scaleCodes[j] = (byte) (Float.isNaN(inverse) ? 0 : half + code);
      }
      return fit.scales[k];
    }

    private void finish(
      Working a,
      SymmetricLanes found,
      DescentLanes descent,
      int k,
      float[] x,
      int from,
      byte[] out,
      int to
    ) {
      kind.getScales(out, to, a.scales);
      for (int j = 0; j < SUB_BLOCKS; j++) {
        int i = LENGTH * j;
        int s = SUB_BLOCKS * k + j;
        if (a.scales[j] != 0) {
          divide(x, from + i, a.scales[j], kind.half, a.codes, i);
        } else if (descent != null) {
          // the search's codes stand
          for (int c = 0; c < LENGTH; c++) {
            a.codes[i + c] = (byte) (int) descent.codes[LENGTH * N * (s / N) + N * c + (s % N)];
          }
        } else if (Float.isNaN(found.inverses[s])) {
          Arrays.fill(a.codes, i, i + LENGTH, (byte) 0);
        } else {
          multiply(x, from + i, found.inverses[s], kind.half, a.codes, i);
        }
      }
      kind.putCodes(a.codes, out, to);
    }

    private static void divide(float[] x, int from, float by, int half, byte[] codes, int to) {
      for (int i = 0; i < LENGTH; i += N) {
        FloatVector v = FloatVector.fromArray(F, x, from + i).div(by);
        LaneCodes.store(v, -half, half - 1, codes, to + i);
      }
    }

    private static void multiply(float[] x, int from, float by, int half, byte[] codes, int to) {
      for (int i = 0; i < LENGTH; i += N) {
        FloatVector v = FloatVector.fromArray(F, x, from + i).mul(by);
        LaneCodes.store(v, -half, half - 1, codes, to + i);
      }
    }
  }

  /**
   * Interleaves sub-blocks, N at a time, for the searches in lanes. Lanes without a sub-block get zeros.
   *
   * @param count number of super-blocks
   * @param n values per sub-block
   */
  private static void interleave(float[] x, int from, int count, int n, float[] lanes) {
    int blocks = (count * SUPER) / n;
    if (blocks % N != 0) {
      Arrays.fill(lanes, (blocks / N) * n * N, (blocks / N + 1) * n * N, 0);
    }
    for (int s = 0; s < blocks; s++) {
      int to = (s / N) * n * N + (s % N);
      for (int i = 0; i < n; i++) {
        lanes[to + N * i] = x[from + n * s + i];
      }
    }
  }

  /**
   * The weights of values with importance: the column's times the root of the value's square plus the super-block's mean square.
   *
   * @param weights receives them, in the values' order
   * @param sigma how often the mean square is added
   * @param column of the first value
   */
  private static void weighByImportance(
    float[] weights,
    int count,
    float sigma,
    float[] x,
    int from,
    float[] w,
    int wAt,
    int column,
    int rowLength
  ) {
    for (int k = 0; k < count; k++) {
      int at = SUPER * k;
      float mean = (sigma * KScalar.squares(x, from + at, SUPER)) / SUPER;
      int columns = wAt + ((column + at) % rowLength);
      for (int i = 0; i < SUPER; i += N) {
        FloatVector v = FloatVector.fromArray(F, x, from + at + i);
        FloatVector root = FloatVector.broadcast(F, mean).add(v.mul(v)).sqrt();
        FloatVector.fromArray(F, w, columns + i).mul(root).intoArray(weights, at + i);
      }
    }
  }

  /** What is known of the batch at hand. */
  private static final class Working {

    final float[] values = new float[BATCH * SUPER];
    final float[] weights = new float[BATCH * SUPER];
    final float[] natural = new float[BATCH * SUPER];

    final float[] fitValues = new float[SUB_BLOCKS * N];
    final float[] fitWeights = new float[SUB_BLOCKS * N];

    final byte[] codes = new byte[SUPER];
    final float[] scales = new float[16];
    final float[] minima = new float[16];
    final byte[] scaleCodes = new byte[16];
    final byte[] minimumCodes = new byte[16];
  }
}
