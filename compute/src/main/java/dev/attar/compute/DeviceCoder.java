package dev.attar.compute;

import java.lang.foreign.MemorySegment;

/**
 * A device's {@link BlockCoder} as {@link CheckedDevice} asks it: only for what fits.
 *
 * @param <M> the device's matrices
 */
public interface DeviceCoder<M extends DeviceMatrix> {
  /** Weights in a block. */
  int blockLength();

  /** Weights in a group. */
  int groupLength();

  /** What a block takes, encoded. */
  int blockBytes();

  /** See {@link BlockCoder#search}. */
  QuantizationGrid search(Scope scope, M weights, float[] importance, M levels);

  /** See {@link BlockCoder#pack}. */
  void pack(QuantizationGrid grid, M levels, MemorySegment to);
}
