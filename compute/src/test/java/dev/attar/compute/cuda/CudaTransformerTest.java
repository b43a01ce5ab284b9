package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.compute.AttentionShape;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.DistributionLoss;
import dev.attar.compute.DistributionLoss.Divergence;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.TeacherRows;
import dev.attar.compute.TransformerContract;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * On a GPU if there is one, on the emulated CUDA otherwise. Shapes around the tiles, slices and shares of the kernels are compared with the
 * CPU's results, which have other ones.
 */
@ResourceLock(CudaUnderTest.LOCK)
class CudaTransformerTest extends TransformerContract {

  private final Random random = new Random(8);
  private CudaUnderTest cuda;
  private Device device;
  private Device cpu;

  @BeforeAll
  void open() throws IOException {
    cuda = CudaUnderTest.load();
    device = cuda.open();
    cpu = Devices.cpu(1);
  }

  @AfterAll
  void close() {
    device.close();
    cpu.close();
  }

  @Override
  protected Device device() {
    return device;
  }

  @Override
  protected boolean isSlow() {
    return cuda.emulated().isPresent();
  }

  private float[] gaussian(int rows, int columns) {
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  /** A device and its matrices, of which all contents are compared in the end. */
  private record Bench(Device on, Scope scope, List<Matrix> matrices) {
    Matrix put(float[] values, int rows) {
      Matrix matrix = scope.matrix(rows, values.length / rows);
      on.upload(MemorySegment.ofArray(values), matrix);
      matrices.add(matrix);
      return matrix;
    }

    Matrix room(int rows, int columns) {
      return put(new float[rows * columns], rows);
    }

    List<float[]> contents() {
      return matrices
        .stream()
        .map(matrix -> {
          float[] values = new float[matrix.rows() * matrix.columns()];
          on.download(matrix, MemorySegment.ofArray(values));
          return values;
        })
        .toList();
    }
  }

  @FunctionalInterface
  private interface Work {
    void run(Bench bench);
  }

  private static List<float[]> results(Device device, Work work) {
    try (Scope scope = device.scope()) {
      Bench bench = new Bench(device, scope, new ArrayList<>());
      work.run(bench);
      return bench.contents();
    }
  }

  private void assertSame(Work work) {
    List<float[]> expected = results(cpu, work);
    List<float[]> found = results(device, work);
    for (int i = 0; i < expected.size(); i++) {
      for (int j = 0; j < expected.get(i).length; j++) {
        float value = expected.get(i)[j];
        assertEquals(value, found.get(i)[j], 2e-5 * Math.max(1, Math.abs(value)), "matrix " + i + " at " + j);
      }
    }
  }

  /** A tile's border, windows that begin in an earlier tile or end in a later one, heads in pieces and in slices. */
  @ParameterizedTest
  @CsvSource(
    {
      "2, 32, 4, 2, 6, 0",
      "1, 33, 2, 1, 33, 0",
      "1, 70, 2, 2, 16, 1",
      "1, 70, 2, 1, 8, 34",
      "1, 65, 1, 1, 8, 500",
      "1, 34, 2, 1, 150, 33"
    }
  )
  void attendsInTiles(int sequences, int length, int heads, int groups, int size, int window) {
    AttentionShape shape = new AttentionShape(length, heads, groups, size, 0.3f, window);
    int n = sequences * length;
    float[] q = gaussian(n, heads * size);
    float[] k = gaussian(n, groups * size);
    float[] v = gaussian(n, groups * size);
    float[] gradient = gaussian(n, heads * size);
    assertSame(bench -> {
      Matrix queries = bench.put(q, n);
      Matrix keys = bench.put(k, n);
      Matrix values = bench.put(v, n);
      Matrix out = bench.room(n, heads * size);
      Matrix logSums = bench.room(n, heads);
      bench.on.transformer().attend(queries, keys, values, shape, out, logSums);
      Matrix given = bench.put(gradient, n);
      Matrix byKeys = bench.room(n, groups * size);
      Matrix byValues = bench.room(n, groups * size);
      bench.on.transformer().attendGradient(queries, keys, values, shape, out, logSums, given, given, byKeys, byValues);
    });
  }

  /** As many shares as rows, shares of several rows without and with a rest, more columns than a block has threads. */
  @ParameterizedTest
  @CsvSource({ "256, 3", "512, 2", "257, 130", "600, 7" })
  void sumsColumnsInShares(int rows, int columns) {
    float[] x = gaussian(rows, columns);
    float[] weight = gaussian(1, columns);
    float[] gradient = gaussian(rows, columns);
    assertSame(bench -> {
      Matrix given = bench.put(gradient, rows);
      bench.on.transformer().addBiasGradient(given, bench.put(weight, 1));
      Matrix factors = bench.put(weight, 1);
      Matrix ofFactors = bench.room(1, columns);
      bench.on.transformer().rmsNormGradient(bench.put(x, rows), factors, 0.1f, given, false, given, ofFactors);
    });
  }

  /** More numbers of a vocabulary, and more of the teacher's tokens, than a block has threads. */
  @ParameterizedTest
  @EnumSource(Divergence.class)
  void comparesLongRows(Divergence divergence) {
    int vocabulary = 300;
    int rows = 2;
    int k = 270;
    DistributionLoss loss = new DistributionLoss(divergence, 0.3f, 1.7f, 0.8f, 0.6f, 0.5f);
    int[] labels = { 299, 1 };
    int[] tokens = IntStream.range(0, rows * k)
      .map(i -> (7 * i + i / k) % vocabulary)
      .toArray();
    float[] logits = gaussian(rows, vocabulary);
    float[] all = gaussian(rows, vocabulary);
    float[] top = new float[rows * (k + 1)];
    for (int i = 0; i < top.length; i++) {
      top[i] = (float) Math.log(i % (k + 1) == k ? 0.1 : (0.9 / k) * (i % 2 == 0 ? 0.5 : 1.5));
    }
    assertSame(bench -> {
      Matrix losses = bench.room(rows, 2);
      TeacherRows teacher = new TeacherRows.Logits(bench.put(all, rows));
      bench.on.transformer().distributionLoss(bench.put(logits, rows), teacher, labels, loss, losses);
      Matrix others = bench.room(rows, 2);
      teacher = new TeacherRows.Top(tokens, bench.put(top, rows));
      bench.on.transformer().distributionLoss(bench.put(logits, rows), teacher, labels, loss, others);
    });
  }
}
