package dev.attar.lowrank;

import dev.attar.formats.TensorInfo;

/**
 * How much of a tensor each rank leaves out.
 *
 * @param tensor the tensor; each of its matrices gets the same rank
 * @param squares squared singular values in descending order, summed over its matrices, as far as they were computed; not copied and
 *     must not be changed
 * @param energy the sum of all of them
 */
@SuppressWarnings("ArrayRecordComponent") // only passed on
record Spectrum(TensorInfo tensor, double[] squares, double energy) {
  /** Numbers in the factors of one rank. */
  long numbersPerRank() {
    return matrices() * (tensor.rowLength() + tensor.dimension(1));
  }

  private long matrices() {
    return tensor.rows() / tensor.dimension(1);
  }

  /** The largest rank whose factors are smaller than the tensor; 0 if there is none. */
  int largestUseful() {
    return largestUseful(tensor);
  }

  /** The same of a tensor. */
  static int largestUseful(TensorInfo tensor) {
    long rows = tensor.dimension(1);
    long columns = tensor.rowLength();
    return Math.toIntExact((rows * columns - 1) / (rows + columns));
  }

  /** The squared error that a rank leaves, at most as many as values were computed. */
  double error(int rank) {
    return error(squares, energy, rank);
  }

  /** The same of other values. */
  static double error(double[] squares, double energy, int rank) {
    double kept = 0;
    double lost = 0;
    for (int i = squares.length - 1; i >= rank; i--) {
      lost += squares[i];
    }
    for (int i = rank - 1; i >= 0; i--) {
      kept += squares[i];
    }
    // What was not computed is known as a difference only.
    return lost + Math.max(0, energy - kept - lost);
  }
}
