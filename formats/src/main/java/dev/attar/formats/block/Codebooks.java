package dev.attar.formats.block;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

/**
 * The codebooks of the IQ1, IQ2 and IQ3 types: each code word stands for 8 or 4 values at once. They are data of the formats, defined
 * by ggml's published tables (MIT licence, see THIRD_PARTY_NOTICES.md), and can not be computed.
 *
 * <p>The resource {@code codebooks.bin} holds them one after the other, in the order of the fields here, each code word as a
 * little-endian 16-bit number made of its values' places in the type's list of levels, the first value in the lowest bits: 2 bits a
 * value for the books of 8 values, 3 bits for those of 4. It was written once from {@code iq2xxs_grid}, {@code iq2xs_grid}, {@code
 * iq2s_grid}, {@code iq1s_grid}, {@code iq3xxs_grid} and {@code iq3s_grid} of ggml-common.h; a test decodes every code word with the
 * library and compares.
 */
final class Codebooks {

  private static final byte[] LEVELS_2 = { 8, 25, 43 };
  private static final byte[] LEVELS_1 = { -1, 0, 1 };
  private static final byte[] LEVELS_3XXS = { 4, 12, 20, 28, 36, 44, 52, 62 };
  private static final byte[] LEVELS_3S = { 1, 3, 5, 7, 9, 11, 13, 15 };

  /** 256 code words of 8 values. */
  static final byte[] IQ2_XXS;

  /** 512 code words of 8 values. */
  static final byte[] IQ2_XS;

  /** 1024 code words of 8 values. */
  static final byte[] IQ2_S;

  /** 2048 code words of 8 values. */
  static final byte[] IQ1;

  /** 256 code words of 4 values. */
  static final byte[] IQ3_XXS;

  /** 512 code words of 4 values. */
  static final byte[] IQ3_S;

  static {
    byte[] codes;
    try (InputStream in = Codebooks.class.getResourceAsStream("codebooks.bin")) {
      codes = in.readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException("codebooks.bin", e);
    }
    int at = 0;
    IQ2_XXS = book(codes, at, 256, 8, LEVELS_2);
    at += 2 * 256;
    IQ2_XS = book(codes, at, 512, 8, LEVELS_2);
    at += 2 * 512;
    IQ2_S = book(codes, at, 1024, 8, LEVELS_2);
    at += 2 * 1024;
    IQ1 = book(codes, at, 2048, 8, LEVELS_1);
    at += 2 * 2048;
    IQ3_XXS = book(codes, at, 256, 4, LEVELS_3XXS);
    at += 2 * 256;
    IQ3_S = book(codes, at, 512, 4, LEVELS_3S);
  }

  private Codebooks() {}

  private static byte[] book(byte[] codes, int at, int words, int values, byte[] levels) {
    byte[] book = new byte[words * values];
    int bits = 16 / values > 2 ? 3 : 2;
    for (int i = 0; i < words; i++) {
      int code = Bits.getUnsignedShort(codes, at + 2 * i);
      for (int j = 0; j < values; j++) {
        book[i * values + j] = levels[(code >> (bits * j)) & ((1 << bits) - 1)];
      }
    }
    return book;
  }
}
