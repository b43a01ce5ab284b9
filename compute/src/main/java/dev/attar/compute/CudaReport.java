package dev.attar.compute;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * What this machine has of CUDA. Even where something is missing, it holds what is there.
 *
 * @param problem why it cannot be used, in one line; empty if it can
 * @param absent whether there is nothing of it at all: no driver is installed, or there is none for such machines
 * @param version the newest version of CUDA that the driver is for, {@code 12.8}
 * @param gpus the driver's GPUs in its order, which the environment variable {@code CUDA_VISIBLE_DEVICES} decides; the first one is used
 * @param libraries the folder of CUDA's libraries
 */
public record CudaReport(
  Optional<String> problem,
  boolean absent,
  Optional<String> version,
  List<Gpu> gpus,
  Optional<Path> libraries
) {
  /**
   * A GPU.
   *
   * @param name what the driver calls it
   * @param capability ten times the major number of its compute capability and the minor one: 90 for Hopper
   * @param memoryBytes its memory
   */
  public record Gpu(String name, int capability, long memoryBytes) {
    /** The compute capability as it is written: {@code 9.0}. */
    public String computeCapability() {
      return capability / 10 + "." + (capability % 10);
    }
  }

  public CudaReport {
    gpus = List.copyOf(gpus);
  }
}
