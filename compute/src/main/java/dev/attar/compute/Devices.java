package dev.attar.compute;

import dev.attar.compute.cuda.Cuda;
import java.io.IOException;
import java.util.Optional;

/** Finds devices. */
public final class Devices {

  private Devices() {}

  /**
   * A device that was chosen.
   *
   * @param device what computes
   * @param problem why it is the processor though there is something of CUDA; empty if it is not, or was asked for
   */
  public record Opened(Device device, Optional<String> problem) implements AutoCloseable {
    /** What was chosen, in one line: {@code device: cuda (NVIDIA H100 80GB HBM3)}. */
    public String line() {
      return "device: " + device.name() + problem.map(why -> ", since " + why).orElse("");
    }

    @Override
    public void close() {
      device.close();
    }
  }

  /**
   * The processor, with OpenBLAS for dense algebra. The library is looked for in this order: the file that the system property
   * {@code attar.openblas} or the environment variable {@code ATTAR_OPENBLAS_LIB} names, the one that the program carries, the
   * system's.
   *
   * @param threads how many to compute with, at least 1; no more than OpenBLAS was built for are used
   * @throws IOException if OpenBLAS cannot be found or loaded; the message is one line
   */
  public static Device cpu(int threads) throws IOException {
    if (threads < 1) {
      throw new IllegalArgumentException(threads + " threads, expected at least 1");
    }
    return new CpuDevice(OpenBlas.load(), threads);
  }

  /**
   * What this machine has of CUDA. Libraries are looked for in this order: the folder that the system property {@code attar.cuda} or
   * the environment variable {@code ATTAR_CUDA_LIB} names, the system's own search, CUDA's usual folders.
   */
  public static CudaReport cuda() {
    return Cuda.report();
  }

  /**
   * Bytes of a GPU's memory that are free now.
   *
   * @param gpu its number in the report
   * @throws IOException if the driver does not tell; the message is one line
   */
  public static long freeGpuMemory(int gpu) throws IOException {
    return Cuda.freeMemory(gpu);
  }

  /**
   * Checks, before any work, that there is what is asked for.
   *
   * @throws IOException if it is a GPU, and CUDA cannot be used; the message is one line
   */
  public static void require(DeviceChoice choice) throws IOException {
    if (choice == DeviceChoice.CUDA && cuda().problem().isPresent()) {
      throw new IOException(cuda().problem().get());
    }
  }

  /**
   * Opens a device.
   *
   * @param threads how many the processor computes with, if it is the device
   * @throws IOException if there is no such device, or it cannot be used now; the message is one line
   */
  public static Opened open(DeviceChoice choice, int threads) throws IOException {
    return switch (choice) {
      case CPU -> new Opened(cpu(threads), Optional.empty());
      case CUDA -> new Opened(Cuda.open(), Optional.empty());
      case AUTO -> {
        try {
          yield new Opened(Cuda.open(), Optional.empty());
        } catch (IOException e) {
          Optional<String> problem = cuda().absent() ? Optional.empty() : Optional.of(e.getMessage());
          yield new Opened(cpu(threads), problem);
        }
      }
    };
  }
}
