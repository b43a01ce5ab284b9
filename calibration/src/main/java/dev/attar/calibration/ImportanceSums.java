package dev.attar.calibration;

import dev.attar.calibration.InputObserver.NotFiniteException;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Sums of the squares of what enters linear layers, per column and expert. */
final class ImportanceSums implements InputObserver.Sink {

  /** The sums of an input. */
  static final class Sums {

    final double[] squares;
    final long[] counts;

    Sums(LinearInput input) {
      squares = new double[Math.multiplyExact(input.experts(), input.columns())];
      counts = new long[input.experts()];
    }
  }

  private final Map<LinearInput, Sums> sums = new LinkedHashMap<>();

  ImportanceSums(List<LinearInput> inputs) {
    inputs.forEach(input -> sums.put(input, new Sums(input)));
  }

  @Override
  public void accept(LinearInput input, Activations activations) throws NotFiniteException {
    Sums of = sums.get(input);
    int columns = input.columns();
    float[] row = new float[columns];
    for (int expert = 0; expert < input.experts(); expert++) {
      int count = activations.count(expert);
      for (int i = 0; i < count; i++) {
        activations.copyRow(expert, i, row);
        addSquares(row, of.squares, expert * columns);
      }
      of.counts[expert] += count;
    }
    for (int i = 0; i < of.squares.length; i++) {
      // Squares of finite values are finite in double precision.
      if (!Double.isFinite(of.squares[i])) {
        throw new NotFiniteException("column " + (i % columns), of.squares[i]);
      }
    }
  }

  private static void addSquares(float[] row, double[] squares, int offset) {
    for (int i = 0; i < row.length; i++) {
      double x = row[i];
      squares[offset + i] += x * x;
    }
  }

  Map<LinearInput, Sums> sums() {
    return sums;
  }
}
