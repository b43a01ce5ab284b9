package dev.attar.compute.cuda;

import dev.attar.compute.DeviceException;

/** A call of CUDA's driver, cuBLAS or cuSOLVER failed. The message is one line: the call, its sizes, the status. */
public final class CudaException extends DeviceException {

  private static final long serialVersionUID = 1;

  CudaException(String message) {
    super(message, null);
  }
}
