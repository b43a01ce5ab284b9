package dev.attar.cli;

import dev.attar.quant.QuantizeOptions;
import java.util.Locale;

/**
 * A model that is made of the base for a comparison.
 *
 * @param kind how its scales and codes are found
 * @param options what type each tensor gets, and the importance that the user gives
 */
record Variant(Kind kind, QuantizeOptions options) {
  /** How scales and codes are found. */
  enum Kind {
    /** By rounding, weighted if the user gives importance. */
    ROUNDED,
    /** By rounding, weighted by the importance that is measured on the calibration text. */
    IMATRIX,
    /** By GPTQ. */
    GPTQ;

    /** What stands before a type to ask for this: {@code gptq:}; nothing for {@link #ROUNDED}. */
    String prefix() {
      return this == ROUNDED ? "" : word() + ":";
    }

    private String word() {
      return name().toLowerCase(Locale.ROOT);
    }
  }

  /** The same with other options. */
  Variant with(QuantizeOptions other) {
    return new Variant(kind, other);
  }

  /** Whether the importance for it is measured. */
  boolean measures() {
    return kind != Kind.ROUNDED && options.importance() == null;
  }

  /** How it is called in results: {@code Q4_K_M (gptq)}. */
  String name() {
    return kind == Kind.ROUNDED ? type() : type() + " (" + kind.word() + ")";
  }

  /** How it is called in names of files: {@code Q4_K_M-gptq}. */
  String fileName() {
    return kind == Kind.ROUNDED ? type() : type() + "-" + kind.word();
  }

  private String type() {
    return options.fileType().name();
  }
}
