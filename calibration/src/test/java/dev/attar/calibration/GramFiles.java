package dev.attar.calibration;

import java.io.IOException;
import java.lang.foreign.MemorySegment;

/** Puts given statistics into a store. */
public final class GramFiles {

  private GramFiles() {}

  /** @param square the matrix, row-major, of which the upper triangle counts */
  public static void write(GramStore store, GramRequest request, long tokens, float[] square) throws IOException {
    int n = request.input().columns();
    store.write(request, tokens, part -> {
      for (int i = 0; i < n; i++) {
        byte[] row = new byte[(n - i) * Float.BYTES];
        MemorySegment to = MemorySegment.ofArray(row);
        for (int j = i; j < n; j++) {
          to.set(Gram.FLOAT, (j - i) * (long) Float.BYTES, square[i * n + j]);
        }
        part.accept(to);
      }
    });
  }
}
