package dev.attar.compute;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * A matrix that lane kernels work on: pieces of its rows go to arrays and back.
 *
 * @param values float32 in the machine's byte order, row-major without gaps
 */
record LaneMatrix(MemorySegment values, int rows, int columns) {
  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT;

  static LaneMatrix of(Matrix matrix) {
    return new LaneMatrix(((CpuMatrix) matrix).values(), matrix.rows(), matrix.columns());
  }

  static LaneMatrix allocate(Arena arena, int rows, int columns) {
    MemorySegment values = NativeMemory.zeros(
      arena,
      (long) rows * columns,
      Float.BYTES,
      "(" + rows + ", " + columns + ")"
    );
    return new LaneMatrix(values, rows, columns);
  }

  /** The memory from an element on. */
  MemorySegment at(int row, int column) {
    return values.asSlice(offset(row, column));
  }

  /** The part from an element on, for BLAS. */
  Level3.Block block(int row, int column) {
    return new Level3.Block(at(row, column), columns, Float.BYTES);
  }

  private long offset(int row, int column) {
    return ((long) row * columns + column) * Float.BYTES;
  }

  float get(int row, int column) {
    return values.get(FLOAT, offset(row, column));
  }

  void set(int row, int column, float value) {
    values.set(FLOAT, offset(row, column), value);
  }

  void read(int row, int column, int count, float[] to, int at) {
    MemorySegment.copy(values, FLOAT, offset(row, column), to, at, count);
  }

  void write(int row, int column, int count, float[] from, int at) {
    MemorySegment.copy(from, at, values, FLOAT, offset(row, column), count);
  }
}
