package dev.attar.compute;

/** A device cannot do what it was rightly asked to: it has no room, or a fault. The message is one line, for the user. */
public abstract class DeviceException extends RuntimeException {

  private static final long serialVersionUID = 1;

  protected DeviceException(String message, Throwable cause) {
    super(message, cause);
  }
}
