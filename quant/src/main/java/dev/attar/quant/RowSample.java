package dev.attar.quant;

import java.util.SplittableRandom;

/** Some rows for all. */
public final class RowSample {

  private RowSample() {}

  /**
   * One row by chance out of each of {@code count} equal parts, so that no pattern of the rows is met in step; the same ones each time.
   *
   * @param first the first of the rows
   * @param rows how many there are
   * @param count how many are wanted, 1 to rows
   * @return rows, ascending
   */
  public static long[] of(long first, long rows, int count) {
    SplittableRandom random = new SplittableRandom(rows);
    long[] sample = new long[count];
    for (int i = 0; i < count; i++) {
      long from = Math.multiplyExact(rows, i) / count;
      long to = Math.multiplyExact(rows, i + 1L) / count;
      sample[i] = first + random.nextLong(from, to);
    }
    return sample;
  }
}
