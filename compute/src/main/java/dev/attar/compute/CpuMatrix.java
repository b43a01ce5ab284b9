package dev.attar.compute;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * A matrix in the process's own memory.
 *
 * @param device whose it is
 * @param values float32 in the machine's byte order, row-major; of a whole matrix aligned to {@link NativeMemory#ALIGNMENT} bytes
 */
record CpuMatrix(CpuDevice device, MemorySegment values, int rows, int columns) implements DeviceMatrix {
  @Override
  public CpuMatrix rows(int from, int count) {
    Objects.checkFromIndexSize(from, count, rows);
    if (count == 0) {
      throw new IndexOutOfBoundsException("a matrix of no rows");
    }
    long stride = 4L * columns;
    return new CpuMatrix(device, values.asSlice(from * stride, count * stride), count, columns);
  }

  @Override
  public boolean isAlive() {
    return values.scope().isAlive();
  }

  @Override
  public long address() {
    return values.address();
  }

  @Override
  public String toString() {
    return "(" + rows + ", " + columns + ")";
  }
}
