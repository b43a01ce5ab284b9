package dev.attar.formats.block;

import jdk.incubator.vector.FloatVector;

/**
 * Which implementation of the block encodings runs: the one with SIMD (the JDK's incubating Vector API) or the scalar one. Decided
 * once per process.
 *
 * <p>The system property {@code attar.simd} forces the choice: {@code scalar}; {@code vector}; or {@code vector128}, {@code
 * vector256}, {@code vector512} for vectors of that many bits. What is forced and cannot be had is an error, never a silent fallback.
 * Unless forced, vectors take over from scalar code once the compiler has made them the faster ones.
 *
 * <p>This class must load where the module {@code jdk.incubator.vector} is absent, so only its probe mentions the Vector API.
 */
public final class Simd {

  /** The system property that forces a choice. */
  public static final String PROPERTY = "attar.simd";

  private static final String MODULE = "jdk.incubator.vector";
  private static final String WISH = System.getProperty(PROPERTY);
  private static final boolean FORCED = WISH != null;
  private static final Choice CHOICE = choose(WISH);

  private Simd() {}

  /**
   * What was chosen.
   *
   * @param bits width of a vector, 0 for scalar
   * @param description the choice and its reason, one line; the error if {@code failed}
   * @param failed whether a forced choice cannot be had
   */
  private record Choice(int bits, String description, boolean failed) {}

  /**
   * Whether the Vector API is used.
   *
   * @throws IllegalStateException if the choice that was forced cannot be had
   */
  public static boolean isVector() {
    return bits() > 0;
  }

  /**
   * Bits in a vector: 128, 256 or 512; 0 when scalar code runs.
   *
   * @throws IllegalStateException if the choice that was forced cannot be had
   */
  public static int bits() {
    checked();
    return CHOICE.bits;
  }

  /**
   * One line that says what was chosen and why.
   *
   * @throws IllegalStateException if the choice that was forced cannot be had
   */
  public static String description() {
    checked();
    return CHOICE.description;
  }

  /** Whether the choice was forced. */
  static boolean isForced() {
    return FORCED;
  }

  private static void checked() {
    if (CHOICE.failed) {
      throw new IllegalStateException(CHOICE.description);
    }
  }

  private static Choice choose(String forced) {
    String reason = forced == null ? "" : ", forced by " + PROPERTY + "=" + forced;
    if ("scalar".equals(forced)) {
      return new Choice(0, "scalar" + reason, false);
    }
    int wanted = switch (forced) {
      case null -> 0;
      case "vector" -> 0;
      case "vector128" -> 128;
      case "vector256" -> 256;
      case "vector512" -> 512;
      default -> -1;
    };
    if (wanted < 0) {
      return new Choice(
        0,
        PROPERTY + "=" + forced + ", expected scalar, vector, vector128, vector256 or vector512",
        true
      );
    }
    String obstacle = obstacle();
    if (obstacle == null) {
      int widest = Probe.widestBits();
      if (widest < 128) {
        obstacle = "this machine has no vectors of 128 bits";
      } else if (wanted > widest) {
        obstacle = "this machine's vectors have " + widest + " bits";
      } else {
        int bits = wanted > 0 ? wanted : Math.min(widest, 512);
        return new Choice(
          bits,
          "vectors of " + bits + " bits" + (wanted > 0 ? "" : ", the widest here") + reason,
          false
        );
      }
    }
    return forced == null
      ? new Choice(0, "scalar, since " + obstacle, false)
      : new Choice(0, PROPERTY + "=" + forced + " cannot be had: " + obstacle, true);
  }

  /** Why vectors cannot be used, or {@code null}. Without the optimizing compiler they are far slower than scalar code. */
  private static String obstacle() {
    if (ModuleLayer.boot().findModule(MODULE).isEmpty()) {
      return "Java was started without --add-modules " + MODULE;
    }
    String mode = System.getProperty("java.vm.info", "");
    if (mode.contains("interpreted") || mode.contains("emulated-client")) {
      return "Java runs without its optimizing compiler (" + mode + ")";
    }
    return null;
  }

  /** Apart, so that it is loaded only when the module is known to be there. */
  private static final class Probe {

    static int widestBits() {
      return FloatVector.SPECIES_PREFERRED.vectorBitSize();
    }
  }
}
