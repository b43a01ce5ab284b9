package dev.attar.compute;

/**
 * A matrix of single-precision numbers in a device's memory, row-major without gaps. Belongs to the {@link Scope} that made it and is
 * of no use after that is closed.
 */
public interface Matrix {
  /** Number of rows, at least 1. */
  int rows();

  /** Number of columns, at least 1. */
  int columns();

  /**
   * Some consecutive rows of this matrix, which share its memory.
   *
   * @param from the first row
   * @param count how many, at least 1
   * @throws IndexOutOfBoundsException if they are not all in this matrix
   */
  Matrix rows(int from, int count);
}
