package dev.attar.cli;

import java.math.BigDecimal;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.Locale;

/** How values are shown to people. */
final class Text {

  private Text() {}

  /** A size in bytes: {@code 812 B}, {@code 6.83 MB}, {@code 1.21 GB} (powers of 1000). */
  static String size(long bytes) {
    return bytes < 1000 ? bytes + " B" : scaled(bytes) + "B";
  }

  /** A number of things: {@code 812}, {@code 3.41 M}, {@code 8.03 G}. */
  static String count(long count) {
    return count < 1000 ? Long.toString(count) : scaled(count);
  }

  private static String scaled(long value) {
    double x = value / 1000.0;
    int unit = 0;
    while (x >= 999.5 && unit < 5) {
      x /= 1000;
      unit++;
    }
    int decimals = x < 9.995 ? 2 : x < 99.95 ? 1 : 0;
    return String.format(Locale.ROOT, "%." + decimals + "f %c", x, "kMGTPE".charAt(unit));
  }

  /** Bits per weight, {@code 4.85}; 0 for no weights. */
  static String bitsPerWeight(long bytes, long weights) {
    return String.format(Locale.ROOT, "%.2f", weights == 0 ? 0.0 : (8.0 * bytes) / weights);
  }

  /** A time: {@code 0.84 s}, {@code 12.3 s}, {@code 2:05 min}. */
  static String seconds(double seconds) {
    if (seconds < 60) {
      return String.format(Locale.ROOT, seconds < 9.995 ? "%.2f s" : "%.1f s", seconds);
    }
    long whole = Math.round(seconds);
    return String.format(Locale.ROOT, "%d:%02d min", whole / 60, whole % 60);
  }

  /** A time to wait, which is known roughly: {@code 7 s}, {@code 2:05 min}. */
  static String wait(double seconds) {
    return seconds < 59.5 ? Math.max(1, Math.round(seconds)) + " s" : seconds(seconds);
  }

  /** A number with so many digits that count, {@code 0.0123}. */
  static String number(double value, int digits) {
    if (!Double.isFinite(value)) {
      return Double.isNaN(value) ? "unknown" : value > 0 ? "infinite" : "-infinite";
    }
    BigDecimal rounded = new BigDecimal(value).round(new MathContext(digits));
    double magnitude = Math.abs(rounded.doubleValue());
    return magnitude != 0 && (magnitude < 1e-6 || magnitude >= 1e9)
      ? String.format(Locale.ROOT, "%." + (digits - 1) + "e", value)
      : rounded.setScale(Math.max(0, rounded.scale()), RoundingMode.UNNECESSARY).toPlainString();
  }

  /** A number as the user would type it: {@code 0.25}, {@code 2}. */
  static String plain(double value) {
    return BigDecimal.valueOf(value).stripTrailingZeros().toPlainString();
  }

  /** A part as a percentage, {@code 33.3 %}. */
  static String percent(double part) {
    return number(100 * part, 3) + " %";
  }

  /** A value with its standard error, to the two digits of it that count: {@code 20.123 ± 0.034}. */
  static String estimate(double value, double error) {
    if (!(error > 0) || !Double.isFinite(error) || !Double.isFinite(value)) {
      return number(value, 4);
    }
    int scale = new BigDecimal(error).round(new MathContext(2)).scale();
    String format = "%." + Math.clamp(scale, 0, 9) + "f";
    return String.format(Locale.ROOT, format + " ± " + format, value, error);
  }

  /** {@code 1 tensor}, {@code 3 tensors}. */
  static String plural(long count, String thing) {
    return count + " " + thing + (count == 1 ? "" : "s");
  }

  /**
   * Text from a file, safe to print: control and invisible formatting characters as escapes, bytes that were no valid UTF-8
   * (held as lone surrogates) as {@code \xNN}.
   */
  static String escape(String text) {
    StringBuilder out = null;
    for (int i = 0; i < text.length(); ) {
      int c = text.codePointAt(i);
      String escaped = escape(c);
      if (escaped != null && out == null) {
        out = new StringBuilder(text.length() + 16).append(text, 0, i);
      }
      if (out != null) {
        if (escaped == null) {
          out.appendCodePoint(c);
        } else {
          out.append(escaped);
        }
      }
      i += Character.charCount(c);
    }
    return out == null ? text : out.toString();
  }

  private static String escape(int c) {
    return switch (c) {
      case '\n' -> "\\n";
      case '\r' -> "\\r";
      case '\t' -> "\\t";
      default -> switch (Character.getType(c)) {
        case
          Character.CONTROL,
          Character.FORMAT,
          Character.LINE_SEPARATOR,
          Character.PARAGRAPH_SEPARATOR -> String.format("\\u%04x", c);
        case Character.SURROGATE -> c >= 0xDC80 && c <= 0xDCFF
          ? String.format("\\x%02x", c - 0xDC00)
          : String.format("\\u%04x", c);
        default -> null;
      };
    };
  }
}
