package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;

import dev.attar.compute.QuantizationProblem.Kind;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class CpuPruningTest extends PruningContract {

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

  @Test
  void pruningDoesNotDependOnTheThreads() throws IOException {
    int n = 288;
    int rows = 600;
    QuantizationProblem problem = new QuantizationProblem(Kind.PLAIN, n, rows, 5);
    int[] order = IntStream.range(0, n).toArray();
    for (Sparsity sparsity : List.of(
      new Sparsity.Rows(n / 2),
      new Sparsity.Whole((n * rows) / 2),
      new Sparsity.Pattern(2, 4)
    )) {
      List<float[]> results = new ArrayList<>();
      List<double[]> allErrors = new ArrayList<>();
      for (int threads = 1; threads <= 3; threads++) {
        try (Device other = Devices.cpu(threads); Scope scope = other.scope()) {
          Matrix gram = scope.matrix(n, n);
          other.upload(MemorySegment.ofArray(problem.gram), gram);
          Matrix factor = scope.matrix(n, n);
          other.feedbackFactor(gram, problem.ridge(), order, factor);
          Matrix weights = scope.matrix(n, rows);
          other.upload(MemorySegment.ofArray(problem.weights), weights);
          Matrix pruned = scope.matrix(n, rows);
          double[] errors = new double[rows];
          other.sparseWalk(weights, factor, problem.ridge(), order, sparsity, pruned, errors);
          other.prune(weights, null, sparsity);
          for (Matrix result : List.of(pruned, weights)) {
            float[] values = new float[n * rows];
            other.download(result, MemorySegment.ofArray(values));
            results.add(values);
          }
          allErrors.add(errors);
        }
      }
      for (int i = 2; i < results.size(); i++) {
        assertArrayEquals(results.get(i % 2), results.get(i), "" + sparsity);
      }
      assertArrayEquals(allErrors.get(0), allErrors.get(1), "" + sparsity);
      assertArrayEquals(allErrors.get(0), allErrors.get(2), "" + sparsity);
    }
  }
}
