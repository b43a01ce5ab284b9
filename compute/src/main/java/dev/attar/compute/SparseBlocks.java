package dev.attar.compute;

import java.util.Arrays;

/**
 * The blocks of columns in which {@link Device#sparseWalk} chooses what it removes: {@value #WIDTH} columns each in the order of the
 * walk, the last one with the rest. Each block removes its share.
 */
public final class SparseBlocks {

  /** Columns of a block, as Frantar and Alistarh have it. */
  public static final int WIDTH = 128;

  private final int[] order;

  /** @param order the columns in the order of the walk */
  public SparseBlocks(int[] order) {
    this.order = order;
  }

  /** How many blocks there are. */
  public int count() {
    return Math.ceilDiv(order.length, WIDTH);
  }

  /** The place in the order at which a block begins. */
  public int begin(int block) {
    return block * WIDTH;
  }

  /** The number of a block's columns. */
  public int width(int block) {
    return Math.min(WIDTH, order.length - begin(block));
  }

  /** What a block removes of so many weights to be removed from all columns: shares are rounded so that they add up. */
  public long share(int block, long removed) {
    int begin = begin(block);
    return upTo(begin + width(block), removed) - upTo(begin, removed);
  }

  /** {@code removed * columns / order.length}, rounded down. */
  private long upTo(int columns, long removed) {
    int n = order.length;
    return (removed / n) * columns + ((removed % n) * columns) / n;
  }

  /** For each place in the order, the rank of its column among those of its block. */
  public int[] ranks() {
    int[] ranks = new int[order.length];
    for (int block = 0; block < count(); block++) {
      int begin = begin(block);
      int[] sorted = Arrays.copyOfRange(order, begin, begin + width(block));
      Arrays.sort(sorted);
      for (int i = begin; i < begin + sorted.length; i++) {
        ranks[i] = Arrays.binarySearch(sorted, order[i]);
      }
    }
    return ranks;
  }
}
