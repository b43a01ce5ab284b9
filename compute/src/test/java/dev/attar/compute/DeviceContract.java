package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.QuantizationProblem.Kind;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What every device must do, against plain loops in double precision. A device's test inherits it. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class DeviceContract {

  /** Largest relative error of one rounding to float32. */
  private static final double EPS = 0x1p-24;

  private static final float NAN = Float.NaN;

  private final Random random = new Random(20);
  private Scope scope;

  protected abstract Device device();

  @BeforeEach
  void openScope() {
    random.setSeed(20);
    scope = device().scope();
  }

  @AfterEach
  void closeScope() {
    scope.close();
  }

  // --- Matrices.

  @Test
  void aNewMatrixIsZero() {
    Matrix matrix = scope.matrix(37, 129);
    assertEquals(37, matrix.rows());
    assertEquals(129, matrix.columns());
    assertArrayEquals(new float[37 * 129], get(matrix));
  }

  @Test
  void copiesBitForBit() {
    float[] values = random(7, 5);
    values[3] = -0f;
    values[4] = Float.NEGATIVE_INFINITY;
    values[5] = Float.intBitsToFloat(0x7fc12345);
    values[6] = Float.MIN_VALUE;
    Matrix matrix = put(values, 7, 5);
    // At an odd place within something larger.
    MemorySegment bytes = MemorySegment.ofArray(new byte[7 * 5 * 4 + 9]);
    device().download(matrix, bytes.asSlice(3));
    for (int i = 0; i < values.length; i++) {
      float value = bytes.get(JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN), 3 + 4L * i);
      assertEquals(Float.floatToRawIntBits(values[i]), Float.floatToRawIntBits(value), "" + i);
    }
    Matrix again = scope.matrix(7, 5);
    device().upload(bytes.asSlice(3), again);
    assertArrayEquals(values, get(again));
    assertEquals(0, bytes.get(JAVA_BYTE, 3 + 7 * 5 * 4));
  }

  @Test
  void rowsShareTheirMatrixsMemory() {
    Matrix matrix = put(random(6, 3), 6, 3);
    Matrix middle = matrix.rows(1, 4).rows(1, 2);
    assertEquals(2, middle.rows());
    assertEquals(3, middle.columns());
    float[] values = { 1, 2, 3, 4, 5, 6 };
    device().upload(MemorySegment.ofArray(values), middle);
    assertArrayEquals(values, Arrays.copyOfRange(get(matrix), 6, 12));
    assertArrayEquals(values, get(matrix.rows(2, 2)));
  }

  @Test
  void refusesImpossibleMatrices() {
    Matrix matrix = scope.matrix(3, 4);
    for (int[] wrong : new int[][] { { 0, 4 }, { -1, 2 }, { 2, 2 }, { 3, 1 }, { 0, 0 }, { 1, Integer.MAX_VALUE } }) {
      assertThrows(IndexOutOfBoundsException.class, () -> matrix.rows(wrong[0], wrong[1]), Arrays.toString(wrong));
    }
    for (int[] wrong : new int[][] { { 0, 1 }, { 1, 0 }, { -1, -1 }, { Integer.MIN_VALUE, 1 } }) {
      assertThrows(IllegalArgumentException.class, () -> scope.matrix(wrong[0], wrong[1]), Arrays.toString(wrong));
    }
    for (int columns : new int[] { 1 << 22, Integer.MAX_VALUE }) {
      String message = assertThrows(OutOfDeviceMemoryException.class, () ->
        scope.matrix(Integer.MAX_VALUE, columns)
      ).getMessage();
      assertTrue(message.contains(Integer.MAX_VALUE + " x " + columns), message);
    }
    refuses(() -> device().upload(MemorySegment.ofArray(new float[11]), matrix));
    refuses(() -> device().download(matrix, MemorySegment.ofArray(new float[11])));
  }

  @Test
  void refusesMatricesOfClosedScopes() {
    Scope other = device().scope();
    Matrix matrix = other.matrix(2, 2);
    Matrix row = matrix.rows(0, 1);
    other.close();
    other.close();
    assertThrows(IllegalStateException.class, () -> other.matrix(1, 1));
    Matrix good = put(new float[] { 2, 0, 0, 2 }, 2, 2);
    float[] values = new float[2];
    List<Executable> calls = List.of(
      () -> get(matrix),
      () -> get(row),
      () -> device().upload(MemorySegment.ofArray(new float[4]), matrix),
      () -> device().transpose(matrix, good),
      () -> device().add(1, matrix, good),
      () -> device().gemm(1, matrix, false, good, false, 0, scope.matrix(2, 2)),
      () -> device().gemm(1, good, false, good, false, 0, matrix),
      () -> device().syrk(1, matrix, 0, scope.matrix(2, 2)),
      () -> device().cholesky(good, matrix),
      () -> device().triangularInverse(matrix),
      () -> device().triangularSolve(good, false, matrix),
      () -> device().symmetricEigen(matrix, values, scope.matrix(2, 2)),
      () -> device().svd(good, scope.matrix(2, 2), values, matrix),
      () -> device().mirror(matrix),
      () -> device().feedbackFactor(good, 1, new int[] { 0, 1 }, matrix),
      () ->
        device().columnWalk(good, matrix, 1, new int[] { 0, 1 }, smallGrid(good), 0, scope.matrix(2, 2), new double[2]),
      () -> device().refine(good, matrix, 1, smallGrid(good), scope.matrix(2, 2), 1, true, new double[2]),
      () -> device().gramErrors(good, good, smallGrid(matrix), scope.matrix(2, 2), new double[2])
    );
    for (Executable call : calls) {
      assertThrows(IllegalStateException.class, call);
    }
  }

  @Test
  void refusesMatricesOfOtherDevices() {
    record Foreign(int rows, int columns) implements Matrix {
      @Override
      public Matrix rows(int from, int count) {
        return new Foreign(count, columns);
      }
    }
    refusesInEveryOperation(new Foreign(2, 2));
  }

  /** A 2 x 2 matrix that no operation may take. */
  protected void refusesInEveryOperation(Matrix foreign) {
    Matrix good = put(new float[] { 2, 0, 0, 2 }, 2, 2);
    Matrix result = scope.matrix(2, 2);
    float[] values = new float[2];
    refuses(() -> get(foreign));
    refuses(() -> device().upload(MemorySegment.ofArray(new float[4]), foreign));
    refuses(() -> device().add(1, foreign, result));
    refuses(() -> device().add(1, good, foreign));
    refuses(() -> device().transpose(foreign, result));
    refuses(() -> device().transpose(good, foreign));
    refuses(() -> device().gemm(1, foreign, false, good, false, 0, result));
    refuses(() -> device().gemm(1, good, false, foreign, false, 0, result));
    refuses(() -> device().gemm(1, good, false, good, false, 0, foreign));
    refuses(() -> device().syrk(1, foreign, 0, result));
    refuses(() -> device().syrk(1, good, 0, foreign));
    refuses(() -> device().cholesky(foreign, result));
    refuses(() -> device().cholesky(good, foreign));
    refuses(() -> device().triangularInverse(foreign));
    refuses(() -> device().triangularSolve(foreign, false, result));
    refuses(() -> device().triangularSolve(good, false, foreign));
    refuses(() -> device().symmetricEigen(foreign, values, result));
    refuses(() -> device().symmetricEigen(good, values, foreign));
    refuses(() -> device().svd(foreign, result, values, scope.matrix(2, 2)));
    refuses(() -> device().svd(good, foreign, values, result));
    refuses(() -> device().svd(good, result, values, foreign));
    QuantizationGrid grid = smallGrid(good);
    QuantizationGrid foreignGrid = smallGrid(foreign);
    int[] order = { 0, 1 };
    double[] errors = new double[2];
    refuses(() -> device().mirror(foreign));
    refuses(() -> device().feedbackFactor(foreign, 1, order, result));
    refuses(() -> device().feedbackFactor(good, 1, order, foreign));
    refuses(() -> device().columnWalk(foreign, good, 1, order, grid, 0, result, errors));
    refuses(() -> device().columnWalk(good, foreign, 1, order, grid, 0, result, errors));
    refuses(() -> device().columnWalk(good, good, 1, order, foreignGrid, 0, result, errors));
    refuses(() -> device().columnWalk(good, good, 1, order, grid, 0, foreign, errors));
    refuses(() -> device().refine(foreign, good, 1, grid, result, 1, true, errors));
    refuses(() -> device().refine(good, foreign, 1, grid, result, 1, true, errors));
    refuses(() -> device().refine(good, good, 1, foreignGrid, result, 1, true, errors));
    refuses(() -> device().refine(good, good, 1, grid, foreign, 1, true, errors));
    refuses(() -> device().refine(good, good, 1, grid.withPruned(foreign), result, 1, true, errors));
    refuses(() -> device().columnWalk(good, good, 1, order, grid.withPruned(result), 0, result, errors));
    refuses(() -> device().gramErrors(foreign, good, grid, result, errors));
    refuses(() -> device().gramErrors(good, foreign, grid, result, errors));
    refuses(() -> device().gramErrors(good, good, foreignGrid, result, errors));
    refuses(() -> device().gramErrors(good, good, grid, foreign, errors));
  }

  /** A grid for 2 x 2 weights, the last of its matrices a given one. */
  private QuantizationGrid smallGrid(Matrix minimum) {
    Matrix ones = put(new float[] { 1, 1, 1, 1 }, 2, 2);
    return new QuantizationGrid(new float[] { -1, 0, 1 }, 1, 1, 1, 1, 0, 0, ones, ones, ones, minimum);
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "1, 40", "40, 1", "31, 33", "32, 64", "65, 130", "300, 7" })
  void transposes(int rows, int columns) {
    float[] a = random(rows, columns);
    Matrix result = put(filled(rows * columns, NAN), columns, rows);
    Matrix matrix = put(a, rows, columns);
    device().transpose(matrix, result);
    assertArrayEquals(transpose(a, rows, columns), get(result));
    assertArrayEquals(a, get(matrix));
    refuses(() -> device().transpose(matrix, scope.matrix(columns + 1, rows)));
    Matrix square = scope.matrix(columns, columns);
    refuses(() -> device().transpose(square, square));
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "1, 400", "37, 129", "300, 7" })
  void addsMultiples(int rows, int columns) {
    float[] a = random(rows, columns);
    float[] sum = random(rows, columns);
    Matrix result = put(sum, rows, columns);
    Matrix matrix = put(a, rows, columns);
    device().add(0.3f, matrix, result);
    for (int i = 0; i < a.length; i++) {
      sum[i] += 0.3f * a[i];
    }
    assertArrayEquals(sum, get(result));
    assertArrayEquals(a, get(matrix));
    refuses(() -> device().add(1, matrix, scope.matrix(columns + 1, rows)));
    refuses(() -> device().add(1, matrix, matrix));
  }

  // --- gemm and syrk.

  @ParameterizedTest
  @CsvSource(
    {
      "1, 1, 1",
      "1, 1, 300",
      "300, 1, 1",
      "1, 300, 1",
      "2, 3, 4",
      "15, 16, 17",
      "16, 16, 16",
      "31, 33, 32",
      "7, 130, 64",
      "130, 7, 65",
      "65, 129, 257",
      "500, 3, 9",
      "150, 160, 170",
      "530, 140, 20"
    }
  )
  void multiplies(int m, int n, int k) {
    for (boolean transposeA : new boolean[] { false, true }) {
      for (boolean transposeB : new boolean[] { false, true }) {
        for (float[] factors : new float[][] { { 1, 0 }, { -1, 1 }, { 0.75f, -0.5f } }) {
          float[] a = random(m, k);
          float[] b = random(k, n);
          float[] c = random(m, n);
          Matrix left = transposeA ? put(transpose(a, m, k), k, m) : put(a, m, k);
          Matrix right = transposeB ? put(transpose(b, k, n), n, k) : put(b, k, n);
          Matrix result = put(c, m, n);
          device().gemm(factors[0], left, transposeA, right, transposeB, factors[1], result);
          float[] found = get(result);
          for (int i = 0; i < m; i++) {
            for (int j = 0; j < n; j++) {
              double sum = (double) factors[1] * c[i * n + j];
              double size = Math.abs(sum);
              for (int l = 0; l < k; l++) {
                double product = (double) factors[0] * a[i * k + l] * b[l * n + j];
                sum += product;
                size += Math.abs(product);
              }
              assertEquals(sum, found[i * n + j], (k + 4) * EPS * size, "(" + i + ", " + j + ")");
            }
          }
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 17, 64, 200 })
  void withBetaZeroTheResultsOldNumbersDoNotMatter(int n) {
    for (float old : new float[] { NAN, Float.POSITIVE_INFINITY }) {
      float[] a = random(n, n);
      Matrix clean = scope.matrix(n, n);
      Matrix dirty = put(filled(n * n, old), n, n);
      Matrix factor = put(a, n, n);
      device().gemm(1, factor, false, factor, true, 0, clean);
      device().gemm(1, factor, false, factor, true, 0, dirty);
      assertArrayEquals(get(clean), get(dirty));
      Matrix triangle = put(filled(n * n, old), n, n);
      Matrix zeros = scope.matrix(n, n);
      device().syrk(1, factor, 0, triangle);
      device().syrk(1, factor, 0, zeros);
      float[] found = get(triangle);
      float[] expected = get(zeros);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          assertEquals(j < i ? old : expected[i * n + j], found[i * n + j]);
        }
      }
    }
  }

  @Test
  void multipliesViews() {
    Matrix stack = put(random(40, 13), 40, 13);
    float[] all = get(stack);
    Matrix result = put(filled(9 * 5, NAN), 9, 5);
    device().gemm(2, stack.rows(3, 4), false, stack.rows(30, 5), true, 0, result.rows(2, 4));
    float[] found = get(result);
    for (int i = 0; i < 9; i++) {
      for (int j = 0; j < 5; j++) {
        double sum = 0;
        for (int l = 0; l < 13 && i >= 2 && i < 6; l++) {
          sum += 2.0 * all[(3 + i - 2) * 13 + l] * all[(30 + j) * 13 + l];
        }
        assertEquals(i >= 2 && i < 6 ? sum : NAN, found[i * 5 + j], 1e-5);
      }
    }
    // Source and result may be parts of one matrix.
    device().gemm(1, stack.rows(0, 2), false, put(identity(13), 13, 13), false, 0, stack.rows(2, 2));
    assertArrayEquals(get(stack.rows(0, 2)), get(stack.rows(2, 2)));
    assertArrayEquals(Arrays.copyOfRange(all, 4 * 13, 40 * 13), get(stack.rows(4, 36)));
  }

  @Test
  void refusesProductsThatDoNotFit() {
    Matrix a = scope.matrix(2, 3);
    Matrix b = scope.matrix(3, 4);
    Matrix c = scope.matrix(2, 4);
    device().gemm(1, a, false, b, false, 0, c);
    refuses(() -> device().gemm(1, a, true, b, false, 0, c));
    refuses(() -> device().gemm(1, a, false, b, true, 0, c));
    refuses(() -> device().gemm(1, a, false, b, false, 0, scope.matrix(2, 5)));
    refuses(() -> device().gemm(1, a, false, b, false, 0, scope.matrix(4, 2)));
    Matrix square = scope.matrix(4, 4);
    refuses(() -> device().gemm(1, square, false, scope.matrix(4, 4), false, 0, square));
    refuses(() -> device().gemm(1, scope.matrix(4, 4), false, square, false, 0, square));
    refuses(() -> device().gemm(1, square.rows(0, 2), false, scope.matrix(4, 4), false, 0, square.rows(1, 2)));
    refuses(() -> device().syrk(1, a, 0, scope.matrix(2, 2)));
    refuses(() -> device().syrk(1, a, 0, scope.matrix(3, 4)));
    refuses(() -> device().syrk(1, square, 0, square));
    Matrix tall = scope.matrix(6, 4);
    refuses(() -> device().syrk(1, tall.rows(0, 3), 0, tall.rows(2, 4)));
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "1, 40", "40, 1", "3, 2", "17, 15", "16, 16", "33, 64", "5, 65", "300, 129", "129, 200" })
  void addsProductsWithTheTranspose(int n, int d) {
    for (float[] factors : new float[][] { { 1, 0 }, { 1, 1 }, { 0.25f, -2 } }) {
      float[] x = random(n, d);
      float[] c = random(d, d);
      Matrix result = put(c, d, d);
      device().syrk(factors[0], put(x, n, d), factors[1], result);
      float[] found = get(result);
      for (int i = 0; i < d; i++) {
        for (int j = 0; j < d; j++) {
          double sum = j < i ? c[i * d + j] : (double) factors[1] * c[i * d + j];
          double size = Math.abs(sum);
          for (int l = 0; l < n && j >= i; l++) {
            double product = (double) factors[0] * x[l * d + i] * x[l * d + j];
            sum += product;
            size += Math.abs(product);
          }
          assertEquals(sum, found[i * d + j], j < i ? 0 : (n + 4) * EPS * size, "(" + i + ", " + j + ")");
        }
      }
    }
  }

  // --- Factorizations.

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 65, 130, 257, 300 })
  void factorsPositiveDefiniteMatrices(int n) {
    float[] a = positiveDefinite(n);
    float[] upper = a.clone();
    for (int i = 0; i < n; i++) {
      Arrays.fill(upper, i * n, i * n + i, NAN);
    }
    Matrix lower = put(filled(n * n, NAN), n, n);
    assertEquals(0, device().cholesky(put(upper, n, n), lower));
    float[] l = get(lower);
    for (int i = 0; i < n; i++) {
      assertTrue(l[i * n + i] > 0);
      for (int j = 0; j < n; j++) {
        if (j > i) {
          assertEquals(0, l[i * n + j]);
        } else {
          double sum = 0;
          for (int k = 0; k <= j; k++) {
            sum += (double) l[i * n + k] * l[j * n + k];
          }
          // Computed in float64: only the factor's rounding to float32 is left, two roundings per product.
          double bound = 2.1 * EPS * Math.sqrt((double) a[i * n + i] * a[j * n + j]);
          assertEquals(a[j * n + i], sum, bound, "(" + i + ", " + j + ")");
        }
      }
    }
    Matrix inPlace = put(upper, n, n);
    assertEquals(0, device().cholesky(inPlace, inPlace));
    assertArrayEquals(l, get(inPlace));
  }

  @Test
  void factorsInDoublePrecision() {
    // L has 2^-j in column j. Its product with L' is exact in float32, but not the differences on the way back to L.
    int n = 11;
    float[] a = new float[n * n];
    float[] expected = new float[n * n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int k = 0; k <= Math.min(i, j); k++) {
          sum += Math.scalb(1.0, -2 * k);
        }
        assertEquals(sum, (float) sum);
        a[i * n + j] = (float) sum;
        expected[i * n + j] = j <= i ? Math.scalb(1f, -j) : 0;
      }
    }
    Matrix matrix = put(a, n, n);
    assertEquals(0, device().cholesky(matrix, matrix));
    assertArrayEquals(expected, get(matrix), 0f);
    device().triangularInverse(matrix);
    float[] inverse = get(matrix);
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        float value = i == j ? Math.scalb(1f, i) : j == i - 1 ? -Math.scalb(1f, i) : 0;
        assertEquals(value, inverse[i * n + j], 0f, "(" + i + ", " + j + ")");
      }
    }
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "2, 1", "2, 2", "17, 16", "40, 3", "130, 130", "400, 1", "400, 64", "400, 65", "400, 333" })
  void saysWhichMinorIsNotPositive(int n, int minor) {
    float[] a = positiveDefinite(n);
    int at = (minor - 1) * n + minor - 1;
    for (float wrong : new float[] { -1, 0, NAN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
      float[] broken = a.clone();
      broken[at] = wrong;
      // What comes later is not looked at.
      broken[n * n - 1] = minor < n ? NAN : broken[n * n - 1];
      assertEquals(minor, device().cholesky(put(broken, n, n), scope.matrix(n, n)), "" + wrong);
    }
    if (minor > 1) {
      float[] broken = a.clone();
      broken[minor - 1] = NAN;
      assertEquals(minor, device().cholesky(put(broken, n, n), scope.matrix(n, n)));
      // A correlation of more than 1 between the first and this row.
      float[] impossible = identity(n);
      impossible[minor - 1] = 1.0001f;
      assertEquals(minor, device().cholesky(put(impossible, n, n), scope.matrix(n, n)));
    }
    assertEquals(1, device().cholesky(scope.matrix(n, n), scope.matrix(n, n)));
  }

  @Test
  void factorsDiagonalMatrices() {
    int n = 50;
    float[] a = new float[n * n];
    float[] root = new float[n * n];
    float[] inverse = new float[n * n];
    for (int i = 0; i < n; i++) {
      root[i * n + i] = Math.scalb(1f, i - 25);
      a[i * n + i] = root[i * n + i] * root[i * n + i];
      inverse[i * n + i] = 1 / root[i * n + i];
    }
    Matrix lower = scope.matrix(n, n);
    assertEquals(0, device().cholesky(put(a, n, n), lower));
    assertArrayEquals(root, get(lower), 0f);
    Matrix solved = put(identity(n), n, n);
    device().triangularSolve(lower, true, solved);
    assertArrayEquals(inverse, get(solved), 0f);
    device().triangularInverse(lower);
    assertArrayEquals(inverse, get(lower), 0f);
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 3, 15, 16, 17, 31, 33, 64, 65, 130, 257, 600 })
  void invertsTriangles(int n) {
    float[] l = triangle(n);
    Matrix matrix = put(l, n, n);
    device().triangularInverse(matrix);
    float[] inverse = get(matrix);
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        if (j > i) {
          assertEquals(NAN, inverse[i * n + j]);
        } else {
          double sum = 0;
          double size = 0;
          for (int k = j; k <= i; k++) {
            sum += (double) l[i * n + k] * inverse[k * n + j];
            size += Math.abs((double) l[i * n + k] * inverse[k * n + j]);
          }
          assertEquals(i == j ? 1 : 0, sum, 1.1 * EPS * size, "(" + i + ", " + j + ")");
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "1, 9", "2, 1", "16, 1", "17, 5", "33, 64", "64, 33", "130, 257", "257, 2" })
  void solvesTriangles(int n, int m) {
    for (boolean transpose : new boolean[] { false, true }) {
      float[] l = triangle(n);
      float[] b = random(n, m);
      Matrix matrix = put(l, n, n);
      Matrix result = put(b, n, m);
      device().triangularSolve(matrix, transpose, result);
      float[] x = get(result);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < m; j++) {
          double sum = 0;
          double size = Math.abs(b[i * m + j]);
          for (int k = transpose ? i : 0; k <= (transpose ? n - 1 : i); k++) {
            double product = (double) (transpose ? l[k * n + i] : l[i * n + k]) * x[k * m + j];
            sum += product;
            size += Math.abs(product);
          }
          assertEquals(b[i * m + j], sum, (n + 4) * EPS * size, "(" + i + ", " + j + ")");
        }
      }
      assertArrayEquals(l, get(matrix));
    }
  }

  @Test
  void refusesFactorizationsThatDoNotFit() {
    Matrix square = put(identity(4), 4, 4);
    Matrix wide = scope.matrix(3, 4);
    refuses(() -> device().cholesky(wide, wide));
    refuses(() -> device().cholesky(square, scope.matrix(3, 3)));
    Matrix tall = scope.matrix(6, 4);
    refuses(() -> device().cholesky(tall.rows(0, 4), tall.rows(1, 4)));
    refuses(() -> device().triangularInverse(wide));
    refuses(() -> device().triangularSolve(wide, false, scope.matrix(3, 1)));
    refuses(() -> device().triangularSolve(square, false, scope.matrix(3, 4)));
    refuses(() -> device().triangularSolve(square, false, square));
    refuses(() -> device().triangularSolve(square, false, square.rows(0, 4)));
    float[] singular = identity(4);
    singular[10] = -0f;
    refuses(() -> device().triangularInverse(put(singular, 4, 4)));
    refuses(() -> device().triangularSolve(put(singular, 4, 4), true, scope.matrix(4, 1)));
    float[] values = new float[4];
    refuses(() -> device().symmetricEigen(wide, values, wide));
    refuses(() -> device().symmetricEigen(square, new float[3], scope.matrix(4, 4)));
    refuses(() -> device().symmetricEigen(square, values, scope.matrix(3, 4)));
    refuses(() -> device().symmetricEigen(tall.rows(0, 4), values, tall.rows(1, 4)));
    Matrix u = scope.matrix(6, 4);
    Matrix vt = scope.matrix(4, 4);
    device().svd(tall, u, values, vt);
    refuses(() -> device().svd(tall, scope.matrix(6, 6), values, vt));
    refuses(() -> device().svd(tall, u, new float[6], vt));
    refuses(() -> device().svd(tall, u, values, scope.matrix(3, 4)));
    refuses(() -> device().svd(tall, tall, values, vt));
    refuses(() -> device().svd(tall, u, values, tall.rows(0, 4)));
    refuses(() -> device().svd(tall, u, values, u.rows(2, 4)));
    assertArrayEquals(identity(4), get(square));
  }

  @Test
  void severalThreadsMayComputeAndCopyAtATime() {
    float[] a = positiveDefinite(120);
    float[] expected = factor(a);
    List<float[]> found = IntStream.range(0, 16)
      .parallel()
      .mapToObj(_ -> factor(a))
      .toList();
    for (float[] factor : found) {
      assertArrayEquals(expected, factor);
    }
  }

  private float[] factor(float[] a) {
    try (Scope own = device().scope()) {
      Matrix matrix = own.matrix(120, 120);
      device().upload(MemorySegment.ofArray(a), matrix);
      assertEquals(0, device().cholesky(matrix, matrix));
      return get(matrix);
    }
  }

  // --- Eigenvalues and singular values.

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 3, 15, 16, 17, 33, 64, 65, 130 })
  void findsEigenvectors(int n) {
    float[] a = random(n, n);
    float[] symmetric = new float[n * n];
    double norm = 0;
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        symmetric[i * n + j] = a[Math.min(i, j) * n + Math.max(i, j)];
        norm += Math.pow(symmetric[i * n + j], 2);
        a[i * n + j] = j < i ? NAN : a[i * n + j];
      }
    }
    norm = Math.sqrt(norm);
    Matrix vectors = scope.matrix(n, n);
    Matrix matrix = put(a, n, n);
    float[] values = new float[n];
    device().symmetricEigen(matrix, values, vectors);
    float[] v = get(vectors);
    assertAscending(values);
    assertOrthonormalRows(v, n, n);
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int k = 0; k < n; k++) {
          sum += (double) symmetric[j * n + k] * v[i * n + k];
        }
        assertEquals((double) values[i] * v[i * n + j], sum, 4 * EPS * norm, "(" + i + ", " + j + ")");
      }
    }
    assertArrayEquals(a, get(matrix));
    float[] again = new float[n];
    device().symmetricEigen(matrix, again, matrix);
    assertArrayEquals(values, again);
    assertArrayEquals(v, get(matrix));
  }

  @Test
  void findsEigenvaluesOfDiagonalMatrices() {
    int n = 20;
    float[] a = new float[n * n];
    for (int i = 0; i < n; i++) {
      a[i * n + i] = ((i * 7) % n) - 5;
    }
    float[] values = new float[n];
    Matrix vectors = scope.matrix(n, n);
    device().symmetricEigen(put(a, n, n), values, vectors);
    float[] v = get(vectors);
    for (int i = 0; i < n; i++) {
      assertEquals(i - 5, values[i], 1e-5f);
      for (int j = 0; j < n; j++) {
        assertEquals((j * 7) % n == i ? 1 : 0, Math.abs(v[i * n + j]), 1e-6f);
      }
    }
    device().symmetricEigen(scope.matrix(n, n), values, vectors);
    assertArrayEquals(new float[n], values);
    assertOrthonormalRows(get(vectors), n, n);
  }

  @ParameterizedTest
  @CsvSource(
    { "1, 1", "1, 30", "30, 1", "2, 3", "3, 2", "16, 16", "15, 17", "17, 15", "64, 20", "20, 64", "130, 65", "40, 300" }
  )
  void findsSingularVectors(int m, int n) {
    int k = Math.min(m, n);
    // Full rank, rank 1 and rank 0.
    float[] full = random(m, n);
    float[] one = new float[m * n];
    for (int i = 0; i < m * n; i++) {
      one[i] = (((float) (1 + i / n) / 4) * (float) (1 + (i % n))) / 8;
    }
    for (float[] a : List.of(full, one, new float[m * n])) {
      Matrix matrix = put(a, m, n);
      Matrix left = put(filled(m * k, NAN), m, k);
      Matrix right = put(filled(k * n, NAN), k, n);
      float[] values = new float[k];
      device().svd(matrix, left, values, right);
      assertArrayEquals(a, get(matrix));
      float[] u = get(left);
      float[] vt = get(right);
      float[] ascending = new float[k];
      for (int i = 0; i < k; i++) {
        ascending[k - 1 - i] = values[i];
      }
      assertAscending(ascending);
      assertTrue(values[k - 1] >= 0);
      assertOrthonormalRows(transpose(u, m, k), k, m);
      assertOrthonormalRows(vt, k, n);
      for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
          double sum = 0;
          for (int l = 0; l < k; l++) {
            sum += (double) u[i * k + l] * values[l] * vt[l * n + j];
          }
          assertEquals(a[i * n + j], sum, 4 * EPS * values[0], "(" + i + ", " + j + ")");
        }
      }
    }
  }

  @Test
  void refusesSpectraOfWhatIsNotFinite() {
    int n = 40;
    for (float wrong : new float[] { NAN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
      for (int at : new int[] { 0, 39, 17 * n + 30, n * n - 1 }) {
        float[] a = positiveDefinite(n);
        a[at] = wrong;
        Matrix matrix = put(a, n, n);
        float[] values = new float[n];
        refuses(() -> device().symmetricEigen(matrix, values, matrix));
        refuses(() -> device().svd(matrix, scope.matrix(n, n), values, scope.matrix(n, n)));
        assertArrayEquals(a, get(matrix));
        assertArrayEquals(new float[n], values);
      }
    }
  }

  // --- Quantization.

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 31, 63, 64, 65, 128, 130, 300 })
  void mirrorsTheUpperTriangle(int n) {
    float[] a = random(n, n);
    float[] expected = a.clone();
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < i; j++) {
        a[i * n + j] = NAN;
        expected[i * n + j] = expected[j * n + i];
      }
    }
    Matrix matrix = put(a, n, n);
    device().mirror(matrix);
    assertArrayEquals(expected, get(matrix));
    refuses(() -> device().mirror(scope.matrix(n, n + 1)));
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 16, 17, 64, 130, 257, 300 })
  void factorsForFeedback(int n) {
    float[] gram = QuantizationProblem.correlated(n, random);
    float ridge = 0.03f;
    int[] order = shuffled(n);
    Matrix factor = put(filled(n * n, NAN), n, n);
    assertEquals(0, device().feedbackFactor(put(gram, n, n), ridge, order, factor));
    float[] m = get(factor);
    for (int i = 0; i < n; i++) {
      assertTrue(m[i * n + i] > 0);
      for (int j = 0; j <= i; j++) {
        double expected = gram[order[n - 1 - i] * n + order[n - 1 - j]] + (i == j ? ridge : 0);
        double sum = 0;
        double size = 0;
        for (int k = 0; k <= j; k++) {
          double product = (i == k ? 1 : m[i * n + k]) * (double) m[k * n + k] * (j == k ? 1 : m[j * n + k]);
          sum += product;
          size += Math.abs(product);
        }
        // Higham, Accuracy and Stability of Numerical Algorithms, theorem 10.3, and some more for the diagonal.
        assertEquals(expected, sum, (j + 5) * EPS * size, "(" + i + ", " + j + ")");
      }
    }
  }

  @ParameterizedTest
  @CsvSource({ "1, 1", "16, 1", "16, 9", "16, 16", "130, 64", "130, 65", "300, 129", "300, 300" })
  void tellsWhichMinorForbidsFeedback(int n, int minor) {
    float[] gram = positiveDefinite(n);
    int[] order = shuffled(n);
    Matrix factor = scope.matrix(n, n);
    int column = order[n - minor];
    float diagonal = gram[column * n + column];
    for (float wrong : new float[] { -1, NAN, Float.POSITIVE_INFINITY }) {
      gram[column * n + column] = wrong;
      assertEquals(minor, device().feedbackFactor(put(gram, n, n), 0.5f, order, factor), "with " + wrong);
    }
    // A ridge helps.
    gram[column * n + column] = -diagonal;
    assertEquals(minor, device().feedbackFactor(put(gram, n, n), 0, order, factor));
    assertEquals(0, device().feedbackFactor(put(gram, n, n), 1000, order, factor));
  }

  @Test
  void refusesOrdersThatAreNoPermutations() {
    QuantizationProblem problem = new QuantizationProblem(Kind.PLAIN, 32, 3, 1);
    Matrix gram = put(problem.gram, 32, 32);
    Matrix factor = scope.matrix(32, 32);
    int[] order = problem.order();
    assertEquals(0, device().feedbackFactor(gram, 1, order, factor));
    Matrix weights = put(problem.weights, 32, 3);
    QuantizationGrid grid = put(problem.grid);
    Matrix levels = scope.matrix(32, 3);
    int[] twice = order.clone();
    twice[31] = twice[0];
    int[] negative = order.clone();
    negative[7] = -1;
    int[] beyond = order.clone();
    beyond[7] = 32;
    for (int[] wrong : List.of(twice, negative, beyond, Arrays.copyOf(order, 31), new int[0])) {
      refuses(() -> device().feedbackFactor(gram, 1, wrong, factor));
      refuses(() -> device().columnWalk(weights, factor, 1, wrong, grid, 0, levels, new double[3]));
    }
    refuses(() -> device().feedbackFactor(gram, 1, order, gram));
    refuses(() -> device().feedbackFactor(gram, 1, order, scope.matrix(32, 33)));
  }

  /** Sizes around the blocks in which devices work. */
  @ParameterizedTest
  @CsvSource({ "16, 1", "16, 130", "32, 65", "48, 64", "256, 63", "288, 65", "512, 64", "544, 1", "544, 130" })
  void walksToTheNearestLevels(int n, int rows) {
    int[] order = shuffled(n);
    QuantizationProblem first = new QuantizationProblem(Kind.PLAIN, n, rows, n + rows);
    double[][] inverse = first.inverseFactor(order, first.ridge());
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, n, rows, n + rows);
      assertArrayEquals(first.gram, problem.gram);
      Walk walk = walk(problem, order, 0);
      assertNearestLevels(problem, walk, order);
      assertFollowsTheTextbook(problem, walk, order, inverse);
      if (rows > 1) {
        double rounded = sum(problem.errors(problem.grid, problem.rounded(), problem.ridge()));
        assertTrue(sum(problem.errors(problem.grid, walk.levels, problem.ridge())) < rounded, kind + "");
      }
    }
  }

  /** What a walk has chosen. */
  private record Walk(float[] factor, QuantizationProblem.Grid grid, float[] levels) {}

  private Walk walk(QuantizationProblem problem, int[] order, int reach) {
    int n = problem.n;
    Matrix factor = scope.matrix(n, n);
    assertEquals(0, device().feedbackFactor(put(problem.gram, n, n), problem.ridge(), order, factor));
    Matrix weights = put(problem.weights, n, problem.rows);
    QuantizationGrid grid = put(problem.grid);
    Matrix levels = put(filled(n * problem.rows, NAN), n, problem.rows);
    double[] errors = filled(problem.rows);
    device().columnWalk(weights, factor, problem.ridge(), order, grid, reach, levels, errors);
    assertArrayEquals(problem.weights, get(weights));
    Walk walk = new Walk(get(factor), get(problem.grid, grid), get(levels));
    if (reach == 0) {
      assertSameScales(problem.grid, walk.grid);
    }
    assertErrors(problem, walk.grid, walk.levels, errors);
    return walk;
  }

  /** Whether each level is the nearest to what its column was to become, given the levels before. */
  private static void assertNearestLevels(QuantizationProblem problem, Walk walk, int[] order) {
    int n = problem.n;
    for (int row = 0; row < problem.rows; row++) {
      double[] left = problem.left(walk.grid, walk.levels, row);
      for (int i = n - 1; i >= 0; i--) {
        int column = order[n - 1 - i];
        double target = problem.weights[column * problem.rows + row];
        double size = Math.abs(target);
        for (int k = i + 1; k < n; k++) {
          double fed = walk.factor[k * n + i] * left[order[n - 1 - k]];
          target += fed;
          size += Math.abs(fed);
        }
        float level = walk.levels[column * problem.rows + row];
        String place = "column " + column + ", row " + row;
        assertTrue(problem.kind.isLevel(level), place);
        float nearest = walk.grid.nearestLevel(column, row, target);
        double distance = Math.abs(target - walk.grid.value(column, row, level));
        double least = Math.abs(target - walk.grid.value(column, row, nearest));
        assertTrue(level == 0 || !walk.grid.isPruned(column, row), place + ": pruned, but level " + level);
        assertTrue(distance <= least + 40 * EPS * size, place);
        if (walk.grid.step(column, row) == 0) {
          assertEquals(nearest, level, place);
        }
      }
    }
  }

  /** GPTQ as published, with the inverse of the Gram matrix, chooses the same levels where it has come the same way. */
  private static void assertFollowsTheTextbook(
    QuantizationProblem problem,
    Walk walk,
    int[] order,
    double[][] inverse
  ) {
    int n = problem.n;
    int same = 0;
    for (int row = 0; row < problem.rows; row++) {
      double[] target = new double[n];
      for (int i = 0; i < n; i++) {
        target[i] = problem.weights[order[i] * problem.rows + row];
      }
      for (int i = 0; i < n; i++) {
        float level = walk.levels[order[i] * problem.rows + row];
        same += walk.grid.nearestLevel(order[i], row, target[i]) == level ? 1 : 0;
        double error = (target[i] - walk.grid.value(order[i], row, level)) / inverse[i][i];
        for (int j = i + 1; j < n; j++) {
          target[j] -= error * inverse[i][j];
        }
      }
    }
    assertTrue(same >= 0.999 * n * problem.rows, same + " of " + n * problem.rows + " levels");
  }

  @ParameterizedTest
  @CsvSource({ "16, 65, 1", "32, 1, 2", "48, 64, 1", "256, 63, 3", "288, 65, 1", "544, 9, 2" })
  void choosesScalesOnTheWay(int n, int rows, int reach) {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, n, rows, n + rows);
      int[] order = problem.order();
      Walk walk = walk(problem, order, reach);
      assertNearestLevels(problem, walk, order);
      assertBestScales(problem, walk, order, reach);
      assertArrayEquals(problem.grid.dmin(), walk.grid.dmin());
      if (kind.hasScales()) {
        int minimumReach = Math.round((2 * reach) / 3f);
        assertArrayEquals(problem.grid.d(), walk.grid.d());
        assertWholeWithin(kind.leastScale, kind.mostScale, problem.grid.scale(), reach, walk.grid.scale());
        assertWholeWithin(0, kind.mostMinimum, problem.grid.minimum(), minimumReach, walk.grid.minimum());
      } else {
        assertArrayEquals(problem.grid.scale(), walk.grid.scale());
        assertArrayEquals(problem.grid.minimum(), walk.grid.minimum());
        assertHalves(walk.grid.d());
      }
      if (rows > 1) {
        double rigid = sum(problem.errors(problem.grid, walk(problem, order, 0).levels, problem.ridge()));
        double found = sum(problem.errors(walk.grid, walk.levels, problem.ridge()));
        assertTrue(found < rigid, kind + ": " + found + ", with the scales as they were " + rigid);
      }
    }
  }

  /** What the scale of a group may become: a scale and a minimum, or a d where there are no scales. */
  private record Candidate(float d, float scale, float minimum) {}

  private static List<Candidate> candidates(QuantizationProblem problem, int column, int row, int reach) {
    QuantizationProblem.Grid grid = problem.grid;
    Kind kind = problem.kind;
    float d = grid.d()[(column / grid.blockLength()) * problem.rows + row];
    float scale = grid.scale()[(column / grid.groupLength()) * problem.rows + row];
    float minimum = grid.minimum()[(column / grid.groupLength()) * problem.rows + row];
    List<Candidate> all = new ArrayList<>();
    if (kind.hasScales()) {
      int minimums = kind.mostMinimum > 0 ? (2 * reach + 1) / 3 : 0;
      for (int i = -reach; i <= reach; i++) {
        for (int j = -minimums; j <= minimums; j++) {
          float newScale = Math.clamp(scale + i, kind.leastScale, kind.mostScale);
          all.add(new Candidate(d, newScale, Math.clamp(minimum + j, 0, kind.mostMinimum)));
        }
      }
    } else {
      for (int i = -4 * reach; i <= 2 * reach; i++) {
        all.add(new Candidate(QuantizationProblem.half(d * (1 + i * 0.03f)), scale, minimum));
      }
    }
    return all;
  }

  /**
   * Whether the scales of each group are those, of all that the walk may choose, with which the group adds least to the error. Now and
   * then single precision rounds a weight to another level, and one cost in a hundred may be a little off.
   */
  private static void assertBestScales(QuantizationProblem problem, Walk walk, int[] order, int reach) {
    int n = problem.n;
    int length = problem.grid.groupLength();
    int best = 0;
    int all = 0;
    for (int row = 0; row < problem.rows; row++) {
      double[] left = problem.left(walk.grid, walk.levels, row);
      for (int first = n - 1; first >= 0; first -= length) {
        int column = order[n - 1 - first];
        Candidate chosen = new Candidate(
          walk.grid.d()[(column / walk.grid.blockLength()) * problem.rows + row],
          walk.grid.scale()[(column / length) * problem.rows + row],
          walk.grid.minimum()[(column / length) * problem.rows + row]
        );
        double[] after = new double[length];
        for (int i = 0; i < length; i++) {
          for (int k = first + 1; k < n; k++) {
            after[i] += walk.factor[k * n + first - i] * left[order[n - 1 - k]];
          }
        }
        double least = Double.POSITIVE_INFINITY;
        for (Candidate candidate : candidates(problem, column, row, reach)) {
          least = Math.min(least, cost(problem, walk, order, row, first, after, candidate));
        }
        best += cost(problem, walk, order, row, first, after, chosen) <= least * 1.001 + 1e-12 ? 1 : 0;
        all++;
      }
    }
    assertTrue(best >= 0.99 * all, problem.kind + ": the scales of " + best + " of " + all + " groups are the best");
  }

  /**
   * What a group adds to the error, its columns rounded one after the other from position {@code first} down.
   *
   * @param after what the errors of the columns before the group add to each of them
   */
  private static double cost(
    QuantizationProblem problem,
    Walk walk,
    int[] order,
    int row,
    int first,
    double[] after,
    Candidate candidate
  ) {
    int n = problem.n;
    QuantizationProblem.Grid grid = problem.grid;
    float step = candidate.d * candidate.scale;
    double cost = 0;
    double[] errors = new double[grid.groupLength()];
    for (int i = first; i > first - errors.length; i--) {
      int column = order[n - 1 - i];
      float dmin = grid.dmin()[(column / grid.blockLength()) * problem.rows + row];
      float offset = -(dmin * candidate.minimum);
      double weight = problem.weights[column * problem.rows + row];
      double target = weight + after[first - i];
      for (int k = i + 1; k <= first; k++) {
        target += walk.factor[k * n + i] * errors[first - k];
      }
      boolean pruned = grid.isPruned(column, row);
      float level = pruned ? 0 : problem.kind.nearestLevel(step == 0 ? 0 : (target - offset) / step);
      double value = step * level + offset;
      errors[first - i] = weight - value;
      cost += walk.factor[i * n + i] * (target - value) * (target - value);
    }
    return cost;
  }

  private static void assertSameScales(QuantizationProblem.Grid expected, QuantizationProblem.Grid found) {
    assertArrayEquals(expected.d(), found.d());
    assertArrayEquals(expected.dmin(), found.dmin());
    assertArrayEquals(expected.scale(), found.scale());
    assertArrayEquals(expected.minimum(), found.minimum());
  }

  private static void assertWholeWithin(int least, int most, float[] before, int reach, float[] values) {
    for (int i = 0; i < values.length; i++) {
      assertEquals(Math.rint(values[i]), values[i]);
      assertTrue(values[i] >= least && values[i] <= most, "" + values[i]);
      assertTrue(Math.abs(values[i] - before[i]) <= reach, before[i] + " became " + values[i]);
    }
  }

  private static void assertHalves(float[] values) {
    for (float value : values) {
      assertTrue(Float.isFinite(value));
      assertEquals(QuantizationProblem.half(value), value);
    }
  }

  @Test
  void refusesToChooseScalesOfBrokenGroups() {
    QuantizationProblem problem = new QuantizationProblem(Kind.LONG_SCALES_AND_MINIMUMS, 64, 3, 1);
    int[] order = problem.order();
    Matrix factor = scope.matrix(64, 64);
    assertEquals(0, device().feedbackFactor(put(problem.gram, 64, 64), 1, order, factor));
    Matrix weights = put(problem.weights, 64, 3);
    QuantizationGrid grid = put(problem.grid);
    Matrix levels = scope.matrix(64, 3);
    double[] errors = new double[3];
    device().columnWalk(weights, factor, 1, order, grid, 1, levels, errors);
    int[] broken = order.clone();
    broken[31] = order[32];
    broken[32] = order[31];
    refuses(() -> device().columnWalk(weights, factor, 1, broken, grid, 1, levels, errors));
    refuses(() -> device().columnWalk(weights, factor, 1, order, grid, -1, levels, errors));
    device().columnWalk(weights, factor, 1, broken, grid, 0, levels, errors);
  }

  @ParameterizedTest
  @CsvSource({ "16, 1", "32, 130", "48, 64", "64, 31", "96, 33", "256, 9", "288, 8", "544, 5" })
  void refinesWithoutRaisingTheError(int n, int rows) {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, n, rows, n + rows);
      float ridge = problem.ridge();
      for (boolean scales : new boolean[] { false, true }) {
        Matrix gram = put(problem.gram, n, n);
        Matrix weights = put(problem.weights, n, rows);
        QuantizationGrid grid = put(problem.grid);
        Matrix levels = put(problem.rounded(), n, rows);
        double[] first = problem.errors(problem.grid, problem.rounded(), ridge);
        double[] before = first;
        double[] told = problem.errors(problem.grid, problem.rounded(), 0);
        for (int passes : new int[] { 0, 1, 1, 2 }) {
          device().refine(weights, gram, ridge, grid, levels, passes, scales, told);
          QuantizationProblem.Grid found = get(problem.grid, grid);
          float[] chosen = get(levels);
          assertErrors(problem, found, chosen, told);
          double[] after = problem.errors(found, chosen, ridge);
          for (int row = 0; row < rows; row++) {
            String place = kind + ", row " + row + ", scales " + scales;
            assertTrue(after[row] <= before[row] * (1 + 1e-5), place + ": " + before[row] + " became " + after[row]);
          }
          for (int i = 0; i < chosen.length; i++) {
            assertTrue(kind.isLevel(chosen[i]), "level " + chosen[i]);
            assertTrue(chosen[i] == 0 || !problem.grid.isPruned(i / rows, i % rows), "pruned, but level " + chosen[i]);
          }
          if (scales) {
            assertHalves(found.d());
            assertHalves(found.dmin());
            assertWholeWithin(kind.leastScale, kind.mostScale, problem.grid.scale(), 256, found.scale());
            assertWholeWithin(kind.leastMinimum(), kind.mostMinimum, problem.grid.minimum(), 256, found.minimum());
          } else {
            assertSameScales(problem.grid, found);
          }
          before = after;
        }
        assertTrue(sum(before) < sum(first), kind + ", scales " + scales);
        assertArrayEquals(problem.weights, get(weights));
        assertArrayEquals(problem.gram, get(gram));
      }
    }
  }

  @Test
  void fittedScalesLowerTheErrorFurther() {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, 256, 8, 9);
      double[] errors = new double[2];
      for (int scales = 0; scales <= 1; scales++) {
        QuantizationGrid grid = put(problem.grid);
        Matrix levels = put(problem.rounded(), 256, 8);
        Matrix weights = put(problem.weights, 256, 8);
        device().refine(
          weights,
          put(problem.gram, 256, 256),
          problem.ridge(),
          grid,
          levels,
          4,
          scales == 1,
          new double[8]
        );
        errors[scales] = sum(problem.errors(get(problem.grid, grid), get(levels), problem.ridge()));
      }
      assertTrue(errors[1] < errors[0], kind + ": " + Arrays.toString(errors));
    }
  }

  /** After enough passes no other level of any one weight is better. */
  @Test
  void refinesUntilNoSingleLevelIsBetter() {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, 32, 5, 4);
      float ridge = problem.ridge();
      Matrix levels = put(problem.rounded(), 32, 5);
      Matrix weights = put(problem.weights, 32, 5);
      device().refine(weights, put(problem.gram, 32, 32), ridge, put(problem.grid), levels, 50, false, new double[5]);
      float[] chosen = get(levels);
      double[] least = problem.errors(problem.grid, chosen, ridge);
      for (int i = 0; i < 32; i++) {
        for (float level : kind.levels) {
          float[] other = chosen.clone();
          Arrays.fill(other, i * 5, i * 5 + 5, level);
          double[] errors = problem.errors(problem.grid, other, ridge);
          for (int row = 0; row < 5; row++) {
            boolean better = errors[row] < least[row] * (1 - 1e-5);
            assertTrue(!better || problem.grid.isPruned(i, row), kind + ", column " + i + ", row " + row);
          }
        }
      }
    }
  }

  /** Dead inputs without damping: nothing depends on the weights that meet them. */
  @Test
  void refinesBesideColumnsOfZeros() {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, 64, 7, 6);
      for (int dead : new int[] { 0, 17, 63 }) {
        for (int i = 0; i < 64; i++) {
          problem.gram[dead * 64 + i] = 0;
          problem.gram[i * 64 + dead] = 0;
        }
      }
      QuantizationGrid grid = put(problem.grid);
      Matrix levels = put(problem.rounded(), 64, 7);
      double before = sum(problem.errors(problem.grid, problem.rounded(), 0));
      device().refine(put(problem.weights, 64, 7), put(problem.gram, 64, 64), 0, grid, levels, 3, true, new double[7]);
      QuantizationProblem.Grid found = get(problem.grid, grid);
      assertHalves(found.d());
      for (float level : get(levels)) {
        assertTrue(kind.isLevel(level), "level " + level);
      }
      assertTrue(sum(problem.errors(found, get(levels), 0)) < before);
    }
  }

  @ParameterizedTest
  @CsvSource({ "16, 1", "48, 65", "288, 64", "544, 33" })
  void measuresErrorsThroughTheGramMatrix(int n, int rows) {
    for (Kind kind : Kind.values()) {
      QuantizationProblem problem = new QuantizationProblem(kind, n, rows, n + rows);
      double[] errors = filled(rows);
      Matrix levels = put(problem.rounded(), n, rows);
      Matrix weights = put(problem.weights, n, rows);
      device().gramErrors(weights, put(problem.gram, n, n), put(problem.grid), levels, errors);
      assertErrors(problem, problem.grid, problem.rounded(), errors);
    }
  }

  private static void assertErrors(
    QuantizationProblem problem,
    QuantizationProblem.Grid grid,
    float[] levels,
    double[] errors
  ) {
    double[] expected = problem.errors(grid, levels, 0);
    double[] sizes = problem.sizes(grid, levels);
    for (int row = 0; row < problem.rows; row++) {
      assertEquals(expected[row], errors[row], 40 * EPS * sizes[row], problem.kind + ", row " + row);
    }
  }

  private static double[] filled(int count) {
    double[] values = new double[count];
    Arrays.fill(values, Double.NaN);
    return values;
  }

  @Test
  void refusesQuantizationThatDoesNotFit() {
    QuantizationProblem problem = new QuantizationProblem(Kind.SIGNED_SCALES, 32, 4, 1);
    Matrix square = put(problem.gram, 32, 32);
    Matrix other = scope.matrix(32, 33);
    Matrix small = scope.matrix(16, 16);
    Matrix weights = put(problem.weights, 32, 4);
    Matrix wide = scope.matrix(32, 5);
    Matrix shorter = scope.matrix(16, 4);
    Matrix levels = put(problem.rounded(), 32, 4);
    QuantizationGrid grid = put(problem.grid);
    int[] order = problem.order();
    double[] errors = new double[4];
    device().gramErrors(weights, square, grid, levels, errors);
    for (Matrix wrong : List.of(other, small)) {
      refuses(() -> device().columnWalk(weights, wrong, 1, order, grid, 0, levels, errors));
      refuses(() -> device().refine(weights, wrong, 1, grid, levels, 1, true, errors));
      refuses(() -> device().gramErrors(weights, wrong, grid, levels, errors));
    }
    for (Matrix wrong : List.of(wide, shorter)) {
      refuses(() -> device().columnWalk(wrong, square, 1, order, grid, 0, levels, errors));
      refuses(() -> device().columnWalk(weights, square, 1, order, grid, 0, wrong, errors));
      refuses(() -> device().refine(wrong, square, 1, grid, levels, 1, true, errors));
      refuses(() -> device().refine(weights, square, 1, grid, wrong, 1, true, errors));
      refuses(() -> device().gramErrors(wrong, square, grid, levels, errors));
      refuses(() -> device().gramErrors(weights, square, grid, wrong, errors));
    }
    refuses(() -> device().columnWalk(weights, square, 1, order, grid, 0, weights, errors));
    refuses(() -> device().refine(weights, square, 1, grid, weights, 1, true, errors));
    refuses(() -> device().columnWalk(weights, square, 1, order, grid, 0, levels, new double[5]));
    refuses(() -> device().refine(weights, square, 1, grid, levels, 1, true, new double[5]));
    refuses(() -> device().gramErrors(weights, square, grid, levels, new double[5]));
    assertArrayEquals(problem.weights, get(weights));
    assertArrayEquals(problem.rounded(), get(levels));
    assertSameScales(problem.grid, get(problem.grid, grid));
  }

  @Test
  void refusesImpossibleGrids() {
    Matrix ofBlocks = scope.matrix(2, 3);
    Matrix ofGroups = scope.matrix(4, 3);
    float[] levels = { -1, 0, 1 };
    assertEquals(64, grid(levels, 16, 32, 5, ofBlocks, ofGroups).columns());
    assertEquals(3, grid(levels, 16, 32, 5, ofBlocks, ofGroups).rows());
    refuses(() -> grid(new float[] { 1 }, 16, 32, 5, ofBlocks, ofGroups));
    refuses(() -> grid(new float[] { 1, 1 }, 16, 32, 5, ofBlocks, ofGroups));
    refuses(() -> grid(new float[] { 1, NAN }, 16, 32, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 0, 32, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 16, 0, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 16, 40, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 16, 48, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 256, 512, 5, ofBlocks, ofGroups));
    refuses(() -> grid(levels, 16, 32, 5, ofBlocks, ofBlocks));
    refuses(() -> grid(levels, 16, 32, 5, ofBlocks, scope.matrix(4, 2)));
    // Fixed scales, but groups within a block.
    refuses(() -> grid(levels, 16, 32, 1, ofBlocks, ofGroups));
    QuantizationGrid withoutZero = grid(new float[] { -1, 1 }, 16, 32, 5, ofBlocks, ofGroups);
    refuses(() -> withoutZero.withPruned(scope.matrix(32 * ofBlocks.rows(), ofBlocks.columns())));
    QuantizationGrid good = grid(new float[] { -1, 0 }, 16, 32, 5, ofBlocks, ofGroups);
    refuses(() -> good.withPruned(scope.matrix(16 * ofBlocks.rows(), ofBlocks.columns())));
  }

  private static QuantizationGrid grid(
    float[] levels,
    int groupLength,
    int blockLength,
    int mostScale,
    Matrix ofBlocks,
    Matrix ofGroups
  ) {
    return new QuantizationGrid(
      levels,
      groupLength,
      blockLength,
      1,
      mostScale,
      0,
      0,
      ofBlocks,
      ofBlocks,
      ofGroups,
      ofGroups
    );
  }

  protected final QuantizationGrid put(QuantizationProblem.Grid grid) {
    Kind kind = grid.kind();
    int rows = grid.rows();
    return new QuantizationGrid(
      kind.levels,
      grid.groupLength(),
      grid.blockLength(),
      kind.leastScale,
      kind.mostScale,
      kind.leastMinimum(),
      kind.mostMinimum,
      put(grid.d(), grid.d().length / rows, rows),
      put(grid.dmin(), grid.dmin().length / rows, rows),
      put(grid.scale(), grid.scale().length / rows, rows),
      put(grid.minimum(), grid.minimum().length / rows, rows),
      grid.pruned() == null ? null : put(grid.pruned(), grid.pruned().length / rows, rows)
    );
  }

  /** What a device has made of a grid. */
  protected final QuantizationProblem.Grid get(QuantizationProblem.Grid form, QuantizationGrid grid) {
    return new QuantizationProblem.Grid(
      form.kind(),
      form.groupLength(),
      form.blockLength(),
      form.rows(),
      get(grid.d()),
      get(grid.dmin()),
      get(grid.scale()),
      get(grid.minimum()),
      form.pruned()
    );
  }

  private int[] shuffled(int n) {
    List<Integer> order = IntStream.range(0, n).boxed().collect(Collectors.toList());
    Collections.shuffle(order, random);
    return order.stream().mapToInt(Integer::intValue).toArray();
  }

  private static double sum(double[] values) {
    return Arrays.stream(values).sum();
  }

  // --- Helpers.

  private static void refuses(Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertEquals(1, message.lines().count(), message);
  }

  private static void assertAscending(float[] values) {
    for (int i = 1; i < values.length; i++) {
      assertTrue(values[i - 1] <= values[i], () -> Arrays.toString(values));
    }
  }

  private static void assertOrthonormalRows(float[] v, int rows, int columns) {
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j <= i; j++) {
        double sum = 0;
        for (int k = 0; k < columns; k++) {
          sum += (double) v[i * columns + k] * v[j * columns + k];
        }
        assertEquals(i == j ? 1 : 0, sum, 4 * EPS, "rows " + i + " and " + j);
      }
    }
  }

  protected final Matrix put(float[] values, int rows, int columns) {
    Matrix matrix = scope.matrix(rows, columns);
    device().upload(MemorySegment.ofArray(values), matrix);
    return matrix;
  }

  protected final float[] get(Matrix matrix) {
    float[] values = new float[matrix.rows() * matrix.columns()];
    device().download(matrix, MemorySegment.ofArray(values));
    return values;
  }

  protected final float[] random(int rows, int columns) {
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** A random symmetric matrix with eigenvalues of about 0.1 and above, on a scale that differs from column to column. */
  protected final float[] positiveDefinite(int n) {
    float[] x = random(n, n);
    float[] a = new float[n * n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        double sum = i == j ? 0.1 : 0;
        for (int k = 0; k < n; k++) {
          sum += ((double) x[i * n + k] * x[j * n + k]) / n;
        }
        a[i * n + j] = (float) (sum * (1 + (i % 5)) * (1 + (j % 5)));
        a[j * n + i] = a[i * n + j];
      }
    }
    return a;
  }

  /** A random lower triangle with a small inverse, NaN above its diagonal. */
  private float[] triangle(int n) {
    float[] l = random(n, n);
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        l[i * n + j] *= 0.5f / (float) Math.sqrt(n);
      }
      l[i * n + i] += i % 3 == 0 ? -2 : 2;
      Arrays.fill(l, i * n + i + 1, i * n + n, NAN);
    }
    return l;
  }

  private static float[] transpose(float[] a, int rows, int columns) {
    float[] b = new float[a.length];
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        b[j * rows + i] = a[i * columns + j];
      }
    }
    return b;
  }

  protected static float[] identity(int n) {
    float[] a = new float[n * n];
    for (int i = 0; i < n; i++) {
      a[i * n + i] = 1;
    }
    return a;
  }

  private static float[] filled(int count, float value) {
    float[] a = new float[count];
    Arrays.fill(a, value);
    return a;
  }
}
