package dev.attar.compute;

import java.lang.foreign.MemorySegment;

/** The scale search and the packing of one of GGUF's block types, on a device. */
public interface BlockCoder {
  /**
   * The grid and the levels that ggml's encoder of the type chooses, bit for bit.
   *
   * @param scope gets the grid's matrices
   * @param weights (n, rows): a column per row of the weights; n is a multiple of the block's length
   * @param importance a weight per column, n numbers; {@code null} for the encoder without
   * @param levels gets the levels (n, rows)
   */
  QuantizationGrid search(Scope scope, Matrix weights, float[] importance, Matrix levels);

  /**
   * Writes rows as the type's blocks.
   *
   * @param grid of this type, from {@link #search}; its scales may have changed since
   * @param levels (n, rows), levels of the grid
   * @param to gets the rows one after the other, without gaps
   */
  void pack(QuantizationGrid grid, Matrix levels, MemorySegment to);
}
