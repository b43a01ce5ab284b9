package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuMemAlloc;
import static jcuda.driver.JCudaDriver.cuMemFree;
import static jcuda.driver.JCudaDriver.cuMemsetD8Async;

import dev.attar.compute.OutOfDeviceMemoryException;
import java.util.ArrayList;
import java.util.List;
import jcuda.driver.CUresult;

/**
 * Blocks of a GPU's memory that are freed together: those of a scope, or what an operation needs meanwhile. Frees what is left when
 * the device is closed, after which closing does nothing. Not safe for use by several threads.
 */
final class CudaMemory implements AutoCloseable {

  private final CudaContext context;
  private final List<DevicePointer> blocks = new ArrayList<>();

  CudaMemory(CudaContext context) {
    this.context = context;
    context.add(this);
  }

  /**
   * A block that nothing has written.
   *
   * @param what what it is for, for the message
   * @return its address, a multiple of 256
   * @throws OutOfDeviceMemoryException if there is no such room
   */
  long allocate(long count, int bytesEach, String what) {
    long bytes;
    try {
      bytes = Math.multiplyExact(count, bytesEach);
    } catch (ArithmeticException e) {
      throw new OutOfDeviceMemoryException("cuda: no room for " + what + ", more bytes than can be counted", e);
    }
    return context.call(() -> {
      DevicePointer block = new DevicePointer();
      int status = cuMemAlloc(block, bytes);
      if (status == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
        throw new OutOfDeviceMemoryException(
          "cuda: no room for " + what + ", " + bytes + " bytes; " + context.freeMemory(),
          null
        );
      }
      CudaStatus.driver(status, "cuMemAlloc(%d)", bytes);
      blocks.add(block);
      return block.address();
    });
  }

  /** Room for a matrix of single-precision numbers. */
  long floats(int rows, int columns, String what) {
    return allocate((long) rows * columns, Float.BYTES, what + ", " + rows + " x " + columns);
  }

  /** A block that is all zeros. */
  long zeros(long count, int bytesEach, String what) {
    long address = allocate(count, bytesEach, what);
    context.run(() -> {
      long bytes = count * bytesEach;
      int status = cuMemsetD8Async(new DevicePointer(address), (byte) 0, bytes, context.stream());
      CudaStatus.driver(status, "cuMemsetD8Async(%d)", bytes);
    });
    return address;
  }

  @Override
  public void close() {
    if (context.remove(this)) {
      context.run(() -> {
        for (DevicePointer block : blocks) {
          CudaStatus.driver(cuMemFree(block), "cuMemFree");
        }
        blocks.clear();
      });
    }
  }
}
