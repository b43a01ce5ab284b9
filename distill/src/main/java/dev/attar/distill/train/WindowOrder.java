package dev.attar.distill.train;

import java.util.SplittableRandom;

/**
 * In which order windows are trained on: shuffled anew for each epoch, by seed and number of the epoch alone, so that any position of the
 * order can be found again.
 */
final class WindowOrder {

  /** Odd and with no pattern in its bits, so that the streams of neighbouring seeds have nothing in common. */
  private static final long SPREAD = 0xd1342543de82ef95L;

  private final int windows;
  private final long seed;
  private final int[] order;
  private long epoch = -1;

  /**
   * @param windows how many there are to train on, at least 1
   */
  WindowOrder(int windows, long seed) {
    this.windows = windows;
    this.seed = seed;
    order = new int[windows];
  }

  /**
   * Some windows that follow each other in the order, which has no end.
   *
   * @param position of the first one, from 0
   * @param count how many
   */
  int[] batch(long position, int count) {
    int[] batch = new int[count];
    for (int i = 0; i < count; i++) {
      long at = position + i;
      shuffleFor(at / windows);
      batch[i] = order[(int) (at % windows)];
    }
    return batch;
  }

  private void shuffleFor(long wanted) {
    if (wanted == epoch) {
      return;
    }
    SplittableRandom random = new SplittableRandom(seed * SPREAD + wanted);
    for (int i = 0; i < windows; i++) {
      int j = random.nextInt(i + 1);
      order[i] = order[j];
      order[j] = i;
    }
    epoch = wanted;
  }
}
