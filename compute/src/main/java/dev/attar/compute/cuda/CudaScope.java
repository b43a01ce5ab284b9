package dev.attar.compute.cuda;

import dev.attar.compute.Scope;

/** Matrices of a GPU that are freed together. */
final class CudaScope implements Scope {

  private final CudaDevice device;
  private final CudaMemory memory;
  private volatile boolean open = true;

  CudaScope(CudaDevice device, CudaMemory memory) {
    this.device = device;
    this.memory = memory;
  }

  boolean isOpen() {
    return open;
  }

  @Override
  public synchronized CudaMatrix matrix(int rows, int columns) {
    String shape = "a matrix of " + rows + " x " + columns;
    if (rows < 1 || columns < 1) {
      throw new IllegalArgumentException(shape + ", expected at least 1 x 1");
    }
    if (!open) {
      throw new IllegalStateException("the scope is closed");
    }
    return new CudaMatrix(device, this, memory.zeros((long) rows * columns, Float.BYTES, shape), rows, columns);
  }

  @Override
  public synchronized void close() {
    if (open) {
      open = false;
      memory.close();
    }
  }
}
