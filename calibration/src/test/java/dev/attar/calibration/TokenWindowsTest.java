package dev.attar.calibration;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.MetadataValue;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.Tokens;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalLong;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TokenWindowsTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");

  @TempDir
  private static Path models;

  private static LlamaModel model;
  private static Tokens vocabulary;

  @TempDir
  private Path folder;

  @BeforeAll
  static void open() throws IOException {
    Path file = TestModels.convert(TestModels.EXPERTS, models.resolve("model.gguf"));
    model = LlamaModel.open(file, LlamaModel.Options.vocabulary());
    vocabulary = model.tokens();
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static TokenWindows read(Tokens vocabulary, long tokens, int context, Path... texts) throws IOException {
    return TokenWindows.read(vocabulary, List.of(texts), OptionalLong.of(tokens), context, () -> {});
  }

  /** The message with which texts are refused, for windows of 64 tokens. */
  private static String refusal(Path... texts) {
    String message = assertThrows(IOException.class, () -> read(vocabulary, 64, 64, texts)).getMessage();
    assertFalse(message.contains("\n"));
    return message;
  }

  private Path write(String name, String text) throws IOException {
    return Files.writeString(folder.resolve(name), text);
  }

  private static int[] encode(String text) {
    return vocabulary.encode(text.getBytes(StandardCharsets.UTF_8), true, false);
  }

  private static int[] tokens(TokenWindows windows, int window) {
    return IntStream.range(0, windows.window())
      .map(i -> windows.token(window, i))
      .toArray();
  }

  @Test
  void windowsAreThoseOfTheWholeTextWithABeginningEach() throws IOException {
    // Some characters of several bytes, so that the part that is read ends within one.
    Path text = write("a.txt", Files.readString(TEXT) + "é€😀".repeat(5000));
    int[] all = encode(Files.readString(text));
    for (long wanted : new long[] { 1, 2047, 2048, 20_000, 100_000 }) {
      TokenWindows windows = read(vocabulary, wanted, 1024, text);
      int count = (int) Math.max(1, Math.min(wanted, all.length) / 1024);
      assertEquals(count, windows.count());
      assertEquals(count * 1024, windows.tokens());
      for (int i = 0; i < count; i++) {
        int[] expected = Arrays.copyOfRange(all, i * 1024, (i + 1) * 1024);
        expected[0] = vocabulary.bos().orElseThrow();
        assertEquals(Arrays.toString(expected), Arrays.toString(tokens(windows, i)));
      }
    }
  }

  @Test
  void documentsFollowOneAnother() throws IOException {
    Path a = write("a.txt", "the hen in the wood");
    Path b = write("b.jsonl", "{\"text\": \"the énd\"}\n\n{\"id\": 1, \"text\": \"\"}\r\n{\"text\": \"wood\"}");
    int[] expected = Stream.of("the hen in the wood", "the énd", "wood")
      .flatMapToInt(text -> Arrays.stream(encode(text)))
      .toArray();
    int n = expected.length;
    TokenWindows windows = read(vocabulary, 1000, n, a, b);
    assertEquals(Arrays.toString(expected), Arrays.toString(tokens(windows, 0)));
    int wanted = (1000 / n) * n;
    assertEquals(
      List.of(
        a + ", " + b + ": " + n + " tokens, fewer than the " + wanted + " asked for: 1 windows of " + n + " are used"
      ),
      windows.warnings()
    );
    assertEquals(List.of(), read(vocabulary, n, n, a, b).warnings());
    String message = assertThrows(IOException.class, () -> read(vocabulary, 1000, n + 1, a, b)).getMessage();
    assertEquals(
      a + ", " + b + ": " + n + " tokens, expected at least " + (n + 1) + ", the length of a window",
      message
    );
  }

  @Test
  void unknownTokensAreRefusedOrWarnedOf() throws IOException {
    Path text = write("a.txt", "the hen in the wood ".repeat(20));
    try (LlamaModel none = withUnknownTokens("none.gguf", 330)) {
      String message = assertThrows(IOException.class, () -> read(none.tokens(), 64, 64, text)).getMessage();
      assertEquals(
        text +
          ": 63 of 64 tokens are unknown to the model's vocabulary, the rest are beginnings of texts: " +
          "nothing can be learnt from them",
        message
      );
    }
    // Some pieces are known.
    try (LlamaModel few = withUnknownTokens("few.gguf", 300)) {
      List<String> warnings = new ArrayList<>(read(few.tokens(), 64, 64, text).warnings());
      assertEquals(1, warnings.size());
      assertTrue(
        warnings.getFirst().endsWith(" of 64 tokens are unknown to the model's vocabulary"),
        warnings::toString
      );
    }
  }

  /** The model, with all tokens but the first three unknown ones up to a number. */
  private LlamaModel withUnknownTokens(String name, int end) throws IOException {
    Path file = TestModels.convert(
      TestModels.EXPERTS,
      folder.resolve(name),
      metadata -> {
        long[] types = (long[]) metadata.get("tokenizer.ggml.token_type").orElseThrow().value();
        Arrays.fill(types, 3, end, 2);
        return metadata.with(
          "tokenizer.ggml.token_type",
          MetadataValue.int32s(
            Arrays.stream(types)
              .mapToInt(type -> (int) type)
              .toArray()
          )
        );
      },
      (_, values) -> values
    );
    return LlamaModel.open(file, LlamaModel.Options.vocabulary());
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    quoteCharacter = '`',
    value = {
      "{'text': 'a'}             | , character 2: found ''text': 'a'}'",
      "{\"text\": nope}           | , character 10: found 'nope}'",
      "{\"text\": \"a\tb\"}         | , character 12: found '?b\"}'",
      "{\"text\": \"a\"} {\"text\": \"and more than is shown\"} | , character 15: found '{\"text\": \"and more t'",
      "{\"text\": \"a\"} x          | , character 15: found 'x'",
      "{\"text\": \"a\", \"text\": 1} | , before character 23: found a key for the second time",
      "{\"text\": [[[[               | , character 14: found the end",
      "Once upon a time           | , character 1: found 'Once upon a time'"
    }
  )
  void linesThatAreNotJson(String line, String found) throws IOException {
    Path lines = write("lines.jsonl", "{\"text\": \"a\"}\n" + line + "\n");
    assertEquals(lines + ": line 2" + found + ", expected a JSON object", refusal(lines));
  }

  @Test
  void aLineThatIsNestedTooDeeply() throws IOException {
    Path lines = write("lines.jsonl", "{\"text\": " + "[".repeat(1000));
    String expected = ": line 1: found values that are too long or nested too deeply, expected a JSON object";
    assertEquals(lines + expected, refusal(lines));
  }

  @Test
  void fewDifferentTokensAreWarnedOf() throws IOException {
    Path one = write("one.txt", "e".repeat(4000));
    List<String> warnings = read(vocabulary, 512, 512, one).warnings();
    assertEquals(1, warnings.size(), warnings::toString);
    assertTrue(
      warnings.getFirst().matches(".*one\\.txt: [1-5] different tokens? in 512, expected at least 16: .*"),
      warnings::toString
    );
    // In a short text there cannot be many.
    assertEquals(List.of(), read(vocabulary, 16, 16, write("short.txt", "the hen in the wood ".repeat(4))).warnings());
    assertEquals(List.of(), read(vocabulary, 512, 512, TEXT).warnings());
  }

  @Test
  void textsThatAreNoneAreRefused() throws IOException {
    Path latin = Files.write(folder.resolve("latin.txt"), new byte[] { 'a', 'b', (byte) 0xE9, 'c' });
    assertEquals(latin + ": byte 2: found e9, expected UTF-8 text", refusal(TEXT, latin));
    Path missing = folder.resolve("missing.txt");
    assertEquals(missing + ": no such file", refusal(missing));
    assertEquals(folder + ": not a regular file, expected text in UTF-8", refusal(folder));
    Path empty = write("empty.txt", "");
    assertEquals(empty + ": 0 tokens, expected at least 64, the length of a window", refusal(empty));
    Path lines = write("lines.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
    assertEquals(
      lines + ": line 2: found a number as \"text\", expected an object with a string \"text\"",
      refusal(lines)
    );
    Path without = write("without.jsonl", "{\"id\": 3}\n");
    assertEquals(
      without + ": line 1: found no key \"text\", expected an object with a string \"text\"",
      refusal(without)
    );
    Path cut = write("cut.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"b");
    assertEquals(cut + ": line 3, character 12: found the end, expected a JSON object", refusal(cut));
    Path array = write("array.jsonl", "[1]");
    assertEquals(array + ": line 1: found array, expected a JSON object", refusal(array));
    Path bytes = Files.write(folder.resolve("bytes.jsonl"), "{\"text\": \"é\"}".getBytes(StandardCharsets.ISO_8859_1));
    assertEquals(bytes + ": line 1, byte 10: found e9, expected UTF-8 text", refusal(bytes));
  }
}
