package dev.attar.compute;

/** What {@link CheckedDevice} has to know of a device's matrix. */
public interface DeviceMatrix extends Matrix {
  /** Whose it is. */
  Device device();

  /** Whether its scope is open. */
  boolean isAlive();

  /** Where its first number lies in the device's memory, in bytes. */
  long address();

  /** How many numbers it has. */
  default long count() {
    return (long) rows() * columns();
  }

  /** What it takes of the device's memory. */
  default long bytes() {
    return count() * Float.BYTES;
  }

  /** Whether it shares memory with another matrix. */
  default boolean overlaps(DeviceMatrix other) {
    return address() < other.address() + other.bytes() && other.address() < address() + bytes();
  }

  /** Whether it is the same matrix in the same memory. */
  default boolean is(DeviceMatrix other) {
    return address() == other.address() && rows() == other.rows() && columns() == other.columns();
  }
}
