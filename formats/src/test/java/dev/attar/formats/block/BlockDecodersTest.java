package dev.attar.formats.block;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.fail;

import dev.attar.formats.TensorType;
import dev.attar.llama.Ggml;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every decoder gives the values of the real library, bit for bit; and what the validator says is what the library says. */
class BlockDecodersTest {

  private static Ggml ggml;

  @BeforeAll
  static void load() throws Exception {
    ggml = Ggml.load();
  }

  /** The types that the library decodes by {@code to_float}. */
  static List<TensorType> decoded() {
    List<TensorType> types = new ArrayList<>(List.of(TensorType.values()));
    types.removeAll(EnumSet.range(TensorType.I8, TensorType.I64));
    types.removeAll(EnumSet.of(TensorType.F32, TensorType.F64, TensorType.Q8_1, TensorType.Q8_K));
    return types;
  }

  @ParameterizedTest
  @MethodSource("decoded")
  void randomBlocksDecodeAsInTheLibrary(TensorType type) {
    int count = type.isQuantized() ? 600 : 20_000;
    byte[] blocks = new byte[type.blockBytes() * count];
    new Random(7).nextBytes(blocks);
    // Blocks with invalid scales are not compared: what they decode to is not a number.
    int size = type.blockBytes();
    for (int b = 0; b < count; b++) {
      if (RowValidator.firstInvalidBlock(type, blocks, b * size, 1) >= 0) {
        Arrays.fill(blocks, b * size, (b + 1) * size, (byte) 0x11);
      }
    }
    compare(type, blocks, count);
  }

  /** But for the codebooks' types, which the library takes seconds to prepare and on extreme values ends the process. */
  static List<TensorType> encoded() {
    List<TensorType> types = decoded();
    types.removeIf(type -> type.name().matches("IQ[123].*"));
    return types;
  }

  @ParameterizedTest
  @MethodSource("encoded")
  void encodedBlocksDecodeAsInTheLibrary(TensorType type) {
    int rowLength = 1024;
    for (Samples.Kind kind : Samples.values()) {
      float[] x = kind.rows(rowLength, 1, 11);
      float[] importance = new float[rowLength];
      Arrays.fill(importance, 1);
      int bytes = Math.toIntExact(type.rowBytes(rowLength));
      byte[] blocks = ggml.quantize(type.id(), x, 1, rowLength, importance, bytes);
      if (RowValidator.firstInvalidBlock(type, blocks, 0, bytes / type.blockBytes()) < 0) {
        compare(type, blocks, bytes / type.blockBytes());
      }
    }
  }

  /** Each code word at each of its places, with all other bits zero but for a scale of 1. */
  @ParameterizedTest
  @EnumSource(names = { "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S" })
  void everyCodeWordDecodesAsInTheLibrary(TensorType type) {
    int size = type.blockBytes();
    int words = 2048;
    byte[] blocks = new byte[size * words];
    for (int word = 0; word < words; word++) {
      int at = word * size;
      Bits.putShort(blocks, at, 0x3C00);
      switch (type) {
        case IQ1_S -> {
          Arrays.fill(blocks, at + 2, at + 34, (byte) word);
          for (int b = 0; b < 8; b++) {
            Bits.putShort(blocks, at + 34 + 2 * b, (word >> 8) * 0b001001001001);
          }
        }
        case IQ1_M -> {
          Arrays.fill(blocks, at, at + 32, (byte) word);
          Arrays.fill(blocks, at + 32, at + 48, (byte) ((word >> 8) * 0x11));
          Bits.putLong(blocks, at + 48, 0x3000_C000_0000_0000L);
        }
        case IQ2_XXS, IQ3_XXS -> {
          for (int b = 0; b < 8; b++) {
            if (type == TensorType.IQ2_XXS) {
              Arrays.fill(blocks, at + 2 + 8 * b, at + 2 + 8 * b + 4, (byte) word);
              Bits.putInt(blocks, at + 2 + 8 * b + 4, word * 0x9E3779B1);
            } else {
              Arrays.fill(blocks, at + 2 + 8 * b, at + 2 + 8 * b + 8, (byte) word);
              Bits.putInt(blocks, at + 66 + 4 * b, word * 0x9E3779B1);
            }
          }
        }
        case IQ2_XS -> {
          for (int l = 0; l < 32; l++) {
            Bits.putShort(blocks, at + 2 + 2 * l, (word & 511) | (((word + l) & 127) << 9));
          }
        }
        case IQ2_S -> {
          Arrays.fill(blocks, at + 2, at + 34, (byte) word);
          Arrays.fill(blocks, at + 66, at + 74, (byte) (((word >> 8) & 3) * 0b01010101));
        }
        case IQ3_S -> {
          Arrays.fill(blocks, at + 2, at + 66, (byte) word);
          Arrays.fill(blocks, at + 66, at + 74, (byte) ((word >> 8) & 1) == 0 ? 0 : (byte) 0xFF);
        }
        default -> throw new AssertionError(type);
      }
    }
    compare(type, blocks, words);
  }

  private static void compare(TensorType type, byte[] blocks, int count) {
    int n = type.blockLength();
    float[] expected = ggml.dequantize(type.id(), blocks, count * n);
    byte[] shifted = new byte[blocks.length + 3];
    System.arraycopy(blocks, 0, shifted, 3, blocks.length);
    float[] actual = new float[count * n + 5];
    BlockDecoders.of(type).decode(shifted, 3, actual, 5, count * n);
    int bad = 0;
    String first = "";
    for (int i = 0; i < count * n; i++) {
      // What is not a number has no bits to compare: only plain types can hold it here.
      boolean same = Float.isNaN(expected[i])
        ? Float.isNaN(actual[5 + i])
        : Float.floatToRawIntBits(expected[i]) == Float.floatToRawIntBits(actual[5 + i]);
      if (!same && bad++ == 0) {
        first = "block " + i / n + " value " + (i % n) + ": expected " + expected[i] + ", found " + actual[5 + i];
      }
    }
    if (bad > 0) {
      fail(type + ": " + bad + " of " + count * n + " values differ, first " + first);
    }
  }

  @Test
  void typesThatTheLibraryDoesNotDecode() {
    byte[] q81 = new byte[36];
    Bits.putShort(q81, 0, 0x4000);
    Bits.putShort(q81, 2, 0x7BFF);
    for (int j = 0; j < 32; j++) {
      q81[4 + j] = (byte) (j - 16);
    }
    float[] expected = new float[32];
    for (int j = 0; j < 32; j++) {
      expected[j] = 2f * (j - 16);
    }
    assertArrayEquals(expected, decode(TensorType.Q8_1, q81, 32));

    byte[] q8k = new byte[292];
    Bits.putInt(q8k, 0, Float.floatToRawIntBits(-0.25f));
    q8k[4] = -128;
    q8k[259] = 127;
    float[] wide = new float[256];
    Arrays.fill(wide, -0f);
    wide[0] = 32;
    wide[255] = -31.75f;
    assertArrayEquals(wide, decode(TensorType.Q8_K, q8k, 256));

    byte[] doubles = new byte[24];
    Bits.putLong(doubles, 0, Double.doubleToRawLongBits(0.1));
    Bits.putLong(doubles, 8, Double.doubleToRawLongBits(-1e300));
    Bits.putLong(doubles, 16, Double.doubleToRawLongBits(1.5));
    assertArrayEquals(new float[] { 0.1f, Float.NEGATIVE_INFINITY, 1.5f }, decode(TensorType.F64, doubles, 3));

    byte[] floats = new byte[8];
    Bits.putInt(floats, 0, Float.floatToRawIntBits(3.25f));
    Bits.putInt(floats, 4, Float.floatToRawIntBits(-0f));
    assertArrayEquals(new float[] { 3.25f, -0f }, decode(TensorType.F32, floats, 2));
  }

  private static float[] decode(TensorType type, byte[] in, int count) {
    float[] out = new float[count];
    BlockDecoders.of(type).decode(in, 0, out, 0, count);
    return out;
  }

  @Test
  void whatCannotBeDecodedIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> BlockDecoders.of(TensorType.I32));
    BlockDecoder decoder = BlockDecoders.of(TensorType.Q4_K);
    assertThrows(IllegalArgumentException.class, () -> decoder.decode(new byte[144], 0, new float[256], 0, 255));
    assertThrows(IndexOutOfBoundsException.class, () -> decoder.decode(new byte[144], 1, new float[256], 0, 256));
    assertThrows(IndexOutOfBoundsException.class, () -> decoder.decode(new byte[144], 0, new float[256], 1, 256));
  }

  @ParameterizedTest
  @EnumSource
  void theValidatorAgreesWithTheLibrary(TensorType type) {
    Random random = new Random(13);
    int size = type.blockBytes();
    int n = type.isQuantized() ? 4 : 16;
    int invalid = 0;
    for (int i = 0; i < 40; i++) {
      byte[] blocks = new byte[size * n];
      random.nextBytes(blocks);
      if (i % 4 == 0) {
        // Runs of ones make large exponents wherever the scale lies.
        int from = random.nextInt(blocks.length);
        Arrays.fill(blocks, from, Math.min(blocks.length, from + random.nextInt(size + 1)), (byte) 0xFF);
      }
      int found = RowValidator.firstInvalidBlock(type, blocks, 0, n);
      if (type != TensorType.Q8_1) {
        // The library does not know Q8_1 here and refuses all of it.
        assertEquals(ggml.validateRow(type.id(), blocks), found < 0, type + " " + i);
      }
      if (found >= 0) {
        invalid++;
        assertEquals(0, RowValidator.firstInvalidBlock(type, blocks, found * size, 1));
        assertEquals(-1, RowValidator.firstInvalidBlock(type, blocks, 0, found));
      }
    }
    boolean canFail = type != TensorType.NVFP4 && type.isFloat();
    assertEquals(canFail, invalid > 0, type + ": " + invalid + " of 40 invalid");
  }

  @Test
  void theFirstValueThatIsNotFiniteIsFound() {
    for (int length : new int[] { 1, 7, 16, 17, 1023, 1024, 1025, 5000 }) {
      float[] x = Samples.values().getLast().rows(32 * ((length + 31) / 32), 1, 3);
      x[0] = Float.MAX_VALUE;
      assertEquals(-1, RowValidator.firstNonFinite(x, 0, length));
      for (float bad : new float[] { Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
        for (int at : new int[] { 0, length / 2, length - 1 }) {
          float[] y = x.clone();
          y[at] = bad;
          y[length - 1] = Float.NaN;
          assertEquals(at, RowValidator.firstNonFinite(y, 0, length), "of " + length);
          assertEquals(-1, RowValidator.firstNonFinite(y, 0, at));
        }
      }
    }
  }
}
