package dev.attar.compute;

import java.util.Arrays;

/**
 * Which weights have the least scores, of each row or of all: those up to a last one, by score, of equal scores by column, in the whole
 * matrix then by row. Scores are float32 and not negative, so their bits are in their order; the bits are searched for the last score,
 * some at a time.
 */
final class Cuts {

  /** How far the bits of a score are shifted in each step of the search, the sign, which is 0, left out. */
  private static final int[] SHIFTS = { 31, 23, 15, 7, 0 };

  private static final int BINS = 256;

  /** Columns that a thread takes at a time. */
  private static final int COLUMNS = 16;

  /** For each row the bits of the greatest score that is removed. */
  private final int[] key;

  /** For each row the last column in which that score is removed. */
  private final int[] last;

  Cuts(int rows) {
    key = new int[rows];
    last = new int[rows];
  }

  /** What the scores of a matrix with a column per row of the weights are computed from. */
  record Scores(LaneMatrix values, int columns, float[] factors, boolean squared) {
    /** {@code |weight| * norm} of the column. */
    static Scores ofWeights(LaneMatrix weights, float[] norms) {
      return new Scores(weights, norms.length, norms, false);
    }

    /** {@code diagonal * target²}. */
    static Scores ofTargets(LaneMatrix targets, int columns, float[] diagonal) {
      return new Scores(targets, columns, diagonal, true);
    }

    /** The bits of a score. */
    int key(int column, float value) {
      float factor = factors[column];
      return squared ? squareKey(factor, value) : Cuts.key(Math.abs(value) * factor);
    }
  }

  /** The bits of {@code diagonal * target²}. */
  static int squareKey(float diagonal, float target) {
    return key(diagonal * target * target);
  }

  private static int key(float score) {
    return Float.floatToRawIntBits(score) & Integer.MAX_VALUE;
  }

  /** How many scores go before one: those that are less, and of equal ones those before it. */
  static int rank(int[] keys, int of) {
    int rank = 0;
    for (int j = 0; j < keys.length; j++) {
      rank += keys[j] < keys[of] || (keys[j] == keys[of] && j < of) ? 1 : 0;
    }
    return rank;
  }

  /** Whether a weight is removed. */
  boolean removes(int row, int column, int score) {
    return score < key[row] || (score == key[row] && column <= last[row]);
  }

  /** Cuts so many off each of some rows. */
  void inRows(Scores scores, int removed, int from, int to) {
    int columns = scores.columns;
    int[] keys = new int[LaneKernel.LANES * columns];
    float[] values = new float[LaneKernel.LANES];
    for (int row = from; row < to; row += LaneKernel.LANES) {
      int lanes = Math.min(LaneKernel.LANES, to - row);
      for (int j = 0; j < columns; j++) {
        scores.values.read(j, row, lanes, values, 0);
        for (int lane = 0; lane < lanes; lane++) {
          keys[lane * columns + j] = scores.key(j, values[lane]);
        }
      }
      for (int lane = 0; lane < lanes; lane++) {
        inRow(keys, lane * columns, columns, removed, row + lane);
      }
    }
  }

  private void inRow(int[] keys, int at, int columns, int removed, int row) {
    Search search = new Search(removed);
    int[] counts = new int[BINS];
    for (int step = 1; step < SHIFTS.length; step++) {
      Arrays.fill(counts, 0);
      for (int j = at; j < at + columns; j++) {
        if (keys[j] >>> SHIFTS[step - 1] == search.prefix) {
          counts[digit(keys[j], step)]++;
        }
      }
      search.narrow(step, digit -> counts[digit]);
    }
    key[row] = search.prefix;
    last[row] = -1;
    for (int j = 0; search.rank > 0; j++) {
      if (keys[at + j] == search.prefix) {
        search.rank--;
        last[row] = j;
      }
    }
  }

  /** Cuts so many off the whole matrix. */
  void inWhole(CpuDevice device, Scores scores, long removed) {
    Search search = new Search(removed);
    for (int i = 1; i < SHIFTS.length; i++) {
      int step = i;
      long[] counts = new long[BINS];
      device.parallel(0, scores.columns, COLUMNS, (from, to) -> {
        long[] own = new long[BINS];
        int[] keys = new int[key.length];
        for (int j = from; j < to; j++) {
          readKeys(scores, j, keys);
          for (int score : keys) {
            if (score >>> SHIFTS[step - 1] == search.prefix) {
              own[digit(score, step)]++;
            }
          }
        }
        synchronized (counts) {
          for (int digit = 0; digit < BINS; digit++) {
            counts[digit] += own[digit];
          }
        }
      });
      search.narrow(step, digit -> counts[digit]);
    }
    int[] equal = new int[scores.columns];
    device.parallel(0, scores.columns, COLUMNS, (from, to) -> {
      int[] keys = new int[key.length];
      for (int j = from; j < to; j++) {
        readKeys(scores, j, keys);
        for (int score : keys) {
          equal[j] += score == search.prefix ? 1 : 0;
        }
      }
    });
    Arrays.fill(key, search.prefix);
    if (search.rank == 0) {
      Arrays.fill(last, -1);
      return;
    }
    int column = 0;
    while (search.rank > equal[column]) {
      search.rank -= equal[column++];
    }
    int[] keys = new int[key.length];
    readKeys(scores, column, keys);
    for (int row = 0; row < keys.length; row++) {
      // Rows after the last weight that is removed end a column before.
      last[row] = search.rank > 0 ? column : column - 1;
      search.rank -= keys[row] == search.prefix ? 1 : 0;
    }
  }

  private static void readKeys(Scores scores, int column, int[] keys) {
    float[] values = new float[keys.length];
    scores.values.read(column, 0, values.length, values, 0);
    for (int row = 0; row < keys.length; row++) {
      keys[row] = scores.key(column, values[row]);
    }
  }

  /** The part of a score's bits that a step of the search counts. */
  private static int digit(int key, int step) {
    return (key >>> SHIFTS[step]) & ((1 << (SHIFTS[step - 1] - SHIFTS[step])) - 1);
  }

  /** The search for the score of a rank. */
  private static final class Search {

    /** The leading bits of the score, as far as they are known. */
    int prefix;

    /** The rank from 1 among the scores with these bits; 0 if nothing is removed. */
    long rank;

    Search(long rank) {
      this.rank = rank;
    }

    interface Counts {
      long of(int digit);
    }

    /** Finds the next digit. */
    void narrow(int step, Counts counts) {
      int digit = 0;
      while (rank > counts.of(digit)) {
        rank -= counts.of(digit++);
      }
      prefix = (prefix << (SHIFTS[step - 1] - SHIFTS[step])) | digit;
    }
  }
}
