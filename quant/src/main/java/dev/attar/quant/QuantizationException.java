package dev.attar.quant;

import java.io.IOException;

/** A model cannot be quantized as asked. The message is one line that names the tensor and says what is wrong. */
public class QuantizationException extends IOException {

  private static final long serialVersionUID = 1L;

  /**
   * @param message the tensor and the problem
   */
  public QuantizationException(String message) {
    super(message);
  }

  /**
   * @param message the tensor and the problem
   * @param cause what led to it
   */
  public QuantizationException(String message, Throwable cause) {
    super(message, cause);
  }
}
