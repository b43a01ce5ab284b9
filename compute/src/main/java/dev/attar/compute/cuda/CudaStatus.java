package dev.attar.compute.cuda;

import dev.attar.compute.OutOfDeviceMemoryException;
import jcuda.driver.CUresult;
import jcuda.jcublas.cublasStatus;

/** Turns the status codes of CUDA's driver, cuBLAS and cuSOLVER into exceptions. */
final class CudaStatus {

  private CudaStatus() {}

  /**
   * Checks what a call of the driver returned.
   *
   * @param call its name and sizes, for the message, formatted with the arguments
   */
  static void driver(int status, String call, Object... arguments) {
    if (status != CUresult.CUDA_SUCCESS) {
      throw failure(status, CUresult.CUDA_ERROR_OUT_OF_MEMORY, CUresult.stringFor(status), call, arguments);
    }
  }

  /** Checks what a call of cuBLAS returned. */
  static void cublas(int status, String call, Object... arguments) {
    if (status != cublasStatus.CUBLAS_STATUS_SUCCESS) {
      throw failure(status, cublasStatus.CUBLAS_STATUS_ALLOC_FAILED, cublasStatus.stringFor(status), call, arguments);
    }
  }

  /** Checks what a call of cuSOLVER returned. */
  static void cusolver(int status, String call, Object... arguments) {
    if (status != 0) {
      throw failure(status, CuSolver.ALLOC_FAILED, CuSolver.statusName(status), call, arguments);
    }
  }

  private static RuntimeException failure(int status, int noMemory, String name, String call, Object... arguments) {
    String message = "cuda: " + call.formatted(arguments) + " failed: " + name + " (" + status + ")";
    return status == noMemory ? new OutOfDeviceMemoryException(message, null) : new CudaException(message);
  }
}
