package dev.attar.compute.cuda;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.compute.cuda.CudaAlgebra.Part;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.ResourceLock;

/** The kernels of {@code matrix.cu} with fewer rows of blocks than there are rows, as on matrices of more than 65535. */
@ResourceLock(CudaUnderTest.LOCK)
class MatrixKernelsTest {

  private static final int ROWS = 150;
  private static final int COLUMNS = 70;

  private CudaContext context;
  private CudaTransfers transfers;
  private CudaKernels kernels;
  private CudaMemory memory;
  private final float[] values = new float[ROWS * COLUMNS];

  @BeforeEach
  void open() throws IOException {
    CudaUnderTest.load();
    context = new CudaContext(0);
    transfers = new CudaTransfers(context);
    kernels = new CudaKernels(context);
    memory = new CudaMemory(context);
    for (int i = 0; i < values.length; i++) {
      values[i] = i + 1;
    }
  }

  @AfterEach
  void close() {
    transfers.close();
    kernels.close();
    context.close();
  }

  private long upload(float[] numbers) {
    long address = memory.allocate(numbers.length, Float.BYTES, "numbers");
    transfers.upload(MemorySegment.ofArray(numbers), address, 4L * numbers.length);
    return address;
  }

  private float[] floats(long address, int count) {
    float[] numbers = new float[count];
    transfers.download(address, MemorySegment.ofArray(numbers), 4L * count);
    return numbers;
  }

  private double[] doubles(long address, int count) {
    double[] numbers = new double[count];
    transfers.download(address, MemorySegment.ofArray(numbers), 8L * count);
    return numbers;
  }

  private void launch(String kernel, Shape shape, Object... arguments) {
    context.run(() -> kernels.launch("matrix", kernel, shape, arguments));
  }

  @Test
  void transposes() {
    long to = memory.allocate(values.length, Float.BYTES, "numbers");
    launch("transpose", new Shape(3, 2, 32, 8), upload(values), to, ROWS, COLUMNS);
    float[] expected = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      expected[(i % COLUMNS) * ROWS + i / COLUMNS] = values[i];
    }
    assertArrayEquals(expected, floats(to, values.length));
  }

  @Test
  void widensTriangles() {
    int n = COLUMNS;
    long from = upload(Arrays.copyOf(values, n * n));
    long to = memory.allocate(n * n, Double.BYTES, "numbers");
    for (boolean upper : new boolean[] { true, false }) {
      launch("widenTriangle", Shape.of(n, 32, 4), from, to, n, upper ? 1 : 0);
      double[] expected = new double[n * n];
      for (int i = 0; i < n * n; i++) {
        expected[i] = (upper ? i % n >= i / n : i % n <= i / n) ? values[i] : 0;
      }
      assertArrayEquals(expected, doubles(to, n * n));
    }
  }

  @Test
  void narrowsLowerTriangles() {
    int stride = COLUMNS + 10;
    double[] wide = new double[values.length];
    Arrays.setAll(wide, i -> values[i]);
    long from = memory.allocate(wide.length, Double.BYTES, "numbers");
    transfers.upload(MemorySegment.ofArray(wide), from, 8L * wide.length);
    for (boolean zeroAbove : new boolean[] { true, false }) {
      float[] expected = new float[ROWS * stride];
      Arrays.fill(expected, -1);
      long to = upload(expected);
      launch("narrowLower", Shape.of(COLUMNS, 32, 4), from, to, ROWS, COLUMNS, stride, zeroAbove ? 1 : 0);
      for (int i = 0; i < values.length; i++) {
        int place = (i / COLUMNS) * stride + (i % COLUMNS);
        if (i % COLUMNS <= i / COLUMNS) {
          expected[place] = values[i];
        } else if (zeroAbove) {
          expected[place] = 0;
        }
      }
      assertArrayEquals(expected, floats(to, expected.length));
    }
  }

  @Test
  void fillsInTheIdentity() {
    long to = memory.allocate(values.length, Double.BYTES, "numbers");
    launch("identity", Shape.of(COLUMNS, 32, 4), to, ROWS, COLUMNS);
    double[] expected = new double[values.length];
    for (int i = 0; i < COLUMNS; i++) {
      expected[i * COLUMNS + i] = 1;
    }
    assertArrayEquals(expected, doubles(to, values.length));
  }

  @Test
  void findsTheFirstNumberThatIsNotFinite() {
    int above = 20 * COLUMNS + 60;
    int diagonal = 33 * COLUMNS + 33;
    int below = 40 * COLUMNS + 3;
    values[above] = Float.NaN;
    values[diagonal] = Float.NEGATIVE_INFINITY;
    values[below] = Float.POSITIVE_INFINITY;
    values[140 * COLUMNS + 69] = Float.NaN;
    assertEquals(above, firstNotFinite(Part.ALL));
    assertEquals(above, firstNotFinite(Part.UPPER));
    assertEquals(diagonal, firstNotFinite(Part.LOWER));
    values[above] = Float.MAX_VALUE;
    values[diagonal] = -Float.MAX_VALUE;
    assertEquals(below, firstNotFinite(Part.ALL));
    assertEquals(-1, firstNotFinite(Part.UPPER));
    assertEquals(below, firstNotFinite(Part.LOWER));
  }

  private long firstNotFinite(Part part) {
    long first = memory.allocate(1, Long.BYTES, "a place");
    transfers.upload(MemorySegment.ofArray(new long[] { -1 }), first, Long.BYTES);
    launch("firstNotFinite", Shape.of(COLUMNS, 32, 4), upload(values), ROWS, COLUMNS, part.ordinal(), first);
    long[] found = new long[1];
    transfers.download(first, MemorySegment.ofArray(found), Long.BYTES);
    return found[0];
  }

  /** Which minor is not positive is seen on the factor's diagonal, whatever the library says. */
  @Test
  void findsTheFirstBadPivot() {
    int n = COLUMNS;
    for (float bad : new float[] { 0, -0f, -1, Float.NaN, Float.POSITIVE_INFINITY }) {
      float[] factor = Arrays.copyOf(values, n * n);
      factor[50 * n + 50] = -1;
      assertEquals(50, firstBadPivot(factor, n));
      factor[17 * n + 17] = bad;
      assertEquals(17, firstBadPivot(factor, n));
      assertEquals(-1, firstBadPivot(factor, 17));
    }
  }

  private long firstBadPivot(float[] factor, int n) {
    double[] wide = new double[factor.length];
    Arrays.setAll(wide, i -> factor[i]);
    long from = memory.allocate(wide.length, Double.BYTES, "numbers");
    transfers.upload(MemorySegment.ofArray(wide), from, 8L * wide.length);
    long first = memory.allocate(2, Long.BYTES, "places");
    transfers.upload(MemorySegment.ofArray(new long[] { -1, -1 }), first, 2 * Long.BYTES);
    launch("firstBadPivot", Shape.of(n, 32), upload(factor), n, COLUMNS, first);
    launch("firstBadPivotDouble", Shape.of(n, 32), from, n, COLUMNS, first + 8);
    long[] found = new long[2];
    transfers.download(first, MemorySegment.ofArray(found), 2 * Long.BYTES);
    assertEquals(found[0], found[1]);
    return found[0];
  }

  @Test
  void readsWhatAnOperationLeaves() {
    context.run(() -> {
      long to = memory.allocate(values.length, Double.BYTES, "numbers");
      kernels.launch("matrix", "widen", Shape.of(values.length), upload(values), to, (long) values.length);
      try (Arena arena = Arena.ofConfined()) {
        MemorySegment last = arena.allocate(JAVA_DOUBLE);
        context.read(to + 8L * (values.length - 1), last);
        assertEquals(values.length, last.get(JAVA_DOUBLE, 0));
      }
    });
  }
}
