package dev.attar.compute;

/** What is to compute. */
public enum DeviceChoice {
  /** A GPU if there is one, or else the processor. */
  AUTO,
  /** The processor. */
  CPU,
  /** An NVIDIA GPU. */
  CUDA
}
