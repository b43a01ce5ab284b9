package dev.attar.distill;

import java.io.IOException;

/** A student cannot be trained as asked. The message is one line that names the model or file and says what is wrong. */
public class DistillException extends IOException {

  private static final long serialVersionUID = 1L;

  /**
   * @param message the model or file and the problem
   */
  public DistillException(String message) {
    super(message);
  }

  /**
   * @param message the model or file and the problem
   * @param cause what led to it
   */
  public DistillException(String message, Throwable cause) {
    super(message, cause);
  }
}
