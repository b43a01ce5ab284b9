package dev.attar.formats.block;

import java.util.Arrays;

/**
 * The part of the grid of a type with minimums on which 0 is exactly 0, whatever the scales: the minimum of a group is its scale times half
 * the number of levels, {@code m = s} and {@code dmin = half d}. That product loses no bit, so that the code in the middle stands for
 * {@code (d s) half - (half d) s = 0}. What is left is a grid around 0, without minimums: levels {@code -half} to {@code half - 1}. A
 * negative {@code d} turns them around.
 */
final class CenteredGrid extends BlockGrid {

  private final BlockGrid all;
  private final int half;

  /** @param all the grid of a type with minimums */
  CenteredGrid(BlockGrid all) {
    super(
      all.type(),
      all.groups(),
      integers(-all.levels().length / 2, all.levels().length / 2 - 1),
      all.leastScale(),
      all.mostScale(),
      0,
      0
    );
    this.all = all;
    half = all.levels().length / 2;
  }

  /** Whether a grid is one that a part of has 0 in the middle. */
  static boolean isPartOf(BlockGrid grid) {
    return grid.hasMinimum();
  }

  @Override
  void getScales(byte[] in, int at, Scales to) {
    all.getScales(in, at, to);
    to.dmin = 0;
    Arrays.fill(to.m, (byte) 0);
  }

  @Override
  void putScales(Scales from, byte[] out, int at) {
    Scales scales = all.newScales();
    scales.d = nearestHalf(from.d);
    scales.dmin = half * scales.d;
    if (!Float.isFinite(nearestHalf(scales.dmin))) {
      throw new IllegalArgumentException(type() + ": d is " + from.d + ", too large for a minimum of " + half + " d");
    }
    System.arraycopy(from.s, 0, scales.s, 0, scales.s.length);
    System.arraycopy(from.s, 0, scales.m, 0, scales.m.length);
    all.putScales(scales, out, at);
  }

  @Override
  void getCodes(byte[] in, int at, byte[] codes, int to) {
    all.getCodes(in, at, codes, to);
  }

  @Override
  void putCodes(byte[] codes, int from, byte[] out, int at) {
    all.putCodes(codes, from, out, at);
  }
}
