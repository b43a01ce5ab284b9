package dev.attar.lowrank;

import java.io.IOException;

/** A model cannot be factorized, or an adapter not be merged, as asked. The message is one line that names the file and the problem. */
public class LowRankException extends IOException {

  private static final long serialVersionUID = 1L;

  /**
   * @param message the file and the problem
   */
  public LowRankException(String message) {
    super(message);
  }

  /**
   * @param message the file and the problem
   * @param cause what led to it
   */
  public LowRankException(String message, Throwable cause) {
    super(message, cause);
  }
}
