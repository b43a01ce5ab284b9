package dev.attar.prune;

import dev.attar.compute.Sparsity;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** How many weights of a matrix are removed. */
public sealed interface Amount {
  /**
   * A part of them.
   *
   * @param value above 0 and below 1
   */
  record Part(double value) implements Amount {
    public Part {
      if (!(value > 0 && value < 1)) {
        throw new IllegalArgumentException("a sparsity of " + value + ", expected above 0 and below 1");
      }
    }

    @Override
    public String toString() {
      String text = String.format(Locale.ROOT, "%.6f", value);
      return text.replaceFirst("0+$", "");
    }
  }

  /**
   * Of every so many neighbours in a row all but so many.
   *
   * @param kept at least 1, less than {@code of}
   * @param of a power of two, at most {@value Sparsity#LONGEST_PATTERN}
   */
  record PerGroup(int kept, int of) implements Amount {
    public PerGroup {
      String word = "a pattern of " + kept + ":" + of;
      if (of < 2 || of > Sparsity.LONGEST_PATTERN || Integer.bitCount(of) != 1) {
        throw new IllegalArgumentException(
          word + ", expected N:M with M a power of two up to " + Sparsity.LONGEST_PATTERN
        );
      }
      if (kept < 1 || kept >= of) {
        throw new IllegalArgumentException(word + ", expected 1 to " + (of - 1) + " of " + of + " left");
      }
    }

    @Override
    public String toString() {
      return kept + ":" + of;
    }
  }

  /** The part of all weights that this is. */
  default double part() {
    return switch (this) {
      case Part part -> part.value;
      case PerGroup pattern -> 1 - (double) pattern.kept / pattern.of;
    };
  }

  /** For the name of a file: {@code 0.5}, {@code 2of4}. */
  default String name() {
    return toString().replace(":", "of");
  }

  /**
   * Reads it as users write it.
   *
   * @throws IllegalArgumentException if it is neither a part nor a pattern; the message says what was found and expected
   */
  static Amount parse(String text) {
    Matcher pattern = Pattern.compile("(\\d{1,4}):(\\d{1,4})").matcher(text);
    if (pattern.matches()) {
      return new PerGroup(Integer.parseInt(pattern.group(1)), Integer.parseInt(pattern.group(2)));
    }
    double value;
    try {
      value = Double.parseDouble(text);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException("'" + text + "' is no sparsity, expected a part, 0.5, or a pattern, 2:4", e);
    }
    if (!(value > 0 && value < 1)) {
      throw new IllegalArgumentException("a sparsity of " + text + ", expected above 0 and below 1");
    }
    return new Part(value);
  }
}
