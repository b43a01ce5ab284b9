package dev.attar.compute;

import java.io.IOException;

/** Finds devices. */
public final class Devices {

  private Devices() {}

  /**
   * The processor, with OpenBLAS for dense algebra. The library is looked for in this order: the file that the system property
   * {@code attar.openblas} or the environment variable {@code ATTAR_OPENBLAS_LIB} names, the one that the program carries, the
   * system's.
   *
   * @param threads how many to compute with, at least 1; no more than OpenBLAS was built for are used
   * @throws IOException if OpenBLAS cannot be found or loaded; the message is one line
   */
  public static Device cpu(int threads) throws IOException {
    if (threads < 1) {
      throw new IllegalArgumentException(threads + " threads, expected at least 1");
    }
    return new CpuDevice(OpenBlas.load(), threads);
  }
}
