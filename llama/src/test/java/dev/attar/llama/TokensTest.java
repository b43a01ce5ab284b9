package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class TokensTest {

  private static LlamaModel model;
  private static Tokens tokens;

  @BeforeAll
  static void open() throws IOException {
    model = LlamaModel.open(LlamaContextTest.TINY.resolve("model.gguf"), LlamaModel.Options.vocabulary());
    tokens = model.tokens();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  @Test
  void knowsTheVocabulary() {
    assertEquals(330, tokens.size());
    assertTrue(tokens.addsBos());
    assertFalse(tokens.addsEos());
    assertEquals(OptionalInt.of(1), tokens.bos());
    assertEquals(OptionalInt.of(2), tokens.eos());
    assertEquals("</s>", tokens.text(2));
    assertEquals("▁the", tokens.text(264));
    assertEquals("<0xFF>", tokens.text(259));
    assertTrue(tokens.isEndOfGeneration(2));
    assertFalse(tokens.isEndOfGeneration(264));
    assertTrue(tokens.isUnknown(0));
    assertFalse(tokens.isUnknown(1));
    assertFalse(tokens.isUnknown(264));
    assertThrows(IllegalArgumentException.class, () -> tokens.isUnknown(330));
  }

  @Test
  void givesTheTokensOfTheReference() {
    Map<String, int[]> expected = Map.of(
      "the hen in the wood",
      new int[] { 264, 292, 261, 297, 280, 264, 267, 298, 298, 302 },
      "Hello wörld 😀 the end.",
      new int[] {
        292,
        328,
        293,
        303,
        303,
        298,
        267,
        199,
        186,
        301,
        303,
        302,
        292,
        244,
        163,
        156,
        132,
        264,
        292,
        293,
        275,
        315
      },
      "two spaces\n\tand a tab",
      new int[] { 260, 308, 298, 265, 312, 294, 304, 293, 300, 14, 13, 294, 275, 263, 260, 294, 311 },
      "日本語 ½ ok",
      new int[] { 292, 234, 155, 169, 234, 160, 176, 236, 174, 162, 292, 198, 193, 266, 316 },
      "",
      new int[0]
    );
    expected.forEach((text, ids) -> assertArrayEquals(ids, tokens.encode(text, false, false), text));
  }

  @Test
  void addsAndReadsSpecialTokens() {
    assertArrayEquals(new int[] { 1, 264 }, tokens.encode("the", true, false));
    assertArrayEquals(new int[] { 1, 2 }, tokens.encode("</s>", true, true));
    assertTrue(tokens.encode("</s>", false, false).length > 1);
    assertEquals(" the", tokens.decode(new int[] { 1, 264 }, true, true));
    assertEquals("the", tokens.decode(new int[] { 264 }, true, true));
    assertEquals("<s> the</s>", tokens.decode(new int[] { 1, 264, 2 }, false, true));
    assertEquals("", tokens.decode(new int[] { 1, 2 }, false, false));
  }

  @ParameterizedTest
  @ValueSource(
    strings = { "", "a", "the hen", "Grüße, 😀👩‍👩‍👧! \u0000\u0001 zero", "tab\tand\nline\r\n", "日本語", "é e\u0301" }
  )
  void decodesWhatItEncoded(String text) {
    assertEquals(text, tokens.decode(tokens.encode(text, false, false), true, false));
  }

  @Test
  void takesBytesThatAreNoText() {
    Random random = new Random(1);
    for (int round = 0; round < 200; round++) {
      byte[] bytes = new byte[random.nextInt(100)];
      random.nextBytes(bytes);
      for (int token : tokens.encode(bytes, true, true)) {
        assertTrue(token >= 0 && token < tokens.size());
      }
    }
    // The byte tokens keep what is no UTF-8; only the text does not.
    assertArrayEquals(
      new int[] { 292, 4 + 0xff, 4 + 0xc3 },
      tokens.encode(new byte[] { -1, (byte) 0xc3 }, false, false)
    );
    assertEquals("��", tokens.decode(new int[] { 4 + 0xff, 4 + 0xc3 }, true, false));
    assertEquals("ö", tokens.decode(new int[] { 4 + 0xc3, 4 + 0xb6 }, true, false));
  }

  @Test
  void aTextCanHaveMoreTokensThanBytes(@TempDir Path temp) throws IOException {
    // A vocabulary whose token for a space is another one: a space becomes the three bytes of U+2581.
    String file = Files.readString(LlamaContextTest.TINY.resolve("model.gguf"), StandardCharsets.ISO_8859_1);
    String length = "\3\0\0\0\0\0\0\0";
    String space = length + new String("\u2581".getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1);
    assertEquals(file.indexOf(space), file.lastIndexOf(space));
    Path spaceless = temp.resolve("spaceless.gguf");
    Files.writeString(spaceless, file.replace(space, length + "xyz"), StandardCharsets.ISO_8859_1);
    try (LlamaModel other = LlamaModel.open(spaceless, LlamaModel.Options.vocabulary())) {
      String text = "Z".repeat(3) + " ".repeat(1000);
      int[] ids = other.tokens().encode(text, false, false);
      assertEquals(3 * 1001 + 3, ids.length);
      assertArrayEquals(
        new int[] { 4 + 0xe2, 4 + 0x96, 4 + 0x81 },
        Arrays.copyOfRange(ids, ids.length - 3, ids.length)
      );
    }
  }

  @Test
  void aTokenCanHaveManyBytes() {
    String text = "[INST]".repeat(1000);
    int[] ids = new int[1000];
    Arrays.fill(ids, 3);
    assertEquals(text, tokens.decode(ids, false, true));
  }

  @Test
  void longTextsAreOneText() {
    String text = "the hen and the fox ran into the wood; she said it was of no use. ".repeat(20_000);
    int[] ids = tokens.encode(text, false, false);
    assertEquals(text, tokens.decode(ids, true, false));
    assertTrue(ids.length > text.getBytes(StandardCharsets.UTF_8).length / 3);
  }

  @ParameterizedTest
  @ValueSource(ints = { -1, 330, Integer.MAX_VALUE, Integer.MIN_VALUE })
  void refusesWhatIsNoToken(int token) {
    assertThrows(IllegalArgumentException.class, () -> tokens.text(token));
    assertThrows(IllegalArgumentException.class, () -> tokens.isEndOfGeneration(token));
    assertThrows(IllegalArgumentException.class, () -> tokens.decode(new int[] { 1, token }, false, false));
  }

  /** Whose pre-tokenizer's regular expressions would overflow the stack of an ordinary thread. */
  @Test
  void longWordsAreNoTrap() throws IOException {
    try (
      LlamaModel other = LlamaModel.open(LlamaContextTest.TINY.resolve("bytes.gguf"), LlamaModel.Options.vocabulary())
    ) {
      for (String word : List.of("a", " ", "中", "!")) {
        String text = word.repeat(300_000);
        int[] ids = other.tokens().encode(text, false, false);
        assertEquals(text.getBytes(StandardCharsets.UTF_8).length, ids.length);
        assertEquals(text, other.tokens().decode(ids, false, false));
      }
    }
  }

  @Test
  void aModelCanComeWithoutAVocabulary() throws IOException {
    try (
      LlamaModel other = LlamaModel.open(LlamaContextTest.TINY.resolve("gpt2.gguf"), LlamaModel.Options.defaults())
    ) {
      assertEquals(40, other.tokens().size());
      assertThrows(IllegalStateException.class, () -> other.tokens().encode("a", false, false));
      assertThrows(IllegalStateException.class, () -> other.tokens().decode(new int[] { 1 }, false, false));
      assertThrows(IllegalStateException.class, () -> other.tokens().text(1));
      assertThrows(IllegalStateException.class, () -> other.tokens().isEndOfGeneration(1));
    }
  }

  @Test
  void aClosedModelHasNoTokens() throws IOException {
    LlamaModel closed = LlamaModel.open(LlamaContextTest.TINY.resolve("model.gguf"), LlamaModel.Options.vocabulary());
    closed.close();
    assertEquals(330, closed.tokens().size());
    assertThrows(IllegalStateException.class, () -> closed.tokens().encode("a", false, false));
    assertThrows(IllegalStateException.class, () -> closed.tokens().decode(new int[] { 1 }, false, false));
    assertThrows(IllegalStateException.class, () -> closed.tokens().text(1));
    assertThrows(IllegalStateException.class, () -> closed.tokens().isEndOfGeneration(1));
  }
}
