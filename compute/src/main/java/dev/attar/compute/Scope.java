package dev.attar.compute;

/** A time in which matrices live: closing it frees their memory. May be used by several threads. */
public interface Scope extends AutoCloseable {
  /**
   * A new matrix of zeros.
   *
   * @throws OutOfDeviceMemoryException if the device has no room for it
   */
  Matrix matrix(int rows, int columns);

  /** Frees the matrices. Further calls do nothing. */
  @Override
  void close();
}
