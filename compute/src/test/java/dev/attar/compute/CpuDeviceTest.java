package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.QuantizationProblem.Kind;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CpuDeviceTest extends DeviceContract {

  private CpuDevice device;

  @BeforeAll
  void open() throws IOException {
    device = (CpuDevice) Devices.cpu(2);
  }

  @AfterAll
  void close() {
    device.close();
  }

  @Override
  protected Device device() {
    return device;
  }

  @Test
  void tellsWhatItIs() throws IOException {
    String name = device.name();
    assertTrue(name.matches("cpu \\(OpenBLAS \\S+ \\S+, 2 threads, \\d+-bit vectors\\)"), name);
    try (Device one = Devices.cpu(1)) {
      assertTrue(one.name().contains(", 1 thread, "), one.name());
    }
    try (Device many = Devices.cpu(Integer.MAX_VALUE)) {
      assertTrue(many.name().contains(", " + OpenBlas.load().maxThreads() + " thread"), many.name());
    }
    assertThrows(IllegalArgumentException.class, () -> Devices.cpu(0));
  }

  @Test
  void refusesMatricesOfAnotherCpuDevice() throws IOException {
    try (Device other = Devices.cpu(1); Scope scope = other.scope()) {
      refusesInEveryOperation(scope.matrix(2, 2));
    }
  }

  @Test
  void refusesToComputeOnceClosed() throws IOException {
    Device other = Devices.cpu(2);
    Scope scope = other.scope();
    Matrix matrix = scope.matrix(2, 2);
    other.close();
    other.close();
    assertThrows(IllegalStateException.class, other::scope);
    assertThrows(IllegalStateException.class, () -> other.syrk(1, matrix, 0, matrix.rows(0, 2)));
    assertThrows(IllegalStateException.class, () -> other.triangularInverse(matrix));
    scope.close();
  }

  /** More memory than the JVM gives to direct buffers; pages that nobody touches cost nothing. */
  @Test
  void allocatesBeyondTheHeapsSize() {
    try (Scope scope = device.scope()) {
      Matrix large = scope.matrix(70_000, 10_000);
      assertTrue(70_000L * 10_000 * 4 > Runtime.getRuntime().maxMemory());
      Matrix last = large.rows(69_999, 1);
      device.gemm(1, put(new float[] { 3 }, 1, 1), false, put(random(1, 10_000), 1, 10_000), false, 0, last);
      assertArrayEquals(get(last), get(large.rows(69_999, 1)));
      assertEquals(0, ((CpuMatrix) large).values().address() % NativeMemory.ALIGNMENT);
    }
  }

  @Test
  void resultsDoNotDependOnTheThreads() throws IOException {
    int n = 700;
    float[] a = random(n, n);
    List<float[]> results = new ArrayList<>();
    for (int threads = 1; threads <= 3; threads++) {
      try (Device other = Devices.cpu(threads); Scope scope = other.scope()) {
        Matrix matrix = scope.matrix(n, n);
        other.upload(MemorySegment.ofArray(a), matrix);
        Matrix gram = scope.matrix(n, n);
        other.syrk(1f / n, matrix, 0, gram);
        Matrix diagonal = scope.matrix(n, n);
        other.upload(MemorySegment.ofArray(identity(n)), diagonal);
        other.gemm(0.1f, diagonal, false, diagonal, true, 1, gram);
        assertEquals(0, other.cholesky(gram, gram));
        other.triangularSolve(gram, true, matrix);
        other.triangularInverse(gram);
        Matrix product = scope.matrix(n, n);
        other.gemm(1, gram, true, matrix, false, 0, product);
        float[] result = new float[n * n];
        other.download(product, MemorySegment.ofArray(result));
        results.add(result);
      }
    }
    assertArrayEquals(results.get(0), results.get(1));
    assertArrayEquals(results.get(0), results.get(2));
  }

  @Test
  void quantizationDoesNotDependOnTheThreads() throws IOException {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, 288, 300, 5);
      List<float[]> results = new ArrayList<>();
      for (int threads = 1; threads <= 3; threads++) {
        try (Device other = Devices.cpu(threads); Scope scope = other.scope()) {
          results.add(quantize(problem, other, scope));
        }
      }
      assertArrayEquals(results.get(0), results.get(1), kind + "");
      assertArrayEquals(results.get(0), results.get(2), kind + "");
    }
  }

  /** The levels, scales and errors that a device arrives at. */
  private static float[] quantize(QuantizationProblem problem, Device other, Scope scope) {
    int n = problem.n;
    int rows = problem.rows;
    QuantizationProblem.Grid form = problem.grid;
    QuantizationGrid grid = new QuantizationGrid(
      problem.kind.levels,
      form.groupLength(),
      form.blockLength(),
      problem.kind.leastScale,
      problem.kind.mostScale,
      problem.kind.leastMinimum(),
      problem.kind.mostMinimum,
      put(other, scope, form.d(), rows),
      put(other, scope, form.dmin(), rows),
      put(other, scope, form.scale(), rows),
      put(other, scope, form.minimum(), rows)
    );
    Matrix gram = put(other, scope, problem.gram, n);
    Matrix weights = put(other, scope, problem.weights, rows);
    Matrix factor = scope.matrix(n, n);
    Matrix levels = scope.matrix(n, rows);
    assertEquals(0, other.feedbackFactor(gram, problem.ridge(), problem.order(), factor));
    double[] errors = new double[rows];
    other.columnWalk(weights, factor, problem.ridge(), problem.order(), grid, 1, levels, errors);
    other.refine(weights, gram, problem.ridge(), grid, levels, 2, true, errors);
    double[] measured = new double[rows];
    other.gramErrors(weights, gram, grid, levels, measured);
    float[] result = new float[n * rows + form.d().length + form.scale().length + 2 * rows];
    MemorySegment to = MemorySegment.ofArray(result);
    other.download(levels, to);
    other.download(grid.d(), to.asSlice(4L * n * rows));
    other.download(grid.scale(), to.asSlice(4L * (n * rows + form.d().length)));
    for (int row = 0; row < rows; row++) {
      result[result.length - 2 * rows + row] = (float) errors[row];
      result[result.length - rows + row] = (float) measured[row];
    }
    return result;
  }

  private static Matrix put(Device other, Scope scope, float[] values, int columns) {
    Matrix matrix = scope.matrix(values.length / columns, columns);
    other.upload(MemorySegment.ofArray(values), matrix);
    return matrix;
  }

  @Test
  void partsOfARangeDoNotDependOnTheThreads() throws IOException {
    for (int[] range : new int[][] { { 0, 100, 7 }, { 5, 6, 10 }, { 3, 3, 1 }, { -4, 4, 4 }, { 9, 2, 1 } }) {
      List<Set<List<Integer>>> parts = IntStream.rangeClosed(1, 3)
        .mapToObj(threads -> {
          Set<List<Integer>> found = ConcurrentHashMap.newKeySet();
          try (CpuDevice other = (CpuDevice) Devices.cpu(threads)) {
            other.parallel(range[0], range[1], range[2], (from, to) -> assertTrue(found.add(List.of(from, to))));
          } catch (IOException e) {
            throw new AssertionError(e);
          }
          return found;
        })
        .toList();
      Set<List<Integer>> expected = ConcurrentHashMap.newKeySet();
      for (int from = range[0]; from < range[1]; from += range[2]) {
        expected.add(List.of(from, Math.min(from + range[2], range[1])));
      }
      assertEquals(List.of(expected, expected, expected), parts);
    }
    AtomicInteger calls = new AtomicInteger();
    device.parallel(Integer.MAX_VALUE - 5, Integer.MAX_VALUE, 3, (_, _) -> calls.incrementAndGet());
    assertEquals(2, calls.get());
    assertThrows(IllegalArgumentException.class, () -> device.parallel(0, 1, 0, (_, _) -> {}));
  }

  @Test
  void partsRunAtTheSameTime() {
    CountDownLatch both = new CountDownLatch(2);
    Set<String> threads = new ConcurrentSkipListSet<>();
    device.parallel(0, 2, 1, (_, _) -> {
      threads.add(Thread.currentThread().getName());
      both.countDown();
      try {
        assertTrue(both.await(60, TimeUnit.SECONDS));
      } catch (InterruptedException e) {
        throw new AssertionError(e);
      }
    });
    assertEquals(2, threads.size());
  }

  @Test
  void whatAPartThrowsIsThrown() {
    RuntimeException failure = new RuntimeException("part 3");
    AtomicInteger begun = new AtomicInteger();
    AtomicInteger ended = new AtomicInteger();
    RuntimeException found = assertThrows(RuntimeException.class, () ->
      device.parallel(0, 1000, 1, (from, _) -> {
        begun.incrementAndGet();
        try {
          if (from == 3) {
            throw failure;
          }
        } finally {
          ended.incrementAndGet();
        }
      })
    );
    assertSame(failure, found);
    assertEquals(begun.get(), ended.get());
    assertThrows(StackOverflowError.class, () ->
      device.parallel(0, 4, 1, (_, _) -> {
        throw new StackOverflowError();
      })
    );
    AtomicInteger sum = new AtomicInteger();
    device.parallel(0, 10, 1, (from, _) -> sum.addAndGet(from));
    assertEquals(45, sum.get());
  }

  @Test
  void partsMayComputeAndShareOutFurther() {
    try (Scope scope = device.scope()) {
      Matrix a = put(random(200, 64), 200, 64);
      Matrix b = put(random(64, 48), 64, 48);
      Matrix whole = scope.matrix(200, 48);
      Matrix parts = scope.matrix(200, 48);
      device.gemm(1, a, false, b, false, 0, whole);
      device.parallel(0, 200, 16, (from, to) -> {
        int half = (to - from) / 2;
        device.parallel(from, to, half, (start, end) ->
          device.gemm(1, a.rows(start, end - start), false, b, false, 0, parts.rows(start, end - start))
        );
      });
      assertArrayEquals(get(whole), get(parts), 1e-4f);
    }
  }

  /** Shapes that are cut otherwise than small ones are. */
  @ParameterizedTest
  @CsvSource({ "530, 100, 300, false, false", "513, 200, 70, false, true", "100, 70, 600, true, false" })
  void multipliesManyRows(int m, int n, int k, boolean transposeA, boolean transposeB) throws IOException {
    Random random = new Random(m);
    float[] a = new float[m * k];
    float[] b = new float[k * n];
    float[] before = new float[m * n];
    for (float[] values : new float[][] { a, b, before }) {
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) random.nextGaussian();
      }
    }
    float[] garbage = new float[m * n];
    Arrays.fill(garbage, Float.NaN);
    for (float beta : new float[] { 0, 0.5f }) {
      float[][] results = new float[3][m * n];
      for (int threads = 1; threads <= 3; threads++) {
        try (Device other = Devices.cpu(threads); Scope scope = other.scope()) {
          Matrix left = scope.matrix(transposeA ? k : m, transposeA ? m : k);
          Matrix right = scope.matrix(transposeB ? n : k, transposeB ? k : n);
          Matrix result = scope.matrix(m, n);
          other.upload(MemorySegment.ofArray(a), left);
          other.upload(MemorySegment.ofArray(b), right);
          other.upload(MemorySegment.ofArray(beta == 0 ? garbage : before), result);
          other.gemm(0.7f, left, transposeA, right, transposeB, beta, result);
          other.download(result, MemorySegment.ofArray(results[threads - 1]));
        }
      }
      assertArrayEquals(results[0], results[1]);
      assertArrayEquals(results[0], results[2]);
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
          double sum = 0;
          for (int p = 0; p < k; p++) {
            sum += (double) a[transposeA ? p * m + i : i * k + p] * b[transposeB ? j * k + p : p * n + j];
          }
          assertEquals(0.7f * sum + beta * before[i * n + j], results[0][i * n + j], 1e-6 * k, i + ", " + j);
        }
      }
    }
  }
}
