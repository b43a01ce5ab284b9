package dev.attar.formats.block;

import static dev.attar.formats.TensorType.BF16;
import static dev.attar.formats.TensorType.F16;
import static dev.attar.formats.TensorType.F32;
import static dev.attar.formats.TensorType.IQ4_NL;
import static dev.attar.formats.TensorType.IQ4_XS;
import static dev.attar.formats.TensorType.Q4_0;
import static dev.attar.formats.TensorType.Q4_1;
import static dev.attar.formats.TensorType.Q5_0;
import static dev.attar.formats.TensorType.Q5_1;
import static dev.attar.formats.TensorType.Q8_0;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.attar.formats.TensorType;
import dev.attar.llama.Ggml;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Every encoder, scalar and with vectors of each width, gives the bytes of the real {@code ggml_quantize_chunk}. */
class BlockEncodersTest {

  private static Ggml ggml;

  @BeforeAll
  static void load() throws Exception {
    ggml = Ggml.load();
  }

  static List<Providers.Provider> providers() {
    return Providers.all();
  }

  @ParameterizedTest
  @MethodSource("providers")
  void sameBytesAsGgml(Providers.Provider provider) {
    Set<TensorType> tested = EnumSet.noneOf(TensorType.class);
    for (TensorType type : EnumSet.complementOf(KQuantsTest.TYPES)) {
      provider
        .encoder(type)
        .ifPresent(encoder -> {
          assertEquals(type, encoder.type());
          compareAll(provider, encoder);
          tested.add(type);
        });
    }
    assertTrue(
      tested.containsAll(EnumSet.of(F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS)),
      "encoders were found of " + tested
    );
  }

  private static void compareAll(Providers.Provider provider, BlockEncoder encoder) {
    List<String> failures = new ArrayList<>();
    int length = encoder.type().blockLength();
    int lanes = provider.lanes();
    for (Samples.Kind kind : Samples.values()) {
      for (int blocks : new int[] { 1, lanes - 1, lanes, lanes + 1 }) {
        // Plain types count in values; a row of them should still hold whole 32-value blocks, which the samples vary.
        int rowLength = Math.max(length, 32) * blocks;
        int rows = blocks == 1 ? 37 : blocks == lanes ? 3 : 2;
        float[] x = kind.rows(rowLength, rows, 1000 + blocks);
        compare(provider, encoder, kind + ", no importance", x, rowLength, rows, null, failures);
        if (length == 1) {
          compare(
            provider,
            encoder,
            kind + ", odd length",
            Arrays.copyOf(x, rowLength - 5),
            rowLength - 5,
            1,
            null,
            failures
          );
        }
        List<Samples.Kind> importances = Samples.importances();
        for (int i = 0; i < importances.size(); i++) {
          if (blocks == lanes + 1 || i == blocks % importances.size()) {
            float[] weights = importances.get(i).rows(rowLength, 1, 2000 + blocks);
            compare(
              provider,
              encoder,
              kind + ", importance " + importances.get(i),
              x,
              rowLength,
              rows,
              weights,
              failures
            );
          }
        }
      }
    }
    if (!failures.isEmpty()) {
      fail(
        failures.size() +
          " cases differ; the first:\n" +
          String.join("\n", failures.subList(0, Math.min(12, failures.size())))
      );
    }
  }

  private static void compare(
    Providers.Provider provider,
    BlockEncoder encoder,
    String what,
    float[] x,
    int rowLength,
    int rows,
    float[] importance,
    List<String> failures
  ) {
    TensorType type = encoder.type();
    int bytes = Math.toIntExact(type.rowBytes(rowLength) * rows);
    byte[] expected = ggml.quantize(type.id(), x, rows, rowLength, importance, bytes);
    compare(expected, provider, encoder, what, x, rowLength, rows, importance, failures);
  }

  /** Adds a description of what an encoder does otherwise than expected. */
  static void compare(
    byte[] expected,
    Providers.Provider provider,
    BlockEncoder encoder,
    String what,
    float[] x,
    int rowLength,
    int rows,
    float[] importance,
    List<String> failures
  ) {
    TensorType type = encoder.type();
    int bytes = expected.length;
    // Offsets, so that an encoder that ignores them shows.
    float[] shifted = new float[x.length + 3];
    System.arraycopy(x, 0, shifted, 3, x.length);
    float[] weights = importance == null ? null : new float[rowLength + 5];
    if (importance != null) {
      System.arraycopy(importance, 0, weights, 5, rowLength);
    }
    byte[] out = new byte[bytes + 7];
    Arrays.fill(out, (byte) 0xA5);
    encoder.encode(shifted, 3, rowLength, rows, weights, 5, out, 4);
    byte[] actual = Arrays.copyOfRange(out, 4, 4 + bytes);
    int bad = 0;
    String first = "";
    int size = type.blockBytes();
    for (int b = 0; b < bytes / size; b++) {
      if (!Arrays.equals(expected, b * size, (b + 1) * size, actual, b * size, (b + 1) * size)) {
        if (bad++ == 0) {
          HexFormat hex = HexFormat.of();
          int n = type.blockLength();
          first =
            "block " +
            b +
            "\n  expected " +
            hex.formatHex(expected, b * size, (b + 1) * size) +
            "\n  found    " +
            hex.formatHex(actual, b * size, (b + 1) * size) +
            "\n  values   " +
            Arrays.toString(Arrays.copyOfRange(x, b * n, b * n + Math.min(n, 64)));
        }
      }
    }
    if (bad > 0) {
      failures.add(
        type +
          " " +
          provider +
          ", " +
          what +
          ", " +
          rows +
          " rows of " +
          rowLength +
          ": " +
          bad +
          " of " +
          bytes / size +
          " blocks differ, first " +
          first
      );
    }
    for (int i = 0; i < out.length; i++) {
      if ((i < 4 || i >= 4 + bytes) && out[i] != (byte) 0xA5) {
        failures.add(type + " " + provider + ", " + what + ": wrote outside its range, at " + (i - 4));
      }
    }
  }

  @Test
  void anArgumentOutOfRangeIsRefused() {
    BlockEncoder encoder = BlockEncoders.of(TensorType.Q8_0).orElseThrow();
    float[] x = new float[64];
    byte[] out = new byte[68];
    assertThrows(IllegalArgumentException.class, () -> encoder.encode(x, 0, 33, 1, null, 0, out, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> encoder.encode(x, 1, 64, 1, null, 0, out, 0));
    assertThrows(IndexOutOfBoundsException.class, () -> encoder.encode(x, 0, 64, 1, null, 0, out, 1));
    assertThrows(IndexOutOfBoundsException.class, () -> encoder.encode(x, 0, 64, 1, new float[64], 1, out, 0));
  }

  @Test
  void aForcedProviderIsTheOneThatRuns() {
    assertEquals("scalar, forced by attar.simd=scalar", Providers.load("scalar").description());
    assertTrue(Simd.isVector(), Simd.description());
    for (Providers.Provider provider : providers().subList(1, providers().size())) {
      String bits = provider.name().substring("vector".length());
      assertEquals("vectors of " + bits + " bits, forced by attar.simd=vector" + bits, provider.description());
    }
  }

  @Test
  void aWrongChoiceIsAnError() {
    Throwable error = assertThrows(LinkageError.class, () -> Providers.load("quick").description());
    assertEquals(
      "attar.simd=quick, expected scalar, vector, vector128, vector256 or vector512",
      error.getCause().getCause().getMessage()
    );
  }
}
