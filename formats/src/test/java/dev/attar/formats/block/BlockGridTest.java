package dev.attar.formats.block;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import dev.attar.formats.TensorType;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The parts of blocks: what they decode to, that they give the block back, and that they do not touch each other. */
class BlockGridTest {

  /** Bytes before a block and values before codes, so that places count. */
  private static final int SHIFT = 3;

  static Set<TensorType> types() {
    return EnumSet.of(
      TensorType.Q4_0,
      TensorType.Q4_1,
      TensorType.Q5_0,
      TensorType.Q5_1,
      TensorType.Q8_0,
      TensorType.Q2_K,
      TensorType.Q3_K,
      TensorType.Q4_K,
      TensorType.Q5_K,
      TensorType.Q6_K,
      TensorType.IQ4_NL,
      TensorType.IQ4_XS
    );
  }

  @Test
  void otherTypesHaveNone() {
    for (TensorType type : TensorType.values()) {
      assertEquals(types().contains(type), BlockGrid.of(type).isPresent(), type::name);
    }
  }

  @ParameterizedTest
  @CsvSource(
    {
      "Q4_0,   1, 32,  16,   -8,   7,    1,   1, 0,  0",
      "Q4_1,   1, 32,  16,    0,  15,    1,   1, 1,  1",
      "Q5_0,   1, 32,  32,  -16,  15,    1,   1, 0,  0",
      "Q5_1,   1, 32,  32,    0,  31,    1,   1, 1,  1",
      "Q8_0,   1, 32, 256, -128, 127,    1,   1, 0,  0",
      "Q2_K,  16, 16,   4,    0,   3,    0,  15, 0, 15",
      "Q3_K,  16, 16,   8,   -4,   3,  -32,  31, 0,  0",
      "Q4_K,   8, 32,  16,    0,  15,    0,  63, 0, 63",
      "Q5_K,   8, 32,  32,    0,  31,    0,  63, 0, 63",
      "Q6_K,  16, 16,  64,  -32,  31, -128, 127, 0,  0",
      "IQ4_NL, 1, 32,  16, -127, 113,    1,   1, 0,  0",
      "IQ4_XS, 8, 32,  16, -127, 113,  -32,  31, 0,  0"
    }
  )
  void ranges(
    TensorType type,
    int groups,
    int groupLength,
    int codes,
    float leastLevel,
    float mostLevel,
    int leastScale,
    int mostScale,
    int leastMinimum,
    int mostMinimum
  ) {
    BlockGrid grid = grid(type);
    assertEquals(type, grid.type());
    assertEquals(groups, grid.groups());
    assertEquals(groupLength, grid.groupLength());
    assertEquals(codes, grid.levels().length);
    assertEquals(leastLevel, grid.levels()[0]);
    assertEquals(mostLevel, grid.levels()[codes - 1]);
    for (int i = 1; i < codes; i++) {
      assertTrue(grid.levels()[i] > grid.levels()[i - 1]);
    }
    assertEquals(leastScale, grid.leastScale());
    assertEquals(mostScale, grid.mostScale());
    assertEquals(leastScale != mostScale, grid.hasSubScales());
    assertEquals(leastMinimum, grid.leastMinimum());
    assertEquals(mostMinimum, grid.mostMinimum());
    assertEquals(mostMinimum != 0, grid.hasMinimum());
  }

  @ParameterizedTest
  @MethodSource("types")
  void encodedBlocksAreTheirParts(TensorType type) {
    BlockEncoder encoder = BlockEncoders.scalar(type).orElseThrow();
    int rowLength = 512;
    int rows = 2;
    byte[] blocks = new byte[SHIFT + Math.toIntExact(type.rowBytes(rowLength)) * rows];
    int compared = 0;
    for (Samples.Kind kind : Samples.values()) {
      float[] x = kind.rows(rowLength, rows, 31);
      encoder.encode(x, 0, rowLength, rows, null, 0, blocks, SHIFT);
      compared += compare(type, blocks);
      for (Samples.Kind importance : Samples.importances().subList(0, 4)) {
        encoder.encode(x, 0, rowLength, rows, importance.rows(rowLength, 1, 32), 0, blocks, SHIFT);
        compared += compare(type, blocks);
      }
    }
    // The others are of values too large for the type's scales.
    assertTrue(compared > (Samples.values().size() * 5 * rows * rowLength) / type.blockLength() / 2);
  }

  @ParameterizedTest
  @MethodSource("types")
  void randomBlocksAreTheirParts(TensorType type) {
    int count = 500;
    assertEquals(count, compare(type, randomBlocks(type, count)));
  }

  @ParameterizedTest
  @MethodSource("types")
  void zeroBlocksAreTheirParts(TensorType type) {
    assertEquals(5, compare(type, new byte[SHIFT + 5 * type.blockBytes()]));
  }

  /**
   * Compares each valid block's parts with what it decodes to, bit for bit, and writes it anew from them.
   *
   * @return how many blocks were valid
   */
  private static int compare(TensorType type, byte[] blocks) {
    BlockGrid grid = grid(type);
    float[] levels = grid.levels();
    int n = type.blockLength();
    int size = type.blockBytes();
    byte[] codes = new byte[n + SHIFT];
    float[] expected = new float[n];
    byte[] copy = new byte[blocks.length];
    System.arraycopy(blocks, 0, copy, 0, SHIFT);
    BlockGrid.Scales scales = grid.newScales();
    int valid = 0;
    for (int at = SHIFT; at < blocks.length; at += size) {
      if (RowValidator.firstInvalidBlock(type, blocks, at, 1) >= 0) {
        System.arraycopy(blocks, at, copy, at, size);
        continue;
      }
      valid++;
      BlockDecoders.of(type).decode(blocks, at, expected, 0, n);
      grid.readScales(blocks, at, scales);
      grid.readCodes(blocks, at, codes, SHIFT);
      for (int i = 0; i < n; i++) {
        int g = i / grid.groupLength();
        float level = levels[codes[SHIFT + i] & 0xFF];
        float actual = scales.d * scales.s[g] * level + -(scales.dmin * scales.m[g]);
        if (
          Float.floatToRawIntBits(expected[i]) != Float.floatToRawIntBits(actual) ||
          Float.floatToRawIntBits(actual) != Float.floatToRawIntBits(scales.step(g) * level + scales.offset(g))
        ) {
          fail(type + ", byte " + at + ", weight " + i + ": " + actual + ", decoded to " + expected[i]);
        }
      }
      // The fixed parts and ranges hold for what was read, or this would be refused.
      grid.writeScales(scales, copy, at);
      grid.writeCodes(codes, SHIFT, copy, at);
    }
    assertArrayEquals(blocks, copy, type::name);
    return valid;
  }

  @ParameterizedTest
  @MethodSource("types")
  void scalesAndCodesAreApart(TensorType type) {
    Random random = new Random(41);
    BlockGrid grid = grid(type);
    int n = type.blockLength();
    int size = type.blockBytes();
    int count = 100;
    byte[] blocks = randomBlocks(type, count);
    BlockGrid.Scales before = grid.newScales();
    BlockGrid.Scales after = grid.newScales();
    byte[] codes = new byte[n];
    byte[] read = new byte[n];
    for (int at = SHIFT; at < blocks.length; at += size) {
      byte[] head = Arrays.copyOf(blocks, at);
      byte[] tail = Arrays.copyOfRange(blocks, at + size, blocks.length);

      grid.readScales(blocks, at, before);
      for (int i = 0; i < n; i++) {
        codes[i] = (byte) random.nextInt(grid.levels().length);
      }
      grid.writeCodes(codes, 0, blocks, at);
      grid.readCodes(blocks, at, read, 0);
      assertArrayEquals(codes, read);
      grid.readScales(blocks, at, after);
      assertSame(before, after);

      draw(grid, random, before);
      grid.writeScales(before, blocks, at);
      grid.readScales(blocks, at, after);
      assertSame(before, after);
      grid.readCodes(blocks, at, read, 0);
      assertArrayEquals(codes, read);

      assertArrayEquals(head, Arrays.copyOf(blocks, at));
      assertArrayEquals(tail, Arrays.copyOfRange(blocks, at + size, blocks.length));
    }
  }

  private static void assertSame(BlockGrid.Scales expected, BlockGrid.Scales actual) {
    assertEquals(Float.floatToRawIntBits(expected.d), Float.floatToRawIntBits(actual.d));
    assertEquals(Float.floatToRawIntBits(expected.dmin), Float.floatToRawIntBits(actual.dmin));
    assertArrayEquals(expected.s, actual.s);
    assertArrayEquals(expected.m, actual.m);
  }

  /** Any scales that the type can hold, often the least or largest. */
  private static void draw(BlockGrid grid, Random random, BlockGrid.Scales scales) {
    scales.d = BlockGrid.nearestHalf((float) random.nextGaussian());
    scales.dmin = grid.hasMinimum() ? BlockGrid.nearestHalf((float) random.nextGaussian()) : 0;
    for (int g = 0; g < grid.groups(); g++) {
      scales.s[g] = draw(grid.leastScale(), grid.mostScale(), random);
      scales.m[g] = draw(grid.leastMinimum(), grid.mostMinimum(), random);
    }
  }

  private static byte draw(int least, int most, Random random) {
    int kind = random.nextInt(4);
    return (byte) (kind == 0 ? least : kind == 1 ? most : random.nextInt(least, most + 1));
  }

  private static byte[] randomBlocks(TensorType type, int count) {
    int size = type.blockBytes();
    byte[] blocks = new byte[SHIFT + size * count];
    Random random = new Random(43);
    random.nextBytes(blocks);
    for (int at = SHIFT; at < blocks.length; at += size) {
      while (RowValidator.firstInvalidBlock(type, blocks, at, 1) >= 0) {
        byte[] block = new byte[size];
        random.nextBytes(block);
        System.arraycopy(block, 0, blocks, at, size);
      }
    }
    return blocks;
  }

  /** 6-bit scales whose two high bits lie apart, worked out by hand from ggml's {@code block_q4_K}. */
  @Test
  void q4kByHand() {
    BlockGrid grid = grid(TensorType.Q4_K);
    BlockGrid.Scales scales = grid.newScales();
    scales.d = 1;
    scales.dmin = 0.5f;
    System.arraycopy(new byte[] { 1, 2, 3, 63, 63, 0x10, 0x0F, 0x21 }, 0, scales.s, 0, 8);
    System.arraycopy(new byte[] { 63, 6, 7, 8, 0, 0x2A, 63, 0x1F }, 0, scales.m, 0, 8);
    byte[] codes = new byte[256];
    codes[0] = 5;
    codes[32] = 10;
    codes[65] = 3;
    codes[255] = 15;
    byte[] expected = new byte[144];
    System.arraycopy(bytes("003c 0038 c14203bf 3f86c748 0fa0fff1"), 0, expected, 0, 16);
    expected[16] = (byte) 0xA5;
    expected[16 + 33] = 3;
    expected[143] = (byte) 0xF0;
    assertArrayEquals(expected, write(grid, scales, codes));
  }

  /** A code's high bit lies apart and its absence means minus 4; scales are stored with 32 added. */
  @Test
  void q3kByHand() {
    BlockGrid grid = grid(TensorType.Q3_K);
    BlockGrid.Scales scales = grid.newScales();
    scales.d = -2;
    Arrays.fill(scales.s, (byte) -32);
    scales.s[0] = 31;
    scales.s[8] = 1;
    scales.s[13] = -1;
    scales.s[15] = 31;
    byte[] codes = new byte[256];
    codes[0] = 7;
    codes[1] = 4;
    codes[33] = 3;
    codes[96] = 2;
    codes[255] = 7;
    byte[] expected = new byte[110];
    expected[0] = 1;
    expected[1] = 1;
    expected[31] = (byte) 0x80;
    expected[32] = (byte) 0x83;
    expected[33] = 0x0C;
    expected[95] = (byte) 0xC0;
    // stored: 63, 0 ..., [8] 33, [13] 31, [15] 63; low nibbles F, 1, F, F; high pairs 3, 2, 1, 3
    System.arraycopy(bytes("1f000000 00f000f0 234000c0 00c0"), 0, expected, 96, 14);
    assertArrayEquals(expected, write(grid, scales, codes));
  }

  @Test
  void iq4xsByHand() {
    BlockGrid grid = grid(TensorType.IQ4_XS);
    BlockGrid.Scales scales = grid.newScales();
    scales.d = 0.5f;
    System.arraycopy(new byte[] { -32, 31, 0, -1, 1, -31, 16, -16 }, 0, scales.s, 0, 8);
    byte[] codes = new byte[256];
    codes[0] = 1;
    codes[16] = 15;
    codes[255] = 9;
    byte[] expected = new byte[136];
    // stored: 0, 63, 32, 31, 33, 1, 48, 16; high pairs 0, 3, 2, 1 and 2, 0, 3, 1
    System.arraycopy(bytes("0038 6c72 f0f01100"), 0, expected, 0, 8);
    expected[8] = (byte) 0xF1;
    expected[135] = (byte) 0x90;
    assertArrayEquals(expected, write(grid, scales, codes));
  }

  @Test
  void q51ByHand() {
    BlockGrid grid = grid(TensorType.Q5_1);
    BlockGrid.Scales scales = grid.newScales();
    scales.d = 1;
    scales.dmin = 2;
    byte[] codes = new byte[32];
    codes[0] = 31;
    codes[15] = 16;
    codes[16] = 4;
    codes[31] = 24;
    // the minimum that is stored is added: -2
    byte[] expected = bytes("003c 00c0 01800080 4f0000000000000000000000 00000080");
    assertArrayEquals(expected, write(grid, scales, codes));
  }

  @Test
  void q80KeepsTheLeastByte() {
    BlockGrid grid = grid(TensorType.Q8_0);
    byte[] block = new byte[34];
    block[2] = Byte.MIN_VALUE;
    block[3] = -1;
    block[4] = Byte.MAX_VALUE;
    byte[] codes = new byte[32];
    grid.readCodes(block, 0, codes, 0);
    assertEquals(0, codes[0]);
    assertEquals(127, codes[1]);
    assertEquals((byte) 255, codes[2]);
    byte[] written = new byte[34];
    grid.writeCodes(codes, 0, written, 0);
    assertArrayEquals(block, written);
  }

  private static byte[] write(BlockGrid grid, BlockGrid.Scales scales, byte[] codes) {
    byte[] block = new byte[grid.type().blockBytes()];
    grid.writeCodes(codes, 0, block, 0);
    grid.writeScales(scales, block, 0);
    return block;
  }

  private static byte[] bytes(String hex) {
    return HexFormat.of().parseHex(hex.replace(" ", ""));
  }

  @Test
  void halvesAreRoundedToNearestEven() {
    assertEquals(1, BlockGrid.nearestHalf(1 + 0x1p-11f));
    assertEquals(1 + 0x1p-9f, BlockGrid.nearestHalf(1 + 0x3p-11f));
    assertEquals(0x1p-24f, BlockGrid.nearestHalf(0x1.8p-25f));
    assertEquals(0, BlockGrid.nearestHalf(0x1p-25f));
    assertEquals(65504, BlockGrid.nearestHalf(Math.nextDown(65520f)));
    assertEquals(Float.POSITIVE_INFINITY, BlockGrid.nearestHalf(65520));
    assertTrue(Float.isNaN(BlockGrid.nearestHalf(Float.NaN)));

    BlockGrid grid = grid(TensorType.Q2_K);
    byte[] block = new byte[84];
    BlockGrid.Scales scales = grid.newScales();
    scales.d = 1 + 0x1p-11f;
    scales.dmin = -65519;
    grid.writeScales(scales, block, 0);
    grid.readScales(block, 0, scales);
    assertEquals(1, scales.d);
    assertEquals(-65504, scales.dmin);
  }

  @ParameterizedTest
  @MethodSource("types")
  void refusedScalesAreNotWritten(TensorType type) {
    BlockGrid grid = grid(type);
    for (float bad : new float[] { 65520, -65520, Float.POSITIVE_INFINITY, Float.NaN }) {
      refused(grid, scales -> scales.d = bad, "d is " + bad);
      refused(grid, scales -> scales.dmin = bad, "dmin is " + bad);
    }
    if (!grid.hasMinimum()) {
      refused(grid, scales -> scales.dmin = 1, type + ": dmin is 1.0, expected 0");
    }
    int last = grid.groups() - 1;
    for (int s : new int[] { grid.leastScale() - 1, grid.mostScale() + 1 }) {
      if (s == (byte) s) {
        refused(grid, scales -> scales.s[last] = (byte) s, type + ": s of group " + last + " is " + s + ", expected ");
      }
    }
    for (int m : new int[] { grid.leastMinimum() - 1, grid.mostMinimum() + 1 }) {
      refused(grid, scales -> scales.m[last] = (byte) m, type + ": m of group " + last + " is " + m + ", expected ");
    }
  }

  @FunctionalInterface
  private interface Spoiler {
    void spoil(BlockGrid.Scales scales);
  }

  private static void refused(BlockGrid grid, Spoiler spoiler, String message) {
    byte[] block = new byte[grid.type().blockBytes()];
    new Random(47).nextBytes(block);
    byte[] before = block.clone();
    BlockGrid.Scales scales = grid.newScales();
    spoiler.spoil(scales);
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> grid.writeScales(scales, block, 0));
    assertTrue(e.getMessage().contains(message), e.getMessage());
    assertArrayEquals(before, block);
  }

  @ParameterizedTest
  @MethodSource("types")
  void refusedCodesAreNotWritten(TensorType type) {
    BlockGrid grid = grid(type);
    int n = type.blockLength();
    byte[] codes = new byte[n + 1];
    byte[] block = new byte[type.blockBytes()];
    Arrays.fill(block, (byte) 0x5A);
    byte[] before = block.clone();
    int levels = grid.levels().length;
    for (int bad : levels == 256 ? new int[0] : new int[] { levels, 128, 255 }) {
      codes[n] = (byte) bad;
      IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () ->
        grid.writeCodes(codes, 1, block, 0)
      );
      assertEquals(
        type + ": code of weight " + (n - 1) + " is " + bad + ", expected 0 to " + (levels - 1),
        e.getMessage()
      );
      assertArrayEquals(before, block);
    }
    // What lies beyond the block is none of its codes.
    grid.writeCodes(codes, 0, block, 0);
    assertFalse(Arrays.equals(before, block));
  }

  @ParameterizedTest
  @MethodSource("types")
  void blocksOutsideTheirArraysAreRefused(TensorType type) {
    BlockGrid grid = grid(type);
    byte[] block = new byte[type.blockBytes()];
    byte[] codes = new byte[type.blockLength()];
    BlockGrid.Scales scales = grid.newScales();
    for (int at : new int[] { -1, 1, Integer.MAX_VALUE }) {
      assertThrows(IndexOutOfBoundsException.class, () -> grid.readScales(block, at, scales));
      assertThrows(IndexOutOfBoundsException.class, () -> grid.writeScales(scales, block, at));
      assertThrows(IndexOutOfBoundsException.class, () -> grid.readCodes(block, at, codes, 0));
      assertThrows(IndexOutOfBoundsException.class, () -> grid.readCodes(block, 0, codes, at));
      assertThrows(IndexOutOfBoundsException.class, () -> grid.writeCodes(codes, at, block, 0));
      assertThrows(IndexOutOfBoundsException.class, () -> grid.writeCodes(codes, 0, block, at));
    }
    for (int groups : List.of(1, 8, 16)) {
      if (groups != grid.groups()) {
        TensorType other = groups == 1 ? TensorType.Q4_0 : groups == 8 ? TensorType.Q4_K : TensorType.Q2_K;
        BlockGrid.Scales others = grid(other).newScales();
        String message = type + ": scales of " + groups + " groups, expected " + grid.groups();
        assertEquals(
          message,
          assertThrows(IllegalArgumentException.class, () -> grid.readScales(block, 0, others)).getMessage()
        );
        assertEquals(
          message,
          assertThrows(IllegalArgumentException.class, () -> grid.writeScales(others, block, 0)).getMessage()
        );
      }
    }
  }

  private static BlockGrid grid(TensorType type) {
    return BlockGrid.of(type).orElseThrow();
  }
}
