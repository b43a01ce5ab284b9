package dev.attar.lowrank;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.formats.MappedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class ProductTensorTest {

  private final SplittableRandom random = new SplittableRandom(5);

  /** Single-precision values as a tensor. */
  private static Tensor tensor(String name, float[] values, long... shape) {
    MemorySegment bytes = MemorySegment.ofArray(new byte[4 * values.length]);
    MemorySegment.copy(values, 0, bytes, ValueLayout.JAVA_FLOAT_UNALIGNED, 0, values.length);
    return new MappedTensor(new TensorInfo(name, TensorType.F32, shape), bytes);
  }

  private float[] values(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = random.nextFloat() - 0.5f;
    }
    return values;
  }

  /** Widths around the tile's and ranks around four, with experts, a rank below the stored one, two products, in bands of rows. */
  @Test
  void sumsAreThoseOfPlainLoops() throws IOException {
    int[][] cases = { { 1, 1, 1, 1, 1 }, { 1030, 7, 3, 9, 6 }, { 64, 5, 2, 4, 4 }, { 33, 6, 4, 5, 3 } };
    for (int[] c : cases) {
      int columns = c[0];
      int rows = c[1];
      int experts = c[2];
      int stored = c[3];
      int rank = c[4];
      float[] w = values(columns * rows * experts);
      float[] a = values(columns * stored * experts);
      float[] b = values(stored * rows * experts);
      float[] a2 = values(columns * 2 * experts);
      float[] b2 = values(2 * rows * experts);
      Tensor base = tensor("w", w, columns, rows, experts);
      Product first = new Product(
        tensor("a", a, columns, stored, experts),
        tensor("b", b, stored, rows, experts),
        rank,
        0.5f
      );
      Product second = new Product(tensor("a", a2, columns, 2, experts), tensor("b", b2, 2, rows, experts), 2, -2);
      Tensor sum = ProductTensor.of(base.info(), Optional.of(base), List.of(first, second));
      Tensor alone = ProductTensor.of(base.info(), Optional.empty(), List.of(first));

      double[] product = multiply(a, b, columns, rows, experts, stored, rank);
      double[] other = multiply(a2, b2, columns, rows, experts, 2, 2);
      float[] got = new float[3 + columns * rows * experts];
      for (int row = 0; row < rows * experts; row += 4) {
        sum.decodeRows(row, Math.min(4, rows * experts - row), got, 3 + row * columns);
      }
      float[] gotAlone = new float[columns * rows * experts];
      Arrays.fill(gotAlone, 7);
      alone.decodeRows(0, rows * experts, gotAlone, 0);
      for (int i = 0; i < w.length; i++) {
        assertEquals(w[i] + 0.5 * product[i] - 2 * other[i], got[3 + i], 1e-5);
        assertEquals(0.5 * product[i], gotAlone[i], 1e-5);
      }
    }
  }

  private static double[] multiply(float[] a, float[] b, int columns, int rows, int experts, int stored, int rank) {
    double[] out = new double[columns * rows * experts];
    for (int e = 0; e < experts; e++) {
      for (int i = 0; i < rows; i++) {
        for (int j = 0; j < columns; j++) {
          for (int r = 0; r < rank; r++) {
            out[(e * rows + i) * columns + j] +=
              (double) b[(e * rows + i) * stored + r] * a[(e * stored + r) * columns + j];
          }
        }
      }
    }
    return out;
  }

  @Test
  void theTypeIsPlain() throws IOException {
    Product product = new Product(tensor("a", values(32), 32, 1), tensor("b", values(2), 1, 2), 1, 1);
    TensorInfo quantized = new TensorInfo("w", TensorType.Q8_0, new long[] { 32, 2 });
    Tensor half = ProductTensor.of(quantized, Optional.empty(), List.of(product));
    Tensor exact = ProductTensor.of(quantized.withType(TensorType.F64), Optional.empty(), List.of(product));
    assertEquals(TensorType.F16, half.info().type());
    assertEquals(TensorType.F32, exact.info().type());
    float[] rounded = new float[64];
    half.decodeRows(0, 2, rounded, 0);
    float[] values = new float[64];
    exact.decodeRows(0, 2, values, 0);
    for (int i = 0; i < 64; i++) {
      assertEquals(Float.float16ToFloat(Float.floatToFloat16(values[i])), rounded[i]);
    }
  }

  @Test
  void shapesMustFit() {
    Tensor a = tensor("a", values(64), 32, 2);
    Tensor b = tensor("b", values(6), 2, 3);
    assertThrows(IllegalArgumentException.class, () -> new Product(a, b, 3, 1));
    assertThrows(IllegalArgumentException.class, () -> new Product(b, a, 1, 1));
    TensorInfo other = new TensorInfo("w", TensorType.F32, new long[] { 32, 4 });
    Product product = new Product(a, b, 2, 1);
    assertThrows(IllegalArgumentException.class, () -> ProductTensor.of(other, Optional.empty(), List.of(product)));
  }
}
