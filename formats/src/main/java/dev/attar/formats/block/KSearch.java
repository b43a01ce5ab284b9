package dev.attar.formats.block;

import dev.attar.formats.block.KQuants.Range;
import java.util.Arrays;

/**
 * Searches for the scale of one block, one value at a time: the reference for the searches in lanes. All arithmetic is in single
 * precision and in ggml's order, with no multiply and add contracted, since each rounding shows in the bytes. The searches are ggml's
 * (ggml-quants.c of llama.cpp).
 */
final class KSearch {

  /** Blocks whose largest magnitude is below this count as zero. */
  static final float ZERO = 1e-15f;

  /** How many scales {@link #symmetric} tries. */
  static final int SYMMETRIC_TRIES = 19;

  /** How often a descent goes over the codes. */
  static final int DESCENTS = 5;

  /** Adding this rounds to an integer, ties to even, which then lies in the low bits. */
  static final float ROUNDER = 12582912;

  static final int ROUNDED_BITS = 0x7FFFFF;
  static final int ROUNDED_ZERO = 0x400000;

  private KSearch() {}

  /**
   * The nearest integer, ties to even, of a value within ±4194303. Beyond, the low bits of a sum that has lost its unit place, as they
   * come; 0 for what is not a number.
   */
  static int nearest(float x) {
    return (Float.floatToRawIntBits(x + ROUNDER) & ROUNDED_BITS) - ROUNDED_ZERO;
  }

  /** The code of a value: nearest integer within bounds. */
  static int code(float x, int least, int most) {
    return Math.max(least, Math.min(most, nearest(x)));
  }

  /**
   * Fits {@code x ≈ scale * code + minimum}, minimum ≤ 0. Each try rounds the values to a scale, solves the weighted least squares
   * for scale and minimum of those codes, and is kept if its error is smaller; the next try starts at the minimum kept.
   *
   * @param x the values
   * @param w their weights
   * @param n number of values
   * @param codes receives the codes at {@code at}, 0 … maxCode
   * @param minima receives the negated minimum
   * @param minimaAt where
   * @return the scale
   */
  static float affine(
    float[] x,
    int at,
    float[] w,
    int n,
    int maxCode,
    Range range,
    byte[] codes,
    int codesAt,
    float[] minima,
    int minimaAt
  ) {
    float min = x[at];
    float max = x[at];
    float sumW = w[0];
    float sumX = sumW * x[at];
    for (int i = 1; i < n; i++) {
      float v = x[at + i];
      if (v < min) {
        min = v;
      }
      if (v > max) {
        max = v;
      }
      sumW += w[i];
      sumX += w[i] * v;
    }
    if (min > 0) {
      min = 0;
    }
    if (max == min) {
      Arrays.fill(codes, codesAt, codesAt + n, (byte) 0);
      minima[minimaAt] = -min;
      return 0;
    }
    float inverse = maxCode / (max - min);
    float scale = 1 / inverse;
    float best = 0;
    for (int i = 0; i < n; i++) {
      int l = code(inverse * (x[at + i] - min), 0, maxCode);
      codes[codesAt + i] = (byte) l;
      best += w[i] * error(scale * l + min - x[at + i], range);
    }
    byte[] tried = new byte[n];
    for (int t = 0; t <= range.last(); t++) {
      inverse = (range.from() + range.step() * t + maxCode) / (max - min);
      float sumL = 0;
      float sumL2 = 0;
      float sumXl = 0;
      for (int i = 0; i < n; i++) {
        int l = code(inverse * (x[at + i] - min), 0, maxCode);
        tried[i] = (byte) l;
        float wl = w[i] * l;
        sumL += wl;
        sumL2 += wl * l;
        sumXl += wl * x[at + i];
      }
      float determinant = sumW * sumL2 - sumL * sumL;
      if (determinant > 0) {
        float triedScale = (sumW * sumXl - sumX * sumL) / determinant;
        float triedMin = (sumL2 * sumX - sumL * sumXl) / determinant;
        if (triedMin > 0) {
          triedMin = 0;
          triedScale = sumXl / sumL2;
        }
        float sum = 0;
        for (int i = 0; i < n; i++) {
          sum += w[i] * error(triedScale * tried[i] + triedMin - x[at + i], range);
        }
        if (sum < best) {
          System.arraycopy(tried, 0, codes, codesAt, n);
          best = sum;
          scale = triedScale;
          min = triedMin;
        }
      }
    }
    minima[minimaAt] = -min;
    return scale;
  }

  private static float error(float difference, Range range) {
    return range.absolute() ? Math.abs(difference) : difference * difference;
  }

  /**
   * Fits {@code x ≈ scale * code}, code in -half … half - 1, where the value of largest magnitude gets a code near -half. Of {@value #SYMMETRIC_TRIES} scales
   * around that one the best in weighted least squares is kept.
   *
   * @param codes receives the codes plus {@code half}; 0 if all values are almost zero
   * @return the scale
   */
  static float symmetric(float[] x, int at, float[] w, int wAt, int n, int half, byte[] codes, int codesAt) {
    float max = largest(x, at, n);
    if (Math.abs(max) < ZERO) {
      Arrays.fill(codes, codesAt, codesAt + n, (byte) 0);
      return 0;
    }
    float kept = -half / max;
    float scale = 0;
    float best = 0;
    for (int t = 0; t < SYMMETRIC_TRIES; t++) {
      int offset = symmetricOffset(t);
      float inverse = -(half + 0.1f * offset) / max;
      float sumXl = 0;
      float sumL2 = 0;
      for (int i = 0; i < n; i++) {
        int l = code(inverse * x[at + i], -half, half - 1);
        float weight = w[wAt + i];
        sumXl += weight * x[at + i] * l;
        sumL2 += weight * l * l;
      }
      if (offset == 0) {
        scale = sumL2 != 0 ? sumXl / sumL2 : 0;
        best = scale * sumXl;
      } else if (sumL2 > 0 && sumXl * sumXl > best * sumL2) {
        kept = inverse;
        scale = sumXl / sumL2;
        best = scale * sumXl;
      }
    }
    for (int i = 0; i < n; i++) {
      codes[codesAt + i] = (byte) (half + code(kept * x[at + i], -half, half - 1));
    }
    return scale;
  }

  /** The offset of a try, in tenths of a code: 0 first, then -9 … 9. */
  static int symmetricOffset(int t) {
    return t == 0 ? 0 : t < 10 ? t - 10 : t - 9;
  }

  /** The first value of largest magnitude; 0 if there is none but zeros. */
  static float largest(float[] x, int at, int n) {
    float max = 0;
    for (int i = 0; i < n; i++) {
      if (Math.abs(x[at + i]) > Math.abs(max)) {
        max = x[at + i];
      }
    }
    return max;
  }

  /**
   * Fits {@code x ≈ scale * code}, code in -half … half - 1, by coordinate descent from rounded values: a code moves to the integer
   * that suits the others' scale best if that lowers the error, weighted by squares.
   *
   * @param codes receives the codes plus {@code half}; 0 if all values are almost zero
   * @return the scale
   */
  static float descend(float[] x, int at, int n, int half, byte[] codes, int codesAt) {
    float max = largest(x, at, n);
    if (Math.abs(max) < ZERO) {
      Arrays.fill(codes, codesAt, codesAt + n, (byte) 0);
      return 0;
    }
    float inverse = -half / max;
    float sumXl = 0;
    float sumL2 = 0;
    for (int i = 0; i < n; i++) {
      float v = x[at + i];
      int l = code(inverse * v, -half, half - 1);
      codes[codesAt + i] = (byte) l;
      float w = v * v;
      sumXl += w * v * l;
      sumL2 += w * l * l;
    }
    boolean changed = true;
    for (int t = 0; changed && t < DESCENTS; t++) {
      changed = false;
      for (int i = 0; i < n; i++) {
        float v = x[at + i];
        float w = v * v;
        int l = codes[codesAt + i];
        float othersXl = sumXl - w * v * l;
        if (othersXl > 0) {
          float othersL2 = sumL2 - w * l * l;
          int better = code((v * othersL2) / othersXl, -half, half - 1);
          if (better != l) {
            othersXl += w * v * better;
            othersL2 += w * better * better;
            if (othersL2 > 0 && othersXl * othersXl * sumL2 > sumXl * sumXl * othersL2) {
              codes[codesAt + i] = (byte) better;
              sumXl = othersXl;
              sumL2 = othersL2;
              changed = true;
            }
          }
        }
      }
    }
    for (int i = 0; i < n; i++) {
      codes[codesAt + i] += (byte) half;
    }
    return sumL2 > 0 ? sumXl / sumL2 : 0;
  }

  /**
   * Fits {@code x ≈ scale * code}, code in 0 … maxCode, for the scales or minima of a super-block: the best of nine scales in weighted
   * squared error, then coordinate descent. A negative value's code wraps around in its byte.
   *
   * @param codes receives the codes
   * @return the scale
   */
  static float positive(float[] x, float[] w, int n, int maxCode, byte[] codes) {
    float max = 0;
    for (int i = 0; i < n; i++) {
      max = max > x[i] ? max : x[i];
    }
    if (max < ZERO) {
      Arrays.fill(codes, 0, n, (byte) 0);
      return 0;
    }
    float inverse = maxCode / max;
    float best = 0;
    float scale = 1 / inverse;
    for (int i = 0; i < n; i++) {
      float difference = x[i] - scale * (nearest(inverse * x[i]) & 0xFF);
      best += w[i] * difference * difference;
    }
    for (int t = -4; t <= 4; t++) {
      if (t == 0) {
        continue;
      }
      float tried = (0.1f * t + maxCode) / max;
      float triedScale = 1 / tried;
      float sum = 0;
      for (int i = 0; i < n; i++) {
        float difference = x[i] - triedScale * Math.min(maxCode, nearest(tried * x[i]));
        sum += w[i] * difference * difference;
      }
      if (sum < best) {
        best = sum;
        inverse = tried;
      }
    }
    float sumXl = 0;
    float sumL2 = 0;
    for (int i = 0; i < n; i++) {
      int l = Math.min(maxCode, nearest(inverse * x[i]));
      codes[i] = (byte) l;
      sumXl += w[i] * x[i] * l;
      sumL2 += w[i] * l * l;
    }
    boolean changed = true;
    for (int t = 0; changed && t < DESCENTS; t++) {
      changed = false;
      for (int i = 0; i < n; i++) {
        float v = x[i];
        float weight = w[i];
        int l = codes[i] & 0xFF;
        float othersXl = sumXl - weight * v * l;
        float othersL2 = sumL2 - weight * l * l;
        if (othersXl > 0 && othersL2 > 0) {
          int better = Math.min(maxCode, nearest((v * othersL2) / othersXl));
          if (better != l) {
            othersXl += weight * v * better;
            othersL2 += weight * better * better;
            if (othersXl * othersXl * sumL2 > sumXl * sumXl * othersL2) {
              codes[i] = (byte) better;
              sumXl = othersXl;
              sumL2 = othersL2;
              changed = true;
            }
          }
        }
      }
    }
    return sumL2 > 0 ? sumXl / sumL2 : 0;
  }
}
