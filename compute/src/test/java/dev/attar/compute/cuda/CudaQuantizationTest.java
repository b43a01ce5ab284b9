package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.OutOfDeviceMemoryException;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.QuantizationProblem;
import dev.attar.compute.QuantizationProblem.Kind;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * Quantization with CUDA against the CPU's: the same bits where neither a product of cuBLAS nor a factorization comes in, nearly the same
 * levels where they do. On a GPU, or without one on the emulated CUDA.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@ResourceLock(CudaUnderTest.LOCK)
class CudaQuantizationTest {

  /** Some blocks of threads, the last one with few rows. */
  private static final int ROWS = 67;

  /** What weights and values are multiples of where products are exact. */
  private static final float UNIT = 0x1p-16f;

  private Device cpu;
  private Device cuda;

  @BeforeAll
  void open() throws IOException {
    cpu = Devices.cpu(2);
    cuda = CudaUnderTest.load().open();
  }

  @AfterAll
  void close() {
    cuda.close();
    cpu.close();
  }

  /** What a device makes of a problem. */
  private record Outcome(float[] levels, float[] d, float[] dmin, float[] scale, float[] minimum, double[] errors) {}

  /** A problem in a device's memory, and what is done with it. */
  private static final class Work {

    private final QuantizationProblem problem;
    private final Device device;
    private final Scope scope;
    private final Matrix weights;
    private final Matrix gram;
    private final QuantizationGrid grid;
    private final Matrix levels;
    private final double[] errors;

    Work(QuantizationProblem problem, Device device, Scope scope) {
      this.problem = problem;
      this.device = device;
      this.scope = scope;
      weights = put(problem.weights, problem.n);
      gram = put(problem.gram, problem.n);
      levels = put(problem.rounded(), problem.n);
      errors = new double[problem.rows];
      Kind kind = problem.kind;
      QuantizationProblem.Grid form = problem.grid;
      int blocks = problem.n / form.blockLength();
      int groups = problem.n / form.groupLength();
      grid = new QuantizationGrid(
        kind.levels,
        form.groupLength(),
        form.blockLength(),
        kind.leastScale,
        kind.mostScale,
        kind.leastMinimum(),
        kind.mostMinimum,
        put(form.d(), blocks),
        put(form.dmin(), blocks),
        put(form.scale(), groups),
        put(form.minimum(), groups),
        form.pruned() == null ? null : put(form.pruned(), problem.n)
      );
    }

    private Matrix put(float[] values, int rows) {
      Matrix matrix = scope.matrix(rows, values.length / rows);
      device.upload(MemorySegment.ofArray(values), matrix);
      return matrix;
    }

    private float[] get(Matrix matrix) {
      float[] values = new float[matrix.rows() * matrix.columns()];
      device.download(matrix, MemorySegment.ofArray(values));
      return values;
    }

    Matrix factor(int[] order) {
      Matrix factor = scope.matrix(problem.n, problem.n);
      assertEquals(0, device.feedbackFactor(gram, problem.ridge(), order, factor));
      return factor;
    }

    void walk(Matrix factor, int[] order, int reach) {
      device.columnWalk(weights, factor, problem.ridge(), order, grid, reach, levels, errors);
    }

    void refine(int passes, boolean scales) {
      device.refine(weights, gram, problem.ridge(), grid, levels, passes, scales, errors);
    }

    void measure() {
      device.gramErrors(weights, gram, grid, levels, errors);
    }

    Outcome outcome() {
      return new Outcome(
        get(levels),
        get(grid.d()),
        get(grid.dmin()),
        get(grid.scale()),
        get(grid.minimum()),
        errors.clone()
      );
    }
  }

  @FunctionalInterface
  private interface Operation {
    void run(Work work);
  }

  private static Outcome on(Device device, QuantizationProblem problem, Operation operation) {
    try (Scope scope = device.scope()) {
      Work work = new Work(problem, device, scope);
      operation.run(work);
      return work.outcome();
    }
  }

  /** Bit for bit: assertArrayEquals tells 0 from -0. */
  private static void assertSame(Outcome expected, Outcome found, String what) {
    assertArrayEquals(expected.levels, found.levels, what);
    assertArrayEquals(expected.d, found.d, what);
    assertArrayEquals(expected.dmin, found.dmin, what);
    assertArrayEquals(expected.scale, found.scale, what);
    assertArrayEquals(expected.minimum, found.minimum, what);
    assertArrayEquals(expected.errors, found.errors, what);
  }

  private static int[] shuffled(int n) {
    List<Integer> order = Arrays.asList(new Integer[n]);
    for (int i = 0; i < n; i++) {
      order.set(i, i);
    }
    Collections.shuffle(order, new Random(5));
    return order.stream().mapToInt(Integer::intValue).toArray();
  }

  private float[] factorOfCpu(QuantizationProblem problem, int[] order) {
    try (Scope scope = cpu.scope()) {
      Work work = new Work(problem, cpu, scope);
      return work.get(work.factor(order));
    }
  }

  @ParameterizedTest
  @EnumSource(Kind.class)
  void walksThroughABlockAsTheCpu(Kind kind) {
    for (int n : new int[] { 16, 48, 256 }) {
      QuantizationProblem problem = new QuantizationProblem(kind, n, ROWS, n);
      for (int reach : new int[] { 0, 2 }) {
        int[] order = reach == 0 ? shuffled(n) : problem.order();
        float[] factor = factorOfCpu(problem, order);
        Operation walk = work -> work.walk(work.put(factor, n), order, reach);
        Outcome expected = on(cpu, problem, walk);
        assertSame(expected, on(cuda, problem, walk), n + " columns, reach " + reach);
        boolean chosen = !Arrays.equals(problem.grid.scale(), expected.scale);
        boolean fitted = !Arrays.equals(problem.grid.d(), expected.d);
        assertEquals(reach > 0, chosen || fitted);
      }
    }
  }

  /** A problem whose product with the Gram matrix is exact, whatever the order: all is a multiple of something, and small. */
  private static QuantizationProblem exact(Kind kind, int n) {
    QuantizationProblem problem = new QuantizationProblem(kind, n, ROWS, n);
    QuantizationProblem.Grid grid = problem.grid;
    for (float[] halves : List.of(grid.d(), grid.dmin())) {
      for (int i = 0; i < halves.length; i++) {
        if (halves[i] != 0) {
          float power = Math.scalb(1f, Math.getExponent(halves[i]));
          halves[i] = Math.copySign(Math.max(power, UNIT), halves[i]);
        }
      }
    }
    for (int i = 0; i < problem.weights.length; i++) {
      problem.weights[i] = (float) Math.rint(problem.weights[i] / UNIT) * UNIT;
    }
    for (int i = 0; i < problem.gram.length; i++) {
      problem.gram[i] = (float) Math.rint(problem.gram[i] * 4) / 4;
    }
    float[] levels = problem.rounded();
    for (int row = 0; row < ROWS; row++) {
      for (int i = 0; i < n; i++) {
        double size = 0;
        for (int j = 0; j < n; j++) {
          double left = problem.weights[j * ROWS + row] - grid.value(j, row, levels[j * ROWS + row]);
          size += Math.abs(problem.gram[i * n + j] * left);
        }
        assertTrue(size < (UNIT / 4) * (1 << 24), "" + size);
      }
    }
    return problem;
  }

  @ParameterizedTest
  @EnumSource(Kind.class)
  void refinesABlockAsTheCpu(Kind kind) {
    for (int n : new int[] { 16, 48, 256 }) {
      QuantizationProblem problem = exact(kind, n);
      for (boolean scales : new boolean[] { false, true }) {
        Operation refine = work -> {
          work.measure();
          work.refine(1, scales);
        };
        Outcome expected = on(cpu, problem, refine);
        assertSame(expected, on(cuda, problem, refine), n + " columns, scales " + scales);
        assertFalse(Arrays.equals(problem.rounded(), expected.levels));
        boolean fitted =
          !Arrays.equals(problem.grid.d(), expected.d) || !Arrays.equals(problem.grid.scale(), expected.scale);
        assertEquals(scales, fitted);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(Kind.class)
  void measuresErrorsOfABlockAsTheCpu(Kind kind) {
    QuantizationProblem problem = exact(kind, 256);
    assertSame(on(cpu, problem, Work::measure), on(cuda, problem, Work::measure), "256 columns");
  }

  /** Factor and products come from libraries that round otherwise. What one level does to those after it is as in another order. */
  @Test
  void choosesNearlyTheLevelsOfTheCpu() {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, 544, ROWS / 2, 1);
      int[] order = problem.order();
      Operation whole = work -> {
        work.walk(work.factor(order), order, 2);
        work.refine(1, true);
      };
      Outcome expected = on(cpu, problem, whole);
      Outcome found = on(cuda, problem, whole);
      int different = 0;
      for (int i = 0; i < expected.levels.length; i++) {
        different += expected.levels[i] == found.levels[i] ? 0 : 1;
      }
      assertTrue(different <= 0.05 * expected.levels.length, kind + ": " + different + " levels differ");
      double sum = Arrays.stream(expected.errors).sum();
      assertEquals(sum, Arrays.stream(found.errors).sum(), 0.01 * sum, kind + "");
    }
  }

  @Test
  void leavesNothingBehindWhereThereIsNoRoom() throws IOException {
    Optional<NativeCalls> emulated = CudaUnderTest.load().emulated();
    assumeTrue(emulated.isPresent(), "a GPU does not tell what is allocated");
    QuantizationProblem problem = new QuantizationProblem(Kind.SIGNED_SCALES, 288, 40, 1);
    int[] order = problem.order();
    try (Scope scope = cuda.scope()) {
      Work work = new Work(problem, cuda, scope);
      Matrix factor = work.factor(order);
      float[] rounded = problem.rounded();
      long allocations = emulated.get().callLong("emulated_cuda_live_allocations");
      List<Runnable> operations = List.of(
        () -> work.walk(factor, order, 1),
        () -> work.refine(1, true),
        work::measure,
        () -> assertEquals(0, cuda.feedbackFactor(work.gram, 1, order, factor))
      );
      for (Runnable operation : operations) {
        float[] before = work.get(work.levels);
        int failures = 0;
        for (long room = 0; ; room += room < 4000 ? 1000 : 10_000) {
          long bytes = emulated.get().callLong("emulated_cuda_live_bytes");
          emulated.get().run("emulated_cuda_memory", bytes + room);
          try {
            operation.run();
            break;
          } catch (OutOfDeviceMemoryException e) {
            assertTrue(e.getMessage().startsWith("cuda: no room for "), e.getMessage());
            assertArrayEquals(before, work.get(work.levels));
            failures++;
          } finally {
            emulated.get().run("emulated_cuda_memory", 0L);
          }
          assertEquals(allocations, emulated.get().callLong("emulated_cuda_live_allocations"));
        }
        assertTrue(failures > 0);
        assertEquals(allocations, emulated.get().callLong("emulated_cuda_live_allocations"));
      }
      assertFalse(Arrays.equals(rounded, work.get(work.levels)));
    }
  }
}
