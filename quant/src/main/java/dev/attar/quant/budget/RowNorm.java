package dev.attar.quant.budget;

import java.lang.foreign.MemorySegment;

/** Measures rows x by a symmetric matrix H. */
interface RowNorm {
  /**
   * Computes x H x' of each row.
   *
   * @param rows count * columns float32 in the layout of {@link OutputErrors#FLOAT}, row after row
   * @param count how many
   * @param out receives count numbers, not negative but for rounding
   */
  void squares(MemorySegment rows, int count, double[] out);
}
