package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * The stand-ins for cuBLAS and cuSOLVER against plain loops, and their checks. Matrices are column-major. Between their columns is
 * memory that nothing wrote, so reading there is an error.
 */
@ResourceLock(CudaUnderTest.LOCK)
class EmulatedAlgebraTest extends EmulatedCudaCalls {

  private static final int CUBLAS_INVALID_VALUE = 7;
  private static final int CUSOLVER_INVALID_VALUE = 3;
  private static final int LOWER = 0;
  private static final int UPPER = 1;

  private final NativeCalls cublas = NativeCalls.of(EmulatedCuda.libraries().resolve("libcublas.so.12"));
  private final NativeCalls cusolver = NativeCalls.of(EmulatedCuda.libraries().resolve("libcusolver.so.11"));
  private final Random random = new Random(11);
  private MemorySegment blas;
  private MemorySegment solver;

  @BeforeEach
  void handles() {
    blas = arena.allocate(ValueLayout.ADDRESS);
    assertEquals(0, cublas.call("cublasCreate_v2", blas));
    blas = blas.get(ValueLayout.ADDRESS, 0);
    solver = arena.allocate(ValueLayout.ADDRESS);
    assertEquals(0, cusolver.call("cusolverDnCreate", solver));
    solver = solver.get(ValueLayout.ADDRESS, 0);
  }

  // ---- cuBLAS.

  @ParameterizedTest
  @ValueSource(strings = { "S", "D" })
  void gemm(String type) {
    int m = 37;
    int n = 53;
    int k = 301;
    for (int trans = 0; trans < 4; trans++) {
      int transA = trans & 1;
      int transB = trans >> 1;
      double[][] a = normal(transA == 0 ? m : k, transA == 0 ? k : m);
      double[][] b = normal(transB == 0 ? k : n, transB == 0 ? n : k);
      double[][] c = normal(m, n);
      double[][] plain = times(transA == 0 ? a : transpose(a), transB == 0 ? b : transpose(b));
      Stored sa = store(type, a, 3);
      Stored sb = store(type, b, 0);
      Stored sc = store(type, c, 5);
      gemm(type, transA, transB, m, n, k, 0.5, sa, sb, -2, sc);
      assertClose(type, add(0.5, plain, -2, c), sc.load(m, n));
      // With beta 0, C is not read.
      Stored fresh = new Stored(type, allocate(sc.bytes(m, n)), m + 5);
      gemm(type, transA, transB, m, n, k, 2, sa, sb, 0, fresh);
      assertClose(type, add(2, plain, 0, c), fresh.load(m, n));
    }
  }

  private void gemm(
    String type,
    int ta,
    int tb,
    int m,
    int n,
    int k,
    double alpha,
    Stored a,
    Stored b,
    double beta,
    Stored c
  ) {
    int status = gemmStatus(type, ta, tb, m, n, k, alpha, a, b, beta, c);
    assertEquals(0, status, this::error);
    ok("cuCtxSynchronize");
  }

  private int gemmStatus(
    String type,
    int ta,
    int tb,
    int m,
    int n,
    int k,
    double alpha,
    Stored a,
    Stored b,
    double beta,
    Stored c
  ) {
    MemorySegment x = scalar(type, alpha);
    MemorySegment y = scalar(type, beta);
    String name = "cublas" + type + "gemm_v2";
    return cublas.call(name, blas, ta, tb, m, n, k, x, a.at, a.ld, b.at, b.ld, y, c.at, c.ld);
  }

  @Test
  void gemmChecksItsOperands() {
    double[][] square = normal(8, 8);
    Stored a = store("S", square, 0);
    Stored b = store("S", square, 0);
    Stored c = store("S", square, 0);
    assertEquals(CUBLAS_INVALID_VALUE, gemmStatus("S", 0, 0, 8, 8, 8, 1, new Stored("S", a.at, 7), b, 0, c));
    expectError("lda 7, expected at least the 8 rows");
    assertEquals(CUBLAS_INVALID_VALUE, gemmStatus("S", 0, 0, 8, 8, 8, 1, a, b, 0, a), "C overlaps A");
    // Rows 0 to 3 and 4 to 7 of one matrix are apart.
    gemm("S", 0, 0, 4, 4, 4, 1, new Stored("S", a.at, 8), b, 0, new Stored("S", a.at + 16, 8));
    assertEquals(
      CUBLAS_INVALID_VALUE,
      gemmStatus("S", 0, 0, 4, 4, 4, 1, new Stored("S", a.at, 8), b, 0, new Stored("S", a.at + 12, 8))
    );
    // Columns 1 to 4 and 0 to 3.
    assertEquals(
      CUBLAS_INVALID_VALUE,
      gemmStatus("S", 0, 0, 4, 4, 4, 1, new Stored("S", a.at + 32, 8), b, 0, new Stored("S", a.at, 8))
    );
    // A larger leading dimension than the memory has room for.
    assertEquals(0, gemmStatus("S", 0, 0, 8, 8, 8, 1, new Stored("S", a.at, 9), b, 0, c));
    assertEquals(ILLEGAL_ADDRESS, cuda.call("cuCtxSynchronize"));
    expectError("cublasSgemm_v2: reads out of bounds");
  }

  @Test
  void gemmSeesWhatNothingWrote() {
    Stored a = store("S", normal(8, 8), 0);
    Stored c = new Stored("S", allocate(256), 8);
    assertEquals(0, gemmStatus("S", 0, 0, 8, 8, 8, 1, a, a, 1, c));
    assertEquals(ILLEGAL_ADDRESS, cuda.call("cuCtxSynchronize"));
    expectError("reads what nothing wrote");
  }

  @Test
  void worksOnItsStream() {
    MemorySegment stream = stream(1);
    assertEquals(0, cublas.call("cublasSetStream_v2", blas, stream));
    Stored a = store("S", new double[][] { { 2 } }, 0);
    Stored c = store("S", new double[][] { { 0 } }, 0);
    assertEquals(0, gemmStatus("S", 0, 0, 1, 1, 1, 1, a, a, 0, c));
    assertEquals(0, c.load(1, 1)[0][0], "nothing waited for the stream");
    ok("cuStreamSynchronize", stream);
    assertEquals(4, c.load(1, 1)[0][0]);
  }

  @ParameterizedTest
  @ValueSource(strings = { "S", "D" })
  void syrk(String type) {
    int n = 131;
    int k = 70;
    for (int trans = 0; trans < 2; trans++) {
      for (int fill = 0; fill < 2; fill++) {
        double[][] a = normal(trans == 0 ? n : k, trans == 0 ? k : n);
        double[][] plain = trans == 0 ? times(a, transpose(a)) : times(transpose(a), a);
        double[][] c = normal(n, n);
        Stored sa = store(type, a, 2);
        Stored sc = storeTriangle(type, c, fill);
        String name = "cublas" + type + "syrk_v2";
        MemorySegment alpha = scalar(type, 2);
        MemorySegment beta = scalar(type, 0.5);
        assertEquals(0, cublas.call(name, blas, fill, trans, n, k, alpha, sa.at, sa.ld, beta, sc.at, sc.ld));
        ok("cuCtxSynchronize");
        assertTriangle(type, add(2, plain, 0.5, c), sc, fill);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = { "S", "D" })
  void trsm(String type) {
    int m = 75;
    int n = 41;
    for (int variant = 0; variant < 16; variant++) {
      int side = variant & 1;
      int fill = (variant >> 1) & 1;
      int trans = (variant >> 2) & 1;
      int unit = variant >> 3;
      int order = side == 0 ? m : n;
      double[][] a = normal(order, order);
      double[][] triangle = new double[order][order];
      for (int i = 0; i < order; i++) {
        for (int j = 0; j < order; j++) {
          a[i][j] = i == j ? 3 + Math.abs(a[i][j]) : a[i][j] / order;
          boolean inside = fill == LOWER ? i >= j : i <= j;
          triangle[i][j] = i == j && unit == 1 ? 1 : inside ? a[i][j] : 0;
        }
      }
      double[][] x = normal(m, n);
      double[][] op = trans == 0 ? triangle : transpose(triangle);
      double[][] b = add(2, side == 0 ? times(op, x) : times(x, op), 0, x);
      Stored sa = storeTriangle(type, a, fill);
      Stored sb = store(type, b, 1);
      MemorySegment alpha = scalar(type, 0.5);
      String name = "cublas" + type + "trsm_v2";
      assertEquals(0, cublas.call(name, blas, side, fill, trans, unit, m, n, alpha, sa.at, sa.ld, sb.at, sb.ld));
      ok("cuCtxSynchronize");
      assertClose(type, x, sb.load(m, n));
    }
  }

  @ParameterizedTest
  @ValueSource(strings = { "S", "D" })
  void geam(String type) {
    int m = 17;
    int n = 9;
    double[][] a = normal(n, m);
    double[][] b = normal(m, n);
    Stored sa = store(type, a, 1);
    Stored sb = store(type, b, 2);
    MemorySegment alpha = scalar(type, 2);
    MemorySegment beta = scalar(type, -1);
    String name = "cublas" + type + "geam";
    // In place of B.
    assertEquals(0, cublas.call(name, blas, 1, 0, m, n, alpha, sa.at, sa.ld, beta, sb.at, sb.ld, sb.at, sb.ld));
    ok("cuCtxSynchronize");
    assertClose(type, add(2, transpose(a), -1, b), sb.load(m, n));
    assertEquals(
      CUBLAS_INVALID_VALUE,
      cublas.call(name, blas, 1, 0, n, n, alpha, sa.at, sa.ld, beta, sb.at, sb.ld, sa.at, sa.ld),
      "a transpose in place"
    );
  }

  // ---- cuSOLVER.

  @ParameterizedTest
  @ValueSource(strings = { "S", "D" })
  void potrf(String type) {
    int n = 150;
    double[][] x = normal(n, n + 20);
    double[][] a = times(x, transpose(x));
    for (int fill = 0; fill < 2; fill++) {
      Stored sa = storeTriangle(type, a, fill);
      assertEquals(0, potrf(type, fill, n, sa));
      double[][] factor = new double[n][n];
      double[][] got = sa.loadTriangle(n, fill);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
          factor[i][j] = fill == LOWER ? got[i][j] : got[j][i];
        }
      }
      assertClose(type, a, times(factor, transpose(factor)));
      // The other triangle stays.
      Stored whole = store(type, a, 0);
      double[][] before = whole.load(n, n);
      assertEquals(0, potrf(type, fill, n, whole));
      double[][] after = whole.load(n, n);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
          assertEquals(fill == LOWER ? before[j][i] : before[i][j], fill == LOWER ? after[j][i] : after[i][j]);
        }
      }
    }
    a[99][99] = -1;
    assertEquals(100, potrf(type, UPPER, n, storeTriangle(type, a, UPPER)));
  }

  /** What devInfo says. */
  private int potrf(String type, int fill, int n, Stored a) {
    MemorySegment size = arena.allocate(ValueLayout.JAVA_INT);
    String name = "cusolverDn" + type + "potrf";
    assertEquals(0, cusolver.call(name + "_bufferSize", solver, fill, n, a.at, a.ld, size));
    int lwork = size.get(ValueLayout.JAVA_INT, 0);
    long work = allocate(8L * lwork);
    long info = allocate(4);
    assertEquals(CUSOLVER_INVALID_VALUE, cusolver.call(name, solver, fill, n, a.at, a.ld, work, lwork - 1, info));
    assertEquals(0, cusolver.call(name, solver, fill, n, a.at, a.ld, work, lwork, info));
    return downloadInt(info);
  }

  @Test
  void syevd() {
    int n = 90;
    double[][] a = normal(n, n);
    double[][] symmetric = add(1, a, 1, transpose(a));
    // Eigenvalues that are equal.
    double[][] projection = times(transpose(normal(5, n)), normal(5, n));
    double[][] rankFive = add(1, projection, 1, transpose(projection));
    for (double[][] matrix : new double[][][] { symmetric, rankFive, new double[n][n] }) {
      for (int fill = 0; fill < 2; fill++) {
        Stored sa = storeTriangle("D", matrix, fill);
        long values = allocate(8L * n);
        assertEquals(0, syevd(fill, n, sa, values));
        double[] w = new Stored("D", values, n).loadColumn(n);
        double[][] v = sa.load(n, n);
        assertIdentity(times(transpose(v), v));
        double[][] scaled = new double[n][n];
        for (int i = 0; i < n; i++) {
          for (int j = 0; j < n; j++) {
            scaled[i][j] = v[i][j] * w[j];
            assertTrue(j == 0 || w[j] >= w[j - 1]);
          }
        }
        assertClose("D", matrix, times(scaled, transpose(v)));
      }
    }
    symmetric[3][3] = Double.NaN;
    assertTrue(syevd(UPPER, n, storeTriangle("D", symmetric, UPPER), allocate(8L * n)) > 0);
  }

  private int syevd(int fill, int n, Stored a, long values) {
    MemorySegment size = arena.allocate(ValueLayout.JAVA_INT);
    assertEquals(0, cusolver.call("cusolverDnDsyevd_bufferSize", solver, 1, fill, n, a.at, a.ld, values, size));
    int lwork = size.get(ValueLayout.JAVA_INT, 0);
    long work = allocate(8L * lwork);
    long info = allocate(4);
    assertEquals(0, cusolver.call("cusolverDnDsyevd", solver, 1, fill, n, a.at, a.ld, values, work, lwork, info));
    return downloadInt(info);
  }

  @Test
  void gesvd() {
    int m = 70;
    int n = 45;
    double[][] full = normal(m, n);
    double[][] rankFive = times(normal(m, 5), normal(5, n));
    double[][] zeroColumn = normal(m, n);
    for (int i = 0; i < m; i++) {
      zeroColumn[i][7] = 0;
    }
    for (double[][] matrix : new double[][][] { full, rankFive, zeroColumn, new double[m][n] }) {
      for (byte job : new byte[] { 'S', 'A' }) {
        int left = job == 'S' ? n : m;
        Stored a = store("D", matrix, 2);
        Stored u = new Stored("D", allocate(8L * (m + 1) * left), m + 1);
        Stored vt = new Stored("D", allocate(8L * (n + 1) * n), n + 1);
        long values = allocate(8L * n);
        MemorySegment size = arena.allocate(ValueLayout.JAVA_INT);
        assertEquals(0, cusolver.call("cusolverDnDgesvd_bufferSize", solver, m, n, size));
        int lwork = size.get(ValueLayout.JAVA_INT, 0);
        long work = allocate(8L * lwork);
        long info = allocate(4);
        int status = cusolver.call(
          "cusolverDnDgesvd",
          solver,
          job,
          job,
          m,
          n,
          a.at,
          a.ld,
          values,
          u.at,
          u.ld,
          vt.at,
          vt.ld,
          work,
          lwork,
          0L,
          info
        );
        assertEquals(0, status);
        assertEquals(0, downloadInt(info));
        double[] s = new Stored("D", values, n).loadColumn(n);
        double[][] uu = u.load(m, left);
        double[][] vv = vt.load(n, n);
        assertIdentity(times(transpose(uu), uu));
        assertIdentity(times(vv, transpose(vv)));
        double[][] scaled = new double[m][n];
        for (int i = 0; i < m; i++) {
          for (int j = 0; j < n; j++) {
            scaled[i][j] = uu[i][j] * s[j];
            assertTrue(s[j] >= 0 && (j == 0 || s[j] <= s[j - 1]));
          }
        }
        assertClose("D", matrix, times(scaled, vv));
      }
    }
    MemorySegment size = arena.allocate(ValueLayout.JAVA_INT);
    assertEquals(CUSOLVER_INVALID_VALUE, cusolver.call("cusolverDnDgesvd_bufferSize", solver, n, m, size));
  }

  @Test
  void workspacesAreWorthlessAfterwards() {
    Stored a = store("D", new double[][] { { 4 } }, 0);
    MemorySegment size = arena.allocate(ValueLayout.JAVA_INT);
    assertEquals(0, cusolver.call("cusolverDnDpotrf_bufferSize", solver, LOWER, 1, a.at, a.ld, size));
    int lwork = size.get(ValueLayout.JAVA_INT, 0);
    long work = allocate(8L * lwork);
    ok("cuMemsetD8_v2", work, (byte) 0, 8L * lwork);
    assertEquals(0, cusolver.call("cusolverDnDpotrf", solver, LOWER, 1, a.at, a.ld, work, lwork, allocate(4)));
    MemorySegment to = arena.allocate(8);
    assertEquals(ILLEGAL_ADDRESS, cuda.call("cuMemcpyDtoH_v2", to, work, 8L));
  }

  // ---- Matrices.

  /** A matrix in device memory. */
  private final class Stored {

    final String type;
    final long at;
    final int ld;

    Stored(String type, long at, int ld) {
      this.type = type;
      this.at = at;
      this.ld = ld;
    }

    int size() {
      return type.equals("S") ? 4 : 8;
    }

    long bytes(int rows, int columns) {
      return ((long) ld * (columns - 1) + rows) * size();
    }

    void store(int row, int column, double[] values) {
      MemorySegment from = arena.allocate(8L * values.length, 8);
      for (int i = 0; i < values.length; i++) {
        if (size() == 4) {
          from.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) values[i]);
        } else {
          from.setAtIndex(ValueLayout.JAVA_DOUBLE, i, values[i]);
        }
      }
      ok("cuMemcpyHtoD_v2", at + ((long) column * ld + row) * size(), from, (long) values.length * size());
    }

    double[] load(int row, int column, int count) {
      MemorySegment to = arena.allocate(8L * count, 8);
      ok("cuMemcpyDtoH_v2", to, at + ((long) column * ld + row) * size(), (long) count * size());
      double[] values = new double[count];
      for (int i = 0; i < count; i++) {
        values[i] = size() == 4 ? to.getAtIndex(ValueLayout.JAVA_FLOAT, i) : to.getAtIndex(ValueLayout.JAVA_DOUBLE, i);
      }
      return values;
    }

    double[] loadColumn(int rows) {
      return load(0, 0, rows);
    }

    double[][] load(int rows, int columns) {
      double[][] matrix = new double[columns][];
      for (int j = 0; j < columns; j++) {
        matrix[j] = load(0, j, rows);
      }
      return transpose(matrix);
    }

    double[][] loadTriangle(int n, int fill) {
      double[][] matrix = new double[n][n];
      for (int j = 0; j < n; j++) {
        double[] column = fill == LOWER ? load(j, j, n - j) : load(0, j, j + 1);
        for (int i = 0; i < column.length; i++) {
          matrix[fill == LOWER ? j + i : i][j] = column[i];
        }
      }
      return matrix;
    }
  }

  /** Stores a matrix with some numbers that nothing writes between its columns. */
  private Stored store(String type, double[][] matrix, int gap) {
    int rows = matrix.length;
    int columns = matrix[0].length;
    Stored shape = new Stored(type, 0, rows + gap);
    Stored stored = new Stored(type, allocate(shape.bytes(rows, columns)), rows + gap);
    double[][] transposed = transpose(matrix);
    for (int j = 0; j < columns; j++) {
      stored.store(0, j, transposed[j]);
    }
    return stored;
  }

  /** Stores one triangle of a matrix; nothing writes the other. */
  private Stored storeTriangle(String type, double[][] matrix, int fill) {
    int n = matrix.length;
    Stored stored = new Stored(type, allocate(new Stored(type, 0, n + 1).bytes(n, n)), n + 1);
    double[][] transposed = transpose(matrix);
    for (int j = 0; j < n; j++) {
      int from = fill == LOWER ? j : 0;
      stored.store(from, j, Arrays.copyOfRange(transposed[j], from, fill == LOWER ? n : j + 1));
    }
    return stored;
  }

  private void assertTriangle(String type, double[][] expected, Stored stored, int fill) {
    int n = expected.length;
    double[][] got = stored.loadTriangle(n, fill);
    double[][] wanted = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        wanted[i][j] = (fill == LOWER ? i >= j : i <= j) ? expected[i][j] : 0;
      }
    }
    assertClose(type, wanted, got);
    // Nothing was written to the other triangle.
    long other = stored.at + (fill == LOWER ? (long) stored.ld : 1L) * stored.size();
    assertEquals(
      ILLEGAL_ADDRESS,
      cuda.call("emulated_cuda_check", other, (long) stored.size(), 0, arena.allocateFrom("test"))
    );
  }

  private int downloadInt(long address) {
    ok("cuCtxSynchronize");
    return Float.floatToRawIntBits(download(address, 1)[0]);
  }

  private MemorySegment scalar(String type, double value) {
    return type.equals("S")
      ? arena.allocateFrom(ValueLayout.JAVA_FLOAT, (float) value)
      : arena.allocateFrom(ValueLayout.JAVA_DOUBLE, value);
  }

  private double[][] normal(int rows, int columns) {
    double[][] matrix = new double[rows][columns];
    for (double[] row : matrix) {
      for (int j = 0; j < columns; j++) {
        row[j] = (float) random.nextGaussian();
      }
    }
    return matrix;
  }

  private static double[][] transpose(double[][] a) {
    double[][] result = new double[a[0].length][a.length];
    for (int i = 0; i < a.length; i++) {
      for (int j = 0; j < a[0].length; j++) {
        result[j][i] = a[i][j];
      }
    }
    return result;
  }

  private static double[][] times(double[][] a, double[][] b) {
    double[][] result = new double[a.length][b[0].length];
    for (int i = 0; i < a.length; i++) {
      for (int k = 0; k < b.length; k++) {
        for (int j = 0; j < b[0].length; j++) {
          result[i][j] += a[i][k] * b[k][j];
        }
      }
    }
    return result;
  }

  private static double[][] add(double alpha, double[][] a, double beta, double[][] b) {
    double[][] result = new double[a.length][a[0].length];
    for (int i = 0; i < a.length; i++) {
      for (int j = 0; j < a[0].length; j++) {
        result[i][j] = alpha * a[i][j] + beta * b[i][j];
      }
    }
    return result;
  }

  private static void assertClose(String type, double[][] expected, double[][] got) {
    double largest = 0;
    for (double[] row : expected) {
      for (double value : row) {
        largest = Math.max(largest, Math.abs(value));
      }
    }
    double tolerance = (type.equals("S") ? 3e-6 : 1e-13) * Math.max(largest, 1);
    for (int i = 0; i < expected.length; i++) {
      for (int j = 0; j < expected[0].length; j++) {
        assertEquals(expected[i][j], got[i][j], tolerance, "row " + i + ", column " + j);
      }
    }
  }

  private static void assertIdentity(double[][] a) {
    double[][] identity = new double[a.length][a.length];
    for (int i = 0; i < a.length; i++) {
      identity[i][i] = 1;
    }
    assertClose("D", identity, a);
  }
}
