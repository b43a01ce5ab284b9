package dev.attar.formats.block;

/**
 * Encodes to a {@link CenteredGrid}: of each group the scale among some candidates with which the weighted squared error is least, the best
 * factor for its levels, as whole parts of the largest; of each block the better of both directions of the levels. A row's values of 0
 * stay exactly 0.
 */
final class CenteredEncoder implements BlockEncoders.Kernel {

  /** Candidates on each side of the scale that just reaches the largest value, in tenths of a level. */
  private static final int CANDIDATES = 9;

  private final CenteredGrid grid;
  private final int half;
  private final int length;

  CenteredEncoder(CenteredGrid grid) {
    this.grid = grid;
    half = grid.levels().length / 2;
    length = grid.groupLength();
  }

  @Override
  public void encode(
    float[] x,
    int xAt,
    int rowLength,
    int rows,
    float[] importance,
    int importanceAt,
    byte[] out,
    int outAt
  ) {
    int blockLength = grid.type().blockLength();
    Work work = new Work();
    for (int b = 0; b < (rowLength * rows) / blockLength; b++) {
      int column = (b * blockLength) % rowLength;
      for (int i = 0; i < blockLength; i++) {
        work.x[i] = x[xAt + b * blockLength + i];
        work.weight[i] = importance == null ? 1 : importance[importanceAt + column + i];
      }
      work.encode(out, outAt + b * grid.type().blockBytes());
    }
  }

  /** A block on its way. */
  private final class Work {

    private final float[] x = new float[grid.type().blockLength()];
    private final float[] weight = new float[x.length];
    private final byte[] codes = new byte[x.length];
    private final BlockGrid.Scales scales = grid.newScales();
    private final float[] step = new float[grid.groups()];
    private final float[] turned = new float[grid.groups()];

    void encode(byte[] out, int at) {
      boolean turn = search(-1, turned) > search(1, step);
      float[] steps = turn ? turned : step;
      float largest = 0;
      for (float s : steps) {
        largest = Math.max(largest, s);
      }
      float d = BlockGrid.nearestHalf(largest / grid.mostScale());
      for (int g = 0; g < steps.length; g++) {
        float s = d == 0 ? 0 : Math.round(steps[g] / d);
        scales.s[g] = (byte) Math.clamp(s, grid.leastScale(), grid.mostScale());
      }
      scales.d = turn ? -d : d;
      for (int i = 0; i < x.length; i++) {
        codes[i] = (byte) (level(x[i], scales.step(i / length)) + half);
      }
      grid.writeScales(scales, out, at);
      grid.writeCodes(codes, 0, out, at);
    }

    private int level(float value, float by) {
      return by == 0 ? 0 : Math.clamp(Math.round(value / by), -half, half - 1);
    }

    /**
     * The best steps of the groups.
     *
     * @param sign 1, or -1 for levels that are turned around
     * @return how much of the weighted sum of squares they take
     */
    private double search(int sign, float[] steps) {
      double taken = 0;
      for (int g = 0; g < steps.length; g++) {
        float largest = 0;
        for (int i = g * length; i < (g + 1) * length; i++) {
          largest = Math.max(largest, Math.abs(x[i]));
        }
        double best = 0;
        steps[g] = 0;
        for (int t = -CANDIDATES; largest > 0 && t <= CANDIDATES; t++) {
          float tried = largest / (half + 0.1f * t);
          double along = 0;
          double squares = 0;
          for (int i = g * length; i < (g + 1) * length; i++) {
            int level = level(sign * x[i], tried);
            along += (double) weight[i] * sign * x[i] * level;
            squares += (double) weight[i] * level * level;
          }
          // With the best factor for the levels, along / squares, the error is what this leaves of the sum of squares.
          double gain = squares > 0 ? (along * along) / squares : 0;
          if (gain > best) {
            best = gain;
            steps[g] = (float) (along / squares);
          }
        }
        taken += best;
      }
      return taken;
    }
  }
}
