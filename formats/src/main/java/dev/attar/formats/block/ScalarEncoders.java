package dev.attar.formats.block;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;

/**
 * The encoders one value at a time: the reference for the vector versions. Each method has the parameters of {@link
 * BlockEncoder#encode}. Floating-point operations come in the order of ggml's.
 */
final class ScalarEncoders {

  /** The largest float below one half: adding it and truncating rounds half away from zero. */
  static final float BELOW_HALF = 0x1.fffffep-2f;

  /** Blocks whose largest magnitude is less are taken for zero by the searches. */
  static final float SMALLEST = 1e-15f;

  /** 1.5 * 2^23, see {@link #nearest}. */
  static final float MAGIC = 12582912;

  private ScalarEncoders() {}

  static void f32(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    int count = rowLength * rows;
    ByteBuffer.wrap(out, outAt, 4 * count).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(x, xAt, count);
  }

  static void f16(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    for (int i = 0; i < rowLength * rows; i++) {
      Bits.putShort(out, outAt + 2 * i, Bits.half(x[xAt + i]));
    }
  }

  static void bf16(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    for (int i = 0; i < rowLength * rows; i++) {
      Bits.putShort(out, outAt + 2 * i, Bits.brain(x[xAt + i]));
    }
  }

  static void q80(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int from = xAt + 32 * b;
      int to = outAt + 34 * b;
      float max = 0;
      for (int j = 0; j < 32; j++) {
        max = Math.max(max, Math.abs(x[from + j]));
      }
      float d = max / 127;
      float inverse = d != 0 ? 1 / d : 0;
      Bits.putScale(out, to, d);
      for (int j = 0; j < 32; j++) {
        float v = x[from + j] * inverse;
        out[to + 2 + j] = (byte) Bits.truncateToByte(v + Math.copySign(BELOW_HALF, v));
      }
    }
  }

  static void q40(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    symmetric(x, xAt, rowLength, rows, w, wAt, out, outAt, 8);
  }

  static void q50(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    symmetric(x, xAt, rowLength, rows, w, wAt, out, outAt, 16);
  }

  static void q41(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    affine(x, xAt, rowLength, rows, w, wAt, out, outAt, 15);
  }

  static void q51(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    affine(x, xAt, rowLength, rows, w, wAt, out, outAt, 31);
  }

  /** Q4_0 and Q5_0: a scale, and integers from {@code -top} to {@code top - 1} stored with {@code top} added. */
  private static void symmetric(
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
    int[] q = new int[32];
    float[] weights = new float[32];
    int blocks = rowLength / 32;
    int bytes = top == 8 ? 18 : 22;
    for (int r = 0; r < rows; r++) {
      float meanSquare = w == null ? 0 : sumOfSquares(x, xAt + r * rowLength, rowLength) / rowLength;
      for (int b = 0; b < blocks; b++) {
        int from = xAt + r * rowLength + 32 * b;
        int to = outAt + (r * blocks + b) * bytes;
        float d;
        if (w == null) {
          d = roundSymmetric(x, from, top, q);
        } else {
          weigh(x, from, w, wAt + 32 * b, meanSquare, weights);
          d = searchSymmetric(x, from, weights, top, q);
        }
        Bits.putScale(out, to, d);
        if (top == 16) {
          Packing.fifthBits(q, out, to + 2);
        }
        Packing.nibbles(q, out, to + bytes - 16);
      }
    }
  }

  private static float roundSymmetric(float[] x, int from, int top, int[] q) {
    float d = extreme(x, from) / -top;
    float inverse = d != 0 ? 1 / d : 0;
    for (int j = 0; j < 32; j++) {
      q[j] = Math.min(2 * top - 1, (byte) Bits.truncateToByte(x[from + j] * inverse + (top + 0.5f)));
    }
    return d;
  }

  /**
   * Tries 19 scales around the one that maps the value of the largest magnitude to {@code -top} and keeps the one with the least
   * weighted square error.
   */
  private static float searchSymmetric(float[] x, int from, float[] w, int top, int[] q) {
    float max = extreme(x, from);
    if (Math.abs(max) < SMALLEST) {
      Arrays.fill(q, 0);
      return 0;
    }
    float kept = 0;
    float scale = 0;
    float best = 0;
    for (int t = 0; t < 19; t++) {
      float inverse = -(top + 0.1f * step(t)) / max;
      float sumLx = 0;
      float sumL2 = 0;
      for (int j = 0; j < 32; j++) {
        int l = Math.clamp(nearest(inverse * x[from + j]), -top, top - 1);
        sumLx += w[j] * x[from + j] * l;
        sumL2 += w[j] * l * l;
      }
      if (t == 0) {
        scale = sumL2 != 0 ? sumLx / sumL2 : 0;
        best = scale * sumLx;
        kept = inverse;
      } else if (sumL2 > 0 && sumLx * sumLx > best * sumL2) {
        scale = sumLx / sumL2;
        best = scale * sumLx;
        kept = inverse;
      }
    }
    for (int j = 0; j < 32; j++) {
      q[j] = top + Math.clamp(nearest(kept * x[from + j]), -top, top - 1);
    }
    return scale;
  }

  /** The order in which a symmetric search tries its 19 scales, in tenths: 0, then -9 to 9 without 0. */
  static int step(int t) {
    return t == 0 ? 0 : t <= 9 ? t - 10 : t - 9;
  }

  /** Q4_1 and Q5_1: a scale, a minimum, and integers from 0 to {@code top}. */
  private static void affine(
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
    int[] q = new int[32];
    float[] weights = new float[32];
    float[] scaleAndMin = new float[2];
    int blocks = rowLength / 32;
    int bytes = top == 15 ? 20 : 24;
    for (int r = 0; r < rows; r++) {
      float meanSquare = w == null ? 0 : sumOfSquares(x, xAt + r * rowLength, rowLength) / rowLength;
      for (int b = 0; b < blocks; b++) {
        int from = xAt + r * rowLength + 32 * b;
        int to = outAt + (r * blocks + b) * bytes;
        if (w == null) {
          roundAffine(x, from, top, q, scaleAndMin);
        } else {
          weigh(x, from, w, wAt + 32 * b, meanSquare, weights);
          searchAffine(x, from, weights, top, q, scaleAndMin);
        }
        Bits.putScale(out, to, scaleAndMin[0]);
        Bits.putScale(out, to + 2, scaleAndMin[1]);
        if (top == 31) {
          Packing.fifthBits(q, out, to + 4);
        }
        Packing.nibbles(q, out, to + bytes - 16);
      }
    }
  }

  private static void roundAffine(float[] x, int from, int top, int[] q, float[] scaleAndMin) {
    float min = Float.MAX_VALUE;
    float max = -Float.MAX_VALUE;
    for (int j = 0; j < 32; j++) {
      float v = x[from + j];
      min = v < min ? v : min;
      max = v > max ? v : max;
    }
    float d = (max - min) / top;
    float inverse = d != 0 ? 1 / d : 0;
    for (int j = 0; j < 32; j++) {
      q[j] = Math.min(top, (byte) Bits.truncateToByte((x[from + j] - min) * inverse + 0.5f));
    }
    scaleAndMin[0] = d;
    scaleAndMin[1] = min;
  }

  /** Tries 37 scales; for each, the least-squares fit of scale and minimum to the integers, kept if its weighted error is less. */
  private static void searchAffine(float[] x, int from, float[] w, int top, int[] q, float[] scaleAndMin) {
    float min = x[from];
    float max = x[from];
    float sumW = w[0];
    float sumX = sumW * x[from];
    for (int j = 1; j < 32; j++) {
      float v = x[from + j];
      min = v < min ? v : min;
      max = v > max ? v : max;
      sumW += w[j];
      sumX += w[j] * v;
    }
    min = min > 0 ? 0 : min;
    if (max <= min) {
      Arrays.fill(q, 0);
      scaleAndMin[0] = 0;
      scaleAndMin[1] = min;
      return;
    }
    float inverse = top / (max - min);
    float scale = 1 / inverse;
    float best = 0;
    for (int j = 0; j < 32; j++) {
      q[j] = Math.clamp(nearest(inverse * (x[from + j] - min)), 0, top);
      float error = scale * q[j] + min - x[from + j];
      best += w[j] * (error * error);
    }
    int[] tried = new int[32];
    for (int step = 0; step <= 36; step++) {
      inverse = affineNumerator(step, top) / (max - min);
      float sumL = 0;
      float sumL2 = 0;
      float sumLx = 0;
      for (int j = 0; j < 32; j++) {
        int l = Math.clamp(nearest(inverse * (x[from + j] - min)), 0, top);
        tried[j] = l;
        sumL += w[j] * l;
        sumL2 += w[j] * l * l;
        sumLx += w[j] * l * x[from + j];
      }
      float determinant = sumW * sumL2 - sumL * sumL;
      if (determinant > 0) {
        float fitScale = (sumW * sumLx - sumX * sumL) / determinant;
        float fitMin = (sumL2 * sumX - sumL * sumLx) / determinant;
        if (fitMin > 0) {
          fitMin = 0;
          fitScale = sumLx / sumL2;
        }
        float sum = 0;
        for (int j = 0; j < 32; j++) {
          float error = fitScale * tried[j] + fitMin - x[from + j];
          sum += w[j] * (error * error);
        }
        if (sum < best) {
          System.arraycopy(tried, 0, q, 0, 32);
          best = sum;
          scale = fitScale;
          min = fitMin;
        }
      }
    }
    scaleAndMin[0] = scale;
    scaleAndMin[1] = min;
  }

  /** What an affine search divides by the range of values for the inverse scale of a step from 0 to 36. */
  static float affineNumerator(int step, int top) {
    return -0.9f + 0.05f * step + top;
  }

  static void iq4nl(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    int[] q = new int[32];
    float[] weights = new float[32];
    for (int b = 0; b < (rowLength * rows) / 32; b++) {
      int from = xAt + 32 * b;
      float spread = w == null ? 0 : sumOfSquares(x, from, 32) * (2f / 32);
      float scale = searchCodebook(x, from, w, wAt + ((32 * b) % rowLength), spread, weights);
      codewords(x, from, scale != 0 ? 1 / scale : 0, q);
      Bits.putScale(out, outAt + 18 * b, scale);
      Packing.nibbles(q, out, outAt + 18 * b + 2);
    }
  }

  static void iq4xs(float[] x, int xAt, int rowLength, int rows, float[] w, int wAt, byte[] out, int outAt) {
    int[] q = new int[32];
    float[] weights = new float[32];
    float[] scales = new float[8];
    float[] inverses = new float[8];
    for (int s = 0; s < (rowLength * rows) / 256; s++) {
      int from = xAt + 256 * s;
      int to = outAt + 136 * s;
      float spread = w == null ? 0 : sumOfSquares(x, from, 256) * (2f / 256);
      for (int b = 0; b < 8; b++) {
        scales[b] = searchCodebook(x, from + 32 * b, w, wAt + ((256 * s) % rowLength) + 32 * b, spread, weights);
      }
      iq4Scales(scales, 0, inverses, out, to);
      for (int b = 0; b < 8; b++) {
        codewords(x, from + 32 * b, inverses[b], q);
        Packing.nibbles(q, out, to + 8 + 16 * b);
      }
    }
  }

  /** Encodes the scales of 8 blocks with 6 bits each, and gives the inverses of what they decode to. */
  static void iq4Scales(float[] scales, int at, float[] inverses, byte[] out, int to) {
    float most = 0;
    float extreme = 0;
    for (int b = 0; b < 8; b++) {
      float magnitude = Math.abs(scales[at + b]);
      if (magnitude > most) {
        most = magnitude;
        extreme = scales[at + b];
      }
    }
    float d = -extreme / 32;
    float inverse = d != 0 ? 1 / d : 0;
    int low = 0;
    int high = 0;
    for (int b = 0; b < 8; b++) {
      int l = Math.clamp(nearest(inverse * scales[at + b]), -32, 31);
      float decoded = d * l;
      inverses[b] = decoded != 0 ? 1 / decoded : 0;
      low |= ((l + 32) & 15) << (4 * b);
      high |= ((l + 32) >> 4) << (2 * b);
    }
    Bits.putScale(out, to, d);
    Bits.putShort(out, to + 2, high);
    Bits.putInt(out, to + 4, low);
  }

  /** Tries 16 scales and keeps the one with the least weighted square error. Without importance a value's weight is its square. */
  private static float searchCodebook(float[] x, int from, float[] w, int wAt, float spread, float[] weights) {
    if (w != null) {
      weigh(x, from, w, wAt, spread, weights);
    } else {
      for (int j = 0; j < 32; j++) {
        weights[j] = x[from + j] * x[from + j];
      }
    }
    float max = extreme(x, from);
    if (Math.abs(max) < SMALLEST) {
      return 0;
    }
    float d = 0;
    float best = 0;
    for (int t = -1; t < 15; t++) {
      float inverse = t < 0 ? 1 / (-max / Iq4.VALUES[0]) : (t - 7 + Iq4.VALUES[0]) / max;
      float sumQx = 0;
      float sumQ2 = 0;
      for (int j = 0; j < 32; j++) {
        float q = Iq4.VALUES[Iq4.index(inverse * x[from + j])];
        sumQx += weights[j] * q * x[from + j];
        sumQ2 += weights[j] * q * q;
      }
      if (t < 0) {
        d = sumQ2 > 0 ? sumQx / sumQ2 : 0;
        best = d * sumQx;
      } else if (sumQ2 > 0 && sumQx * sumQx > best * sumQ2) {
        d = sumQx / sumQ2;
        best = d * sumQx;
      }
    }
    return d;
  }

  private static void codewords(float[] x, int from, float inverse, int[] q) {
    for (int j = 0; j < 32; j++) {
      q[j] = Iq4.index(inverse * x[from + j]);
    }
  }

  /** A value's weight: its column's, the larger the more the value stands out. */
  private static void weigh(float[] x, int from, float[] w, int wAt, float spread, float[] weights) {
    for (int j = 0; j < 32; j++) {
      float v = x[from + j];
      weights[j] = w[wAt + j] * (float) Math.sqrt(spread + v * v);
    }
  }

  /** The sum of squares, added in order. */
  static float sumOfSquares(float[] x, int from, int count) {
    float sum = 0;
    for (int j = 0; j < count; j++) {
      sum += x[from + j] * x[from + j];
    }
    return sum;
  }

  /** The first value of the largest magnitude in a block, 0 if all are. */
  static float extreme(float[] x, int from) {
    float most = 0;
    float extreme = 0;
    for (int j = 0; j < 32; j++) {
      float magnitude = Math.abs(x[from + j]);
      if (magnitude > most) {
        most = magnitude;
        extreme = x[from + j];
      }
    }
    return extreme;
  }

  /**
   * The nearest integer, ties to even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves it in the low bits of the fraction. What
   * is larger or not a number gives what those bits happen to be, as in ggml.
   */
  static int nearest(float x) {
    return (Float.floatToRawIntBits(x + MAGIC) & 0x7FFFFF) - 0x400000;
  }
}
