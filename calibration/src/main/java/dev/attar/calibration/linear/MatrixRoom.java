package dev.attar.calibration.linear;

import dev.attar.compute.Device;
import java.util.Optional;

/**
 * How much memory there is for the matrices of a run that works on one layer after the other.
 *
 * @param device where they are
 * @param maxMemory bytes that parent and worker may use together, beyond mapped files
 * @param taken bytes that weights take of it
 */
public record MatrixRoom(Device device, long maxMemory, long taken) {
  /** What parent and worker need besides weights and matrices: two JVMs, llama.cpp's buffers, bands of rows. */
  private static final long BASE = 900L << 20;

  /** Bytes for the matrices that the processes hold. */
  private long ofProcesses() {
    return maxMemory - BASE - taken;
  }

  /** An eighth of what is free is left for what the device's libraries take. */
  private long ofDevice() {
    long free = device.freeMemory();
    return free - free / 8;
  }

  /** Bytes for matrices that the worker collects on the same kind of device. */
  public long bytes() {
    return device.hasOwnMemory() ? Math.min(ofProcesses(), ofDevice()) : ofProcesses();
  }

  /**
   * Why some matrices cannot be.
   *
   * @param needed their bytes
   * @return the problem, {@code needs … MiB of memory, --max-memory allows … MiB}; empty if there is room
   */
  public Optional<String> problem(long needed) {
    if (device.hasOwnMemory() && needed > ofDevice()) {
      return Optional.of(
        "needs " +
          mebibytes(needed) +
          " MiB of memory, " +
          device.name() +
          " has " +
          (ofDevice() >> 20) +
          " MiB free for that: use --device cpu"
      );
    }
    return needed <= ofProcesses()
      ? Optional.empty()
      : Optional.of(
          "needs " +
            mebibytes(BASE + taken + needed) +
            " MiB of memory, --max-memory allows " +
            (maxMemory >> 20) +
            " MiB"
        );
  }

  private static long mebibytes(long bytes) {
    return Math.ceilDiv(bytes, 1L << 20);
  }
}
