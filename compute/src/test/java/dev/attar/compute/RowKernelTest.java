package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.RowKernel.Logs;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class RowKernelTest {

  private static final int ROOM = 160;

  private final RowKernel scalar = new ScalarRowKernel();
  private final RowKernel vector = new VectorRowKernel();

  @Test
  void computesExponentialsAndLogarithms() {
    for (float x = -87.2f; x <= 88; x += 0.0037f) {
      double expected = Math.exp(x);
      assertEquals(expected, ScalarRowKernel.exp(x), 2.5e-7 * expected, "exp(" + x + ")");
    }
    assertEquals(1, ScalarRowKernel.exp(0));
    assertEquals(0, ScalarRowKernel.exp(-88));
    assertEquals(0, ScalarRowKernel.exp(Float.NEGATIVE_INFINITY));
    assertTrue(Float.isNaN(ScalarRowKernel.exp(Float.NaN)));
    for (float e = 0; e <= 1; e += 0.00013f) {
      double expected = Math.log1p(e);
      assertEquals(expected, ScalarRowKernel.log1p(e), 2.5e-7 * expected, "log1p(" + e + ")");
    }
  }

  /** What a kernel does with two rows and a third one, and what it returns. */
  @FunctionalInterface
  private interface Operation {
    double run(RowKernel kernel, MemorySegment x, MemorySegment y, MemorySegment z, int n);
  }

  private static List<Operation> operations() {
    List<Operation> all = new ArrayList<>(
      List.of(
        (kernel, x, y, _, n) -> kernel.dot(x, 4, y, 8, n),
        (kernel, x, y, z, n) -> kernel.dot(x, 4, y, 8, z, 0, n),
        (kernel, x, y, _, n) -> run(() -> kernel.scale(0.3f, x, 4, y, 8, n)),
        (kernel, x, y, _, n) -> run(() -> kernel.add(x, 4, y, 8, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.norm(x, 4, y, 0.7f, z, 4, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.normGradient(x, y, z, 4, y, 0.7f, 0.2f, false, z, 4 * (n + 1), n)),
        (kernel, x, y, z, n) -> run(() -> kernel.normGradient(x, y, z, 4, y, 0.7f, 0.2f, true, z, 4 * (n + 1), n)),
        (kernel, x, y, z, n) -> run(() -> kernel.rotateHalves(x, 4, y, z, 8, -1, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.rotatePairs(x, 4, y, z, 8, 1, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.swiGlu(x, y, z, 4, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.swiGluGradient(x, y, z, y, z, 4, n)),
        (kernel, x, _, _, n) -> kernel.max(x, 4, n),
        (kernel, x, _, _, n) -> kernel.sumExp(x, 4, n, 1, 0.5f),
        (kernel, x, _, _, n) -> {
          float[] mostAndSum = new float[2];
          kernel.softmax(x, 4, n, (n + 31) & -RowKernel.WIDTH, mostAndSum);
          return mostAndSum[0] * mostAndSum[1];
        },
        (kernel, x, y, _, n) -> run(() -> kernel.softmaxGradient(x, y, 4, n, (n + 31) & -RowKernel.WIDTH, 2, 0.3f)),
        (kernel, x, y, _, n) -> kernel.squaredDistance(x, 4, y, 8, n),
        (kernel, x, y, _, n) -> run(() -> kernel.difference(0.4f, x, 4, y, 8, n)),
        (kernel, x, y, _, n) -> run(() -> kernel.combine(0.4f, x, 4, -0.2f, y, 8, n)),
        (kernel, x, y, z, n) -> run(() -> kernel.transpose(x, 0, n, 5, n, z, 4, 7)),
        (kernel, x, y, z, n) ->
          run(() ->
            kernel.adamW(x, y, z, z.asSlice(4L * ROOM), 4, n, new AdamStep(0.1f, 0.9f, 0.5f, 1e-3f, 0.1f, 2, 0.5f))
          )
      )
    );
    for (float least : new float[] { Float.NEGATIVE_INFINITY, -3 }) {
      all.add((kernel, x, y, z, n) -> {
        Logs p = Logs.of(kernel, x, 4, n, 0.5f);
        Logs q = Logs.of(kernel, y, 8, n, 1);
        kernel.relativeEntropyGradient(q, p, least, 0.4f, 0.7f, n, z, 4);
        return kernel.relativeEntropy(p, q, least, n);
      });
    }
    all.add((kernel, x, y, z, n) -> {
      Logs q = Logs.of(kernel, y, 8, n, 1);
      kernel.logMixture(0.3f, Logs.of(kernel, x, 4, n, 0.5f), q, n, z, 4);
      kernel.addExp(0.7f, q, n, x, 4);
      kernel.exp(0.7f, q, n, y, 8);
      return 0;
    });
    return all;
  }

  private static double run(Runnable operation) {
    operation.run();
    return 0;
  }

  /** The same to a few units in the last place, and nothing else is written. */
  @Test
  void vectorsComputeTheSame() {
    List<Operation> operations = operations();
    Random random = new Random(3);
    for (int n = 1; n <= 70; n += n < 20 ? 1 : 7) {
      float[] values = new float[3 * 5 * ROOM];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) random.nextGaussian() * 2;
      }
      // The last row's second part is not negative: means of squares.
      for (int i = 11 * ROOM; i < values.length; i++) {
        values[i] = Math.abs(values[i]);
      }
      for (int i = 0; i < operations.size(); i++) {
        float[][] results = new float[2][];
        double[] returned = new double[2];
        for (RowKernel kernel : List.of(scalar, vector)) {
          int which = kernel == scalar ? 0 : 1;
          try (Arena arena = Arena.ofConfined()) {
            MemorySegment all = arena.allocate(4L * values.length, 64);
            MemorySegment.copy(values, 0, all, ValueLayout.JAVA_FLOAT, 0, values.length);
            long bytes = 4L * 5 * ROOM;
            returned[which] = operations
              .get(i)
              .run(kernel, all.asSlice(0, bytes), all.asSlice(bytes, bytes), all.asSlice(2 * bytes, bytes), n);
            results[which] = all.toArray(ValueLayout.JAVA_FLOAT);
          }
        }
        String what = "operation " + i + " of " + n;
        assertEquals(returned[0], returned[1], 1e-5 * (1 + Math.abs(returned[0])), what);
        for (int j = 0; j < values.length; j++) {
          assertEquals(results[0][j], results[1][j], 2e-6 * (1 + Math.abs(results[0][j])), what + " at " + j);
        }
      }
    }
  }
}
