package dev.attar.bench.report;

import java.math.BigDecimal;
import java.math.MathContext;
import java.util.Locale;

/** How numbers are written for people: with a point, in any locale. */
final class Numbers {

  /** Stands between a value and its uncertainty. */
  static final String PLUS_MINUS = "± ";

  private Numbers() {}

  /** A number with this many decimals; {@code ∞}, {@code -∞} and {@code undefined} for what is no number. */
  static String fixed(double value, int decimals) {
    if (Double.isNaN(value)) {
      return "undefined";
    }
    if (Double.isInfinite(value)) {
      return value > 0 ? "∞" : "-∞";
    }
    String text = String.format(Locale.ROOT, "%." + decimals + "f", value);
    // What rounds to zero has no sign.
    return text.startsWith("-") && text.chars().allMatch(c -> c == '-' || c == '0' || c == '.')
      ? text.substring(1)
      : text;
  }

  /** A number with at least this many significant digits; digits before the point are never dropped. */
  static String significant(double value, int digits) {
    return fixed(value, decimals(value, digits));
  }

  /** The decimals that show this many significant digits of a number, from 0 to 9. */
  static int decimals(double value, int digits) {
    if (value == 0 || !Double.isFinite(value)) {
      return digits - 1;
    }
    // Rounded first: 9.996 takes the decimals of 10.0.
    BigDecimal rounded = new BigDecimal(value).round(new MathContext(digits));
    return Math.clamp(digits - 1L - (rounded.precision() - rounded.scale() - 1), 0, 9);
  }

  /** A share as a percentage: {@code 98.1 %}. */
  static String percent(double share, int decimals) {
    return fixed(100 * share, decimals) + " %";
  }

  /** A factor: {@code 1.82×}, {@code 12.3×}. */
  static String times(double factor) {
    return fixed(factor, Math.abs(factor) < 9.995 ? 2 : 1) + "×";
  }

  /** A number of things: {@code 164,352}. */
  static String count(long count) {
    return String.format(Locale.ROOT, "%,d", count);
  }

  /** A size in bytes, powers of 1000: {@code 812 B}, {@code 6.83 MB}, {@code 1.21 GB}. */
  static String size(long bytes) {
    return bytes < 1000 ? bytes + " B" : scaled(bytes) + "B";
  }

  /** A number of parameters: {@code 812}, {@code 3.41 M}, {@code 8.03 G}. */
  static String rough(long count) {
    return count < 1000 ? Long.toString(count) : scaled(count);
  }

  private static String scaled(long value) {
    double x = value / 1000.0;
    int unit = 0;
    while (x >= 999.5 && unit < 5) {
      x /= 1000;
      unit++;
    }
    return fixed(x, x < 9.995 ? 2 : x < 99.95 ? 1 : 0) + " " + "kMGTPE".charAt(unit);
  }

  /** A time: {@code 12.4 ms}, {@code 0.84 s}. */
  static String seconds(double seconds) {
    return seconds < 0.1 ? significant(1000 * seconds, 3) + " ms" : significant(seconds, 3) + " s";
  }

  /** {@code 1 variant}, {@code 3 variants}. */
  static String plural(long count, String thing) {
    return count(count) + " " + thing + (count == 1 ? "" : "s");
  }
}
