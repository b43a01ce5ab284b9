package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.compute.DistributionLoss.Divergence;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class CpuTransformerTest extends TransformerContract {

  private Device device;

  @BeforeAll
  void open() throws IOException {
    device = Devices.cpu(2);
  }

  @AfterAll
  void close() {
    device.close();
  }

  @Override
  protected Device device() {
    return device;
  }

  /** With few sequences, more than one part adds to a sequence's gradients. */
  @ParameterizedTest
  @ValueSource(ints = { 1, 4 })
  void doesNotDependOnTheThreads(int sequences) throws IOException {
    List<float[]> expected = results(1, sequences);
    for (int threads : new int[] { 1, 2, 3 }) {
      List<float[]> found = results(threads, sequences);
      assertEquals(expected.size(), found.size());
      for (int i = 0; i < found.size(); i++) {
        assertArrayEquals(expected.get(i), found.get(i), threads + " threads, result " + i);
      }
    }
  }

  private static List<float[]> results(int threads, int sequences) throws IOException {
    Random random = new Random(sequences);
    int length = 90;
    int n = sequences * length;
    int vocabulary = 200;
    AttentionShape shape = new AttentionShape(length, 4, 2, 24, 0.2f, 0);
    int[] tokens = random.ints(n, 0, vocabulary).toArray();
    List<Matrix> matrices = new ArrayList<>();
    try (Device device = Devices.cpu(threads); Scope scope = device.scope()) {
      TransformerOperations transformer = device.transformer();
      for (int columns : new int[] { 96, 48, 48, 96, 96, 96, 48, 48, 4, vocabulary, vocabulary, 2 }) {
        float[] values = new float[n * columns];
        for (int i = 0; i < values.length; i++) {
          values[i] = (float) random.nextGaussian();
        }
        Matrix matrix = scope.matrix(n, columns);
        device.upload(MemorySegment.ofArray(values), matrix);
        matrices.add(matrix);
      }
      Matrix q = matrices.get(0);
      Matrix k = matrices.get(1);
      Matrix v = matrices.get(2);
      Matrix out = matrices.get(3);
      Matrix given = matrices.get(4);
      Matrix qGradient = matrices.get(5);
      Matrix table = scope.matrix(vocabulary, 96);
      Matrix bias = scope.matrix(1, 96);
      Matrix first = scope.matrix(n, 96);
      Matrix second = scope.matrix(n, 96);
      matrices.addAll(List.of(table, bias, first, second));
      transformer.attend(q, k, v, shape, out, matrices.get(8));
      transformer.attendGradient(
        q,
        k,
        v,
        shape,
        out,
        matrices.get(8),
        given,
        qGradient,
        matrices.get(6),
        matrices.get(7)
      );
      transformer.embedGradient(tokens, out, table);
      transformer.addBiasGradient(out, bias);
      transformer.rmsNormGradient(q, bias, 1e-5f, given, true, qGradient, table.rows(0, 1));
      transformer.distributionLoss(
        matrices.get(9),
        new TeacherRows.Logits(matrices.get(10)),
        tokens,
        new DistributionLoss(Divergence.JENSEN_SHANNON, 0.5f, 2, 1, 1, 1f / n),
        matrices.get(11)
      );
      transformer.adamW(q, given, first, second, new AdamStep(0.01f, 0.9f, 0.99f, 1e-8f, 0.1f, 1, 1));
      List<float[]> results = new ArrayList<>();
      for (Matrix matrix : matrices) {
        float[] values = new float[matrix.rows() * matrix.columns()];
        device.download(matrix, MemorySegment.ofArray(values));
        results.add(values);
      }
      double squares = transformer.squares(out);
      results.add(new float[] { Float.intBitsToFloat(Double.hashCode(squares)) });
      return results;
    }
  }
}
