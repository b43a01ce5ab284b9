package dev.attar.prune.structure;

/** How much each layer loses if all together are to lose so much. */
final class Allocation {

  private Allocation() {}

  /** What a layer comes to lose. */
  @FunctionalInterface
  interface Loss {
    /** The loss of a layer, if so many of its units are left. */
    double of(int layer, int left);
  }

  /**
   * Takes one grain after the other from where it adds least to the sum of the losses for each unit.
   *
   * @param counts units that each layer has
   * @param grain what is taken at a time; what a layer has beyond a multiple of it goes in any case, if it has more than a grain
   * @param units how many go in all: what goes in any case, and a multiple of the grain
   * @param loss does not fall as less is left
   * @return how many are left of each layer, at least one grain where there was more than that
   * @throws IllegalArgumentException if so many cannot go
   */
  static int[] of(int[] counts, int grain, int units, Loss loss) {
    int[] left = counts.clone();
    int more = units;
    for (int i = 0; i < left.length; i++) {
      if (left[i] > grain) {
        more -= left[i] % grain;
        left[i] -= left[i] % grain;
      }
    }
    for (; more > 0; more -= grain) {
      int best = -1;
      double least = Double.POSITIVE_INFINITY;
      for (int i = 0; i < left.length; i++) {
        if (left[i] > grain) {
          double added = loss.of(i, left[i] - grain) - loss.of(i, left[i]);
          if (best < 0 || added < least) {
            best = i;
            least = added;
          }
        }
      }
      if (best < 0) {
        throw new IllegalArgumentException(units + " units are more than can go");
      }
      left[best] -= grain;
    }
    if (more != 0) {
      throw new IllegalArgumentException(units + " units, expected what goes in any case and a multiple of " + grain);
    }
    return left;
  }
}
