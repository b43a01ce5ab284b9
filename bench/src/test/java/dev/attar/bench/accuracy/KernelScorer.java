package dev.attar.bench.accuracy;

import dev.attar.formats.block.Simd;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;

/** Gives a kernel its row in the middle of others, at addresses that no vector is aligned to. */
public final class KernelScorer implements Scorer {

  private static final float OTHER = 1e6f;

  private final LogitKernel kernel = LogitKernel.get();

  @Override
  public Score score(float[] base, float[] model, int target) {
    try (Arena arena = Arena.ofConfined()) {
      int vocabulary = base.length;
      int[] targets = { Integer.MIN_VALUE, 0, target, vocabulary - 1, Integer.MAX_VALUE };
      TokenComparison both = new TokenComparison(6);
      MemorySegment baseRows = rows(arena, base);
      MemorySegment modelRows = rows(arena, model);
      kernel.compare(baseRows, modelRows, 3, vocabulary, targets, 1, both, 2);
      TokenScores alone = new TokenScores(5);
      kernel.score(modelRows, 3, vocabulary, targets, 1, alone, 1);
      for (int untouched : List.of(0, 1, 5)) {
        if (both.nll(untouched) != 0 || both.divergence(untouched) != 0 || both.isSameTop(untouched)) {
          throw new AssertionError("token " + untouched + " was written");
        }
      }
      return new Score(
        both.nll(3),
        both.baseNll(3),
        both.divergence(3),
        both.deltaP(3),
        both.isSameTop(3),
        alone.nll(2)
      );
    }
  }

  /** The row between two of large values, which would show if a kernel read them. */
  private static MemorySegment rows(Arena arena, float[] row) {
    int n = row.length;
    float[] rows = new float[3 * n + 1];
    Arrays.fill(rows, OTHER);
    System.arraycopy(row, 0, rows, 1 + n, n);
    return arena.allocateFrom(ValueLayout.JAVA_FLOAT, rows).asSlice(4);
  }

  @Override
  public String description() {
    return kernel.toString();
  }

  @Override
  public int lanes() {
    return Math.max(1, Simd.bits() / 32);
  }

  @Override
  public String toString() {
    return description();
  }
}
