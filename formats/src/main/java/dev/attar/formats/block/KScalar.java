package dev.attar.formats.block;

import static dev.attar.formats.block.KQuants.SUPER;
import static dev.attar.formats.block.KQuants.Symmetric.LENGTH;
import static dev.attar.formats.block.KQuants.Symmetric.SUB_BLOCKS;

import dev.attar.formats.block.KQuants.Affine;
import dev.attar.formats.block.KQuants.Range;
import dev.attar.formats.block.KQuants.Symmetric;
import java.util.Arrays;

/** The k-quants' encoders one value at a time. */
final class KScalar {

  private KScalar() {}

  /** Encodes a type whose sub-blocks have a scale and a minimum. */
  record WithMinimum(Affine kind) implements BlockEncoders.Kernel {
    @Override
    public void encode(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
      Working a = new Working();
      for (int b = 0; b < (rowLength * rows) / SUPER; b++) {
        int from = xAt + SUPER * b;
        int to = outAt + kind.bytes * b;
        if (w == null) {
          plain(a, x, from, out, to);
        } else {
          weighted(a, x, from, w, wAt + ((SUPER * b) % rowLength), out, to);
        }
      }
    }

    /** Without importance a value weighs more the larger it is. */
    private void plain(Working a, float[] x, int from, byte[] out, int to) {
      int n = kind.length;
      for (int j = 0; j < kind.subBlocks(); j++) {
        int at = from + n * j;
        float mean = kind == Affine.Q2_K ? 0 : (float) Math.sqrt(squares(x, at, n) / n);
        for (int i = 0; i < n; i++) {
          a.weights[i] = mean + Math.abs(x[at + i]);
        }
        search(a, x, from, j, kind.plain);
      }
      float d = kind.asFractions(a.scales, 0, a.scaleCodes, 0);
      float dMin = kind.asFractions(a.minima, 0, a.minimumCodes, 0);
      finish(a, x, from, d, dMin, out, to);
    }

    private void weighted(Working a, float[] x, int from, float[] w, int columns, byte[] out, int to) {
      int n = kind.length;
      float sigma = (kind.sigma * squares(x, from, SUPER)) / SUPER;
      for (int j = 0; j < kind.subBlocks(); j++) {
        a.sums[j] = weigh(a.weights, n, sigma, x, from + n * j, w, columns + n * j);
        search(a, x, from, j, Affine.WEIGHTED);
      }
      float d = KSearch.positive(a.scales, a.sums, kind.subBlocks(), kind.maxScale, a.scaleCodes);
      float dMin = KSearch.positive(a.minima, a.sums, kind.subBlocks(), kind.maxScale, a.minimumCodes);
      finish(a, x, from, d, dMin, out, to);
    }

    private void search(Working a, float[] x, int from, int j, Range range) {
      int i = kind.length * j;
      a.scales[j] = KSearch.affine(x, from + i, a.weights, kind.length, kind.maxCode, range, a.codes, i, a.minima, j);
    }

    /** Rounds the values to the scales and minima as they can be written, and writes all. */
    private void finish(Working a, float[] x, int from, float d, float dMin, byte[] out, int to) {
      kind.putScales(a.scaleCodes, a.minimumCodes, 0, d, dMin, out, to);
      kind.getScales(out, to, a.scales, a.minima);
      int n = kind.length;
      for (int j = 0; j < kind.subBlocks(); j++) {
        float scale = a.scales[j];
        for (int i = n * j; scale != 0 && i < n * (j + 1); i++) {
          // the search's codes stand where the scale is 0
          a.codes[i] = (byte) KSearch.code((x[from + i] + a.minima[j]) / scale, 0, kind.maxCode);
        }
      }
      kind.putCodes(a.codes, out, to);
    }
  }

  /** Encodes a type whose sub-blocks have a scale alone. */
  record WithoutMinimum(Symmetric kind) implements BlockEncoders.Kernel {
    @Override
    public void encode(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
      Working a = new Working();
      for (int b = 0; b < (rowLength * rows) / SUPER; b++) {
        int from = xAt + SUPER * b;
        int to = outAt + kind.bytes * b;
        int columns = wAt + ((SUPER * b) % rowLength);
        switch (kind) {
          case Q3_K -> q3k(a, x, from, w, columns, out, to);
          case Q6_K -> q6k(a, x, from, w, columns, out, to);
        }
      }
    }

    private void q3k(Working a, float[] x, int from, float[] w, int columns, byte[] out, int to) {
      float d;
      if (w == null) {
        for (int i = 0; i < SUPER; i += LENGTH) {
          a.scales[i / LENGTH] = KSearch.descend(x, from + i, LENGTH, kind.half, a.codes, i);
        }
        d = Symmetric.asFractions(a.scales, 0, a.scaleCodes, 0);
      } else {
        float sigma = (2 * squares(x, from, SUPER)) / SUPER;
        for (int i = 0; i < SUPER; i += LENGTH) {
          a.sums[i / LENGTH] = weigh(a.weights, LENGTH, sigma, x, from + i, w, columns + i);
          a.scales[i / LENGTH] = KSearch.symmetric(x, from + i, a.weights, 0, LENGTH, kind.half, a.codes, i);
        }
        d = KSearch.symmetric(a.scales, 0, a.sums, 0, SUB_BLOCKS, Symmetric.HALF_SCALES, a.scaleCodes, 0);
      }
      Symmetric.putScales(a.scaleCodes, 0, d, out, to);
      finish(a, x, from, out, to);
    }

    /** Here a value's weight is its square, or its column's importance as it is. */
    private void q6k(Working a, float[] x, int from, float[] w, int columns, byte[] out, int to) {
      for (int i = 0; i < SUPER; i += LENGTH) {
        for (int k = 0; k < LENGTH; k++) {
          float v = x[from + i + k];
          a.weights[k] = w == null ? v * v : w[columns + i + k];
        }
        a.scales[i / LENGTH] = KSearch.symmetric(x, from + i, a.weights, 0, LENGTH, kind.half, a.codes, i);
      }
      if (Symmetric.putFractions(a.scales, 0, out, to)) {
        finish(a, x, from, out, to);
      } else {
        Arrays.fill(out, to, to + kind.bytes, (byte) 0);
      }
    }

    /** Rounds the values to the scales as they were written, and writes their codes. */
    private void finish(Working a, float[] x, int from, byte[] out, int to) {
      kind.getScales(out, to, a.scales);
      for (int j = 0; j < SUB_BLOCKS; j++) {
        float scale = a.scales[j];
        for (int i = LENGTH * j; scale != 0 && i < LENGTH * (j + 1); i++) {
          // the search's codes stand where it is 0
          a.codes[i] = (byte) (kind.half + KSearch.code(x[from + i] / scale, -kind.half, kind.half - 1));
        }
      }
      kind.putCodes(a.codes, out, to);
    }
  }

  static float squares(float[] x, int from, int n) {
    float sum = 0;
    for (int i = 0; i < n; i++) {
      sum += x[from + i] * x[from + i];
    }
    return sum;
  }

  /**
   * The weights of a sub-block's values with importance: the column's times the root of the value's square plus the super-block's
   * mean square.
   *
   * @return their sum
   */
  private static float weigh(float[] weights, int n, float sigma, float[] x, int from, float[] w, int columns) {
    float sum = 0;
    for (int i = 0; i < n; i++) {
      float v = x[from + i];
      weights[i] = w[columns + i] * (float) Math.sqrt(sigma + v * v);
      sum += weights[i];
    }
    return sum;
  }

  /** What is known of the super-block at hand. */
  private static final class Working {

    final byte[] codes = new byte[SUPER];
    final float[] weights = new float[32];
    final float[] sums = new float[16];
    final float[] scales = new float[16];
    final float[] minima = new float[16];
    final byte[] scaleCodes = new byte[16];
    final byte[] minimumCodes = new byte[16];
  }
}
