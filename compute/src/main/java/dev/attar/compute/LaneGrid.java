package dev.attar.compute;

/** A grid as lane kernels read and change it. An object serves one thread. */
final class LaneGrid {

  private static final int L = LaneKernel.LANES;

  private final int groupLength;
  private final int blockLength;
  private final LaneMatrix d;
  private final LaneMatrix dmin;
  private final LaneMatrix scale;
  private final LaneMatrix minimum;
  private final LaneMatrix pruned; // null if no weight is
  private final float[] ds = new float[L];
  private final float[] dmins = new float[L];

  LaneGrid(QuantizationGrid grid) {
    groupLength = grid.groupLength();
    blockLength = grid.blockLength();
    d = LaneMatrix.of(grid.d());
    dmin = LaneMatrix.of(grid.dmin());
    scale = LaneMatrix.of(grid.scale());
    minimum = LaneMatrix.of(grid.minimum());
    pruned = grid.pruned() == null ? null : LaneMatrix.of(grid.pruned());
  }

  /** Whether some weights are pruned. */
  boolean hasPruned() {
    return pruned != null;
  }

  /** Which weights of a column are left: the others are 0. */
  void readLeft(int column, int row, int lanes, float[] left, int at) {
    pruned.read(column, row, lanes, left, at);
  }

  /** Gives the weights of a column that are pruned the only level that they can have. */
  static void clearPruned(float[] left, int leftAt, float[] level, float[] value, int at) {
    for (int k = 0; k < L; k++) {
      if (left[leftAt + k] == 0) {
        level[at + k] = 0;
        value[at + k] = 0;
      }
    }
  }

  /** What multiplies the levels of a column, and what is added then, for rows of the weights from {@code row} on. */
  void read(int column, int row, int lanes, float[] steps, float[] offsets, int at) {
    d.read(column / blockLength, row, lanes, ds, 0);
    dmin.read(column / blockLength, row, lanes, dmins, 0);
    scale.read(column / groupLength, row, lanes, steps, at);
    minimum.read(column / groupLength, row, lanes, offsets, at);
    for (int k = 0; k < L; k++) {
      steps[at + k] *= ds[k];
      offsets[at + k] *= -dmins[k];
    }
  }

  void readBlock(int block, int row, int lanes, float[] toD, float[] toDmin) {
    d.read(block, row, lanes, toD, 0);
    dmin.read(block, row, lanes, toDmin, 0);
  }

  void writeBlock(int block, int row, int lanes, float[] fromD, float[] fromDmin) {
    d.write(block, row, lanes, fromD, 0);
    dmin.write(block, row, lanes, fromDmin, 0);
  }

  void readGroup(int group, int row, int lanes, float[] toScale, float[] toMinimum) {
    scale.read(group, row, lanes, toScale, 0);
    minimum.read(group, row, lanes, toMinimum, 0);
  }

  void writeGroup(int group, int row, int lanes, float[] fromScale, float[] fromMinimum) {
    scale.write(group, row, lanes, fromScale, 0);
    minimum.write(group, row, lanes, fromMinimum, 0);
  }
}
