package dev.attar.quant.budget;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Optional;
import java.util.Random;

/** A Gram matrix of made-up activations. */
final class TestGram implements GramSource.Gram {

  private final int columns;
  private final long tokens;
  private final MemorySegment upper;

  private TestGram(int columns, long tokens) {
    this.columns = columns;
    this.tokens = tokens;
    upper = Arena.ofAuto().allocate(((columns * (columns + 1L)) / 2) * Float.BYTES, Float.BYTES);
  }

  /** The matrix of activations that have much in common, with columns of different strength. */
  static TestGram correlated(int columns, long tokens, long seed) {
    Random random = new Random(seed);
    int samples = 64;
    double[][] x = new double[samples][columns];
    double[] strength = random.doubles(columns, 0.1, 3).toArray();
    for (double[] row : x) {
      double common = random.nextGaussian();
      for (int i = 0; i < columns; i++) {
        row[i] = strength[i] * (common + random.nextGaussian());
      }
    }
    TestGram gram = new TestGram(columns, tokens);
    for (int i = 0; i < columns; i++) {
      for (int j = i; j < columns; j++) {
        double sum = 0;
        for (double[] row : x) {
          sum += row[i] * row[j];
        }
        gram.set(i, j, (float) (sum / samples));
      }
    }
    return gram;
  }

  /** This matrix for every tensor. */
  GramSource source() {
    return (_, _) -> Optional.of(this);
  }

  void set(int row, int column, float value) {
    upper.set(OutputErrors.FLOAT, place(row, column), value);
  }

  private long place(int row, int column) {
    return ((long) row * columns - ((long) row * (row - 1)) / 2 + column - row) * Float.BYTES;
  }

  double[][] full() {
    double[][] full = new double[columns][columns];
    for (int i = 0; i < columns; i++) {
      for (int j = i; j < columns; j++) {
        full[i][j] = upper.get(OutputErrors.FLOAT, place(i, j));
        full[j][i] = full[i][j];
      }
    }
    return full;
  }

  @Override
  public int columns() {
    return columns;
  }

  @Override
  public long tokens() {
    return tokens;
  }

  @Override
  public MemorySegment upper() {
    return upper;
  }
}
