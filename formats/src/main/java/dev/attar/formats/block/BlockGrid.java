package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.util.Arrays;
import java.util.Objects;
import java.util.Optional;

/**
 * The values that a block of one tensor type can hold, and the parts of an encoded block that say which of them it does: its scales,
 * and one code per weight. For quantizers that keep the scales of a block and choose the codes themselves, or the other way round.
 *
 * <p>A block is cut into {@link #groups} groups of {@link #groupLength} consecutive weights. A weight of group {@code g} has the value
 *
 * <pre>{@code (d * s[g]) * level[code] + -(dmin * m[g])}</pre>
 *
 * in single precision, bit for bit what {@link BlockDecoders} gives. {@code d} and {@code dmin} are half-precision numbers of the
 * block, {@code s} and {@code m} small integers of its groups. A type without sub-scales has {@code s[g] = 1}. One without minimum has
 * {@code dmin = 0} and {@code m[g] = 0}. Q4_1 and Q5_1, which store one minimum to be added, have its negative as {@code dmin} and
 * {@code m[g] = 1}. In all types codes are places in the ascending {@link #levels}.
 *
 * <table>
 * <caption>Ranges</caption>
 * <tr><th>type</th><th>groups</th><th>levels</th><th>s</th><th>m</th></tr>
 * <tr><td>Q4_0</td><td>1 of 32</td><td>-8 to 7</td><td>1</td><td>0</td></tr>
 * <tr><td>Q4_1</td><td>1 of 32</td><td>0 to 15</td><td>1</td><td>1</td></tr>
 * <tr><td>Q5_0</td><td>1 of 32</td><td>-16 to 15</td><td>1</td><td>0</td></tr>
 * <tr><td>Q5_1</td><td>1 of 32</td><td>0 to 31</td><td>1</td><td>1</td></tr>
 * <tr><td>Q8_0</td><td>1 of 32</td><td>-128 to 127</td><td>1</td><td>0</td></tr>
 * <tr><td>IQ4_NL</td><td>1 of 32</td><td>16 from -127 to 113</td><td>1</td><td>0</td></tr>
 * <tr><td>Q2_K</td><td>16 of 16</td><td>0 to 3</td><td>0 to 15</td><td>0 to 15</td></tr>
 * <tr><td>Q3_K</td><td>16 of 16</td><td>-4 to 3</td><td>-32 to 31</td><td>0</td></tr>
 * <tr><td>Q4_K</td><td>8 of 32</td><td>0 to 15</td><td>0 to 63</td><td>0 to 63</td></tr>
 * <tr><td>Q5_K</td><td>8 of 32</td><td>0 to 31</td><td>0 to 63</td><td>0 to 63</td></tr>
 * <tr><td>Q6_K</td><td>16 of 16</td><td>-32 to 31</td><td>-128 to 127</td><td>0</td></tr>
 * <tr><td>IQ4_XS</td><td>8 of 32</td><td>16 from -127 to 113</td><td>-32 to 31</td><td>0</td></tr>
 * </table>
 *
 * <p>No bit of a block is in neither part: scales and codes that were read give the same bytes when written. Stateless and safe for
 * use by several threads.
 */
public abstract class BlockGrid {

  private final TensorType type;
  private final int groups;
  private final float[] levels;
  private final int leastScale;
  private final int mostScale;
  private final int leastMinimum;
  private final int mostMinimum;

  /** @param levels as many as a power of two */
  BlockGrid(
    TensorType type,
    int groups,
    float[] levels,
    int leastScale,
    int mostScale,
    int leastMinimum,
    int mostMinimum
  ) {
    this.type = type;
    this.groups = groups;
    this.levels = levels;
    this.leastScale = leastScale;
    this.mostScale = mostScale;
    this.leastMinimum = leastMinimum;
    this.mostMinimum = mostMinimum;
  }

  /** The grid of a type; empty for types that are plain or do not have this form. */
  public static Optional<BlockGrid> of(TensorType type) {
    return Optional.ofNullable(
      switch (type) {
        case Q4_0 -> new LegacyGrid(type, 4, integers(-8, 7), 0);
        case Q4_1 -> new LegacyGrid(type, 4, integers(0, 15), 1);
        case Q5_0 -> new LegacyGrid(type, 5, integers(-16, 15), 0);
        case Q5_1 -> new LegacyGrid(type, 5, integers(0, 31), 1);
        case Q8_0 -> new LegacyGrid(type, 8, integers(-128, 127), 0);
        case IQ4_NL -> new LegacyGrid(type, 4, Iq4.levels(), 0);
        case Q2_K -> new SuperGrids.Q2K();
        case Q3_K -> new SuperGrids.Q3K();
        case Q4_K -> new SuperGrids.Q4K();
        case Q5_K -> new SuperGrids.Q5K();
        case Q6_K -> new SuperGrids.Q6K();
        case IQ4_XS -> new SuperGrids.Iq4Xs();
        default -> null;
      }
    );
  }

  /**
   * The grid of a type, or the part of it, on which the level 0 stands for exactly 0 whatever the scales, and that has no minimums: for
   * pruned weights. Of types with minimums it is the part with the minimum in the middle of the levels; its codes and scales are those
   * of {@link #of}. Empty for types without a grid or without such a level (IQ4_NL, IQ4_XS).
   */
  public static Optional<BlockGrid> withExactZero(TensorType type) {
    return of(type)
      .map(grid -> CenteredGrid.isPartOf(grid) ? new CenteredGrid(grid) : grid)
      .filter(grid -> Arrays.binarySearch(grid.levels, 0) >= 0);
  }

  /**
   * The half-precision number nearest to a value, ties to even, as ggml rounds {@code d} and {@code dmin}. Infinite for magnitudes
   * from 65520 on.
   */
  public static float nearestHalf(float x) {
    return Float.float16ToFloat(Bits.half(x));
  }

  /** The type whose blocks these are. */
  public final TensorType type() {
    return type;
  }

  /** Groups in a block. */
  public final int groups() {
    return groups;
  }

  /** Weights in a group: 16 or 32. */
  public final int groupLength() {
    return type.blockLength() / groups;
  }

  /** What each code stands for, ascending; a new array. */
  public final float[] levels() {
    return levels.clone();
  }

  /** Whether each group has a scale {@code s} of its own; otherwise all are 1. */
  public final boolean hasSubScales() {
    return leastScale < mostScale;
  }

  /** Whether there is a {@code dmin}; otherwise it is 0, as is every {@code m}. */
  public final boolean hasMinimum() {
    return mostMinimum > 0;
  }

  /** The least {@code s} of a group. */
  public final int leastScale() {
    return leastScale;
  }

  /** The largest {@code s} of a group. */
  public final int mostScale() {
    return mostScale;
  }

  /** The least {@code m} of a group. */
  public final int leastMinimum() {
    return leastMinimum;
  }

  /** The largest {@code m} of a group. */
  public final int mostMinimum() {
    return mostMinimum;
  }

  /**
   * The scales of one block, to be filled by {@link #readScales} or by a search. Read from a block, {@code d} and {@code dmin} are
   * exactly what it holds, which is not finite in an invalid block ({@link RowValidator} finds those).
   */
  public static final class Scales {

    /** What all {@code s} are multiples of. */
    public float d;

    /** What all {@code m} are multiples of. */
    public float dmin;

    /** {@code s} of each group. */
    public final byte[] s;

    /** {@code m} of each group. */
    public final byte[] m;

    private Scales(int groups) {
      s = new byte[groups];
      m = new byte[groups];
    }

    /** What the levels of group {@code g} are multiplied by. */
    public float step(int g) {
      return d * s[g];
    }

    /** What is added to the weights of group {@code g} after that. Negative zero where there is no minimum: it changes no sum. */
    public float offset(int g) {
      return -(dmin * m[g]);
    }
  }

  /** Scales for a block of this type: all zero, but for what is fixed at 1. */
  public final Scales newScales() {
    Scales scales = new Scales(groups);
    Arrays.fill(scales.s, (byte) Math.clamp(0, leastScale, mostScale));
    Arrays.fill(scales.m, (byte) leastMinimum);
    return scales;
  }

  /**
   * Reads the scales of one block.
   *
   * @param in holds the block
   * @param at index of its first byte
   * @throws IndexOutOfBoundsException if the block is not within the array
   * @throws IllegalArgumentException if {@code to} is of a type with another number of groups
   */
  public final void readScales(byte[] in, int at, Scales to) {
    Objects.checkFromIndexSize(at, type.blockBytes(), in.length);
    checkGroups(to);
    getScales(in, at, to);
  }

  /**
   * Writes the scales of one block; its codes stay. {@code d} and {@code dmin} are rounded as by {@link #nearestHalf}.
   *
   * @param out receives the block
   * @param at index of its first byte
   * @throws IndexOutOfBoundsException if the block is not within the array
   * @throws IllegalArgumentException if {@code d} or {@code dmin} is not finite as a half, {@code s} or {@code m} is out of range, or
   *     there is a {@code dmin} in a type without minimum; nothing was written
   */
  public final void writeScales(Scales from, byte[] out, int at) {
    Objects.checkFromIndexSize(at, type.blockBytes(), out.length);
    checkGroups(from);
    checkHalf("d", from.d);
    checkHalf("dmin", from.dmin);
    if (!hasMinimum() && from.dmin != 0) {
      throw new IllegalArgumentException(type + ": dmin is " + from.dmin + ", expected 0");
    }
    checkRange("s", from.s, leastScale, mostScale);
    checkRange("m", from.m, leastMinimum, mostMinimum);
    putScales(from, out, at);
  }

  /**
   * Reads the codes of one block.
   *
   * @param in holds the block
   * @param at index of its first byte
   * @param codes receives {@code type().blockLength()} codes, unsigned
   * @param to index of the first code
   * @throws IndexOutOfBoundsException if block or codes are not within their arrays
   */
  public final void readCodes(byte[] in, int at, byte[] codes, int to) {
    Objects.checkFromIndexSize(at, type.blockBytes(), in.length);
    Objects.checkFromIndexSize(to, type.blockLength(), codes.length);
    getCodes(in, at, codes, to);
  }

  /**
   * Writes the codes of one block; its scales stay.
   *
   * @param codes holds {@code type().blockLength()} codes, unsigned
   * @param from index of the first code
   * @param out receives the block
   * @param at index of its first byte
   * @throws IndexOutOfBoundsException if block or codes are not within their arrays
   * @throws IllegalArgumentException if a code stands for no level; nothing was written
   */
  public final void writeCodes(byte[] codes, int from, byte[] out, int at) {
    Objects.checkFromIndexSize(from, type.blockLength(), codes.length);
    Objects.checkFromIndexSize(at, type.blockBytes(), out.length);
    checkCodes(codes, from);
    putCodes(codes, from, out, at);
  }

  /** {@link #readScales} without checks. */
  abstract void getScales(byte[] in, int at, Scales to);

  /** {@link #writeScales} without checks. */
  abstract void putScales(Scales from, byte[] out, int at);

  /** {@link #readCodes} without checks. */
  abstract void getCodes(byte[] in, int at, byte[] codes, int to);

  /** {@link #writeCodes} without checks. */
  abstract void putCodes(byte[] codes, int from, byte[] out, int at);

  /** Consecutive integers as levels. */
  static float[] integers(int least, int most) {
    float[] levels = new float[most - least + 1];
    for (int i = 0; i < levels.length; i++) {
      levels[i] = least + i;
    }
    return levels;
  }

  private void checkGroups(Scales scales) {
    if (scales.s.length != groups) {
      throw new IllegalArgumentException(type + ": scales of " + scales.s.length + " groups, expected " + groups);
    }
  }

  private void checkHalf(String name, float x) {
    if (!Float.isFinite(nearestHalf(x))) {
      throw new IllegalArgumentException(
        type + ": " + name + " is " + x + ", expected a finite half-precision number, below 65520"
      );
    }
  }

  private void checkRange(String name, byte[] values, int least, int most) {
    for (int g = 0; g < values.length; g++) {
      if (values[g] < least || values[g] > most) {
        throw new IllegalArgumentException(
          type + ": " + name + " of group " + g + " is " + values[g] + ", expected " + least + " to " + most
        );
      }
    }
  }

  private void checkCodes(byte[] codes, int from) {
    // The number of levels is a power of two, so that no code is too large if all of them together have no higher bit.
    int end = from + type.blockLength();
    int all = 0;
    for (int i = from; i < end; i++) {
      all |= codes[i];
    }
    if ((all & 0xFF) < levels.length) {
      return;
    }
    for (int i = from; i < end; i++) {
      int code = codes[i] & 0xFF;
      if (code >= levels.length) {
        throw new IllegalArgumentException(
          type + ": code of weight " + (i - from) + " is " + code + ", expected 0 to " + (levels.length - 1)
        );
      }
    }
  }
}
