package dev.attar.prune;

import java.io.IOException;

/** A model cannot be pruned as asked. The message is one line that names the model and says what is wrong. */
public class PruneException extends IOException {

  private static final long serialVersionUID = 1L;

  /**
   * @param message the model and the problem
   */
  public PruneException(String message) {
    super(message);
  }

  /**
   * @param message the model and the problem
   * @param cause what led to it
   */
  public PruneException(String message, Throwable cause) {
    super(message, cause);
  }
}
