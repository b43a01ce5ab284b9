package dev.attar.compute;

/** A device has no room for a matrix. The message names the device, the matrix's shape and its bytes. */
public final class OutOfDeviceMemoryException extends DeviceException {

  private static final long serialVersionUID = 1;

  public OutOfDeviceMemoryException(String message, Throwable cause) {
    super(message, cause);
  }
}
