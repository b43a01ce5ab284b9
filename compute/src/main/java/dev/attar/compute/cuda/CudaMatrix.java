package dev.attar.compute.cuda;

import dev.attar.compute.DeviceMatrix;
import java.util.Objects;
import jcuda.Pointer;

/**
 * A matrix in a GPU's memory.
 *
 * @param address of its first number; of a whole matrix aligned to 256 bytes
 */
record CudaMatrix(CudaDevice device, CudaScope scope, long address, int rows, int columns) implements DeviceMatrix {
  @Override
  public CudaMatrix rows(int from, int count) {
    Objects.checkFromIndexSize(from, count, rows);
    if (count == 0) {
      throw new IndexOutOfBoundsException("a matrix of no rows");
    }
    return new CudaMatrix(device, scope, at(from, 0), count, columns);
  }

  @Override
  public boolean isAlive() {
    return scope.isOpen();
  }

  /** The address of an element. */
  long at(int row, int column) {
    return address + ((long) row * columns + column) * Float.BYTES;
  }

  /** For calls of JCuda. */
  Pointer pointer() {
    return new DevicePointer(address);
  }

  @Override
  public String toString() {
    return "(" + rows + ", " + columns + ")";
  }
}
