package dev.attar.formats.block;

import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.fail;

import dev.attar.formats.TensorType;
import dev.attar.llama.Ggml;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** The k-quants' encoders, scalar and with vectors of each width, give the bytes of the real {@code ggml_quantize_chunk}. */
class KQuantsTest {

  static final EnumSet<TensorType> TYPES = EnumSet.of(
    TensorType.Q2_K,
    TensorType.Q3_K,
    TensorType.Q4_K,
    TensorType.Q5_K,
    TensorType.Q6_K
  );

  /** Super-blocks per row: around a batch, and a group of lanes, of each width. */
  private static final int[] LENGTHS = { 1, 2, 3, 4, 5, 7, 8, 9, 15, 17 };

  private static final int CASES = 520;

  private static Ggml ggml;

  @BeforeAll
  static void load() throws Exception {
    ggml = Ggml.load();
  }

  static Set<TensorType> types() {
    return TYPES;
  }

  @ParameterizedTest
  @MethodSource("types")
  void sameBytesAsGgml(TensorType type) {
    List<Samples.Kind> kinds = Samples.values();
    List<Samples.Kind> importances = Samples.importances();
    List<String> failures = new ArrayList<>();
    for (int i = 0; i < CASES; i++) {
      Random random = new Random(i);
      int rowLength = KQuants.SUPER * LENGTHS[random.nextInt(LENGTHS.length)];
      int rows = random.nextInt(1, 4);
      Samples.Kind kind = kinds.get(i % kinds.size());
      String what = "case " + i + ": " + kind;
      float[] x = kind.rows(rowLength, rows, i);
      if (random.nextInt(3) == 0) {
        Samples.Kind other = kinds.get(random.nextInt(kinds.size()));
        mix(x, other.rows(rowLength, rows, i + 1), 16, random);
        what += " mixed with " + other;
      }
      float[] w = null;
      if (random.nextInt(3) != 0) {
        Samples.Kind importance = importances.get(random.nextInt(importances.size()));
        w = importance.rows(rowLength, 1, i);
        what += ", importance " + importance;
        if (random.nextInt(3) == 0) {
          Samples.Kind other = importances.get(random.nextInt(importances.size()));
          mix(w, other.rows(rowLength, 1, i + 1), 1, random);
          what += " mixed with " + other;
        }
      }
      byte[] expected = ggml.quantize(type.id(), x, rows, rowLength, w, (int) type.rowBytes(rowLength) * rows);
      for (Providers.Provider provider : Providers.all()) {
        BlockEncoder encoder = provider.encoder(type).orElseThrow();
        BlockEncodersTest.compare(expected, provider, encoder, what, x, rowLength, rows, w, failures);
      }
    }
    if (!failures.isEmpty()) {
      fail(
        failures.size() +
          " cases differ; the first:\n" +
          String.join("\n", failures.subList(0, Math.min(6, failures.size())))
      );
    }
  }

  /** Replaces runs of so many values by those of another array. */
  private static void mix(float[] x, float[] other, int run, Random random) {
    for (int i = 0; i < x.length; i += run) {
      if (random.nextBoolean()) {
        System.arraycopy(other, i, x, i, run);
      }
    }
  }

  @Test
  void anotherTypeIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> KQuants.scalar(TensorType.Q8_0));
    assertThrows(IllegalArgumentException.class, () -> KQuants.vector(TensorType.Q8_0));
  }
}
