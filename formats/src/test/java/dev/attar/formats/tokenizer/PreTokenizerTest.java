package dev.attar.formats.tokenizer;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.FormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** Pre-tokenizers as the tokenizers library writes them, and the names that llama.cpp has for them. */
class PreTokenizerTest {

  private static final ObjectMapper MAPPER = new ObjectMapper();

  private static final String LLAMA_3 =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final String QWEN_2 = LLAMA_3.replace("{1,3}", "");
  private static final String TEKKEN =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final String GPT_4O =
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final Map<String, Object> BYTE_LEVEL = byteLevel(false);

  @Test
  void regexAndMergesTellLlamaFromItsKin() throws IOException {
    assertEquals("llama-bpe", recognize(true, null, split(LLAMA_3), BYTE_LEVEL));
    assertEquals("smaug-bpe", recognize(false, null, split(LLAMA_3), BYTE_LEVEL));
    assertEquals("qwen2", recognize(false, null, split(QWEN_2), BYTE_LEVEL));
    assertEquals("deepseek-r1-qwen", recognize(false, "<｜begin▁of▁sentence｜>", split(QWEN_2), BYTE_LEVEL));
    assertEquals("tekken", recognize(true, null, split(TEKKEN), BYTE_LEVEL));
    assertEquals("gpt-4o", recognize(false, null, split(GPT_4O), BYTE_LEVEL));
  }

  @Test
  void spellingDoesNotMatter() throws IOException {
    String spelledOut = LLAMA_3.replace(
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
      "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
    );
    assertEquals("llama-bpe", recognize(true, null, split(spelledOut), BYTE_LEVEL));
    assertEquals("qwen2", recognize(false, null, split(QWEN_2.replace("\\r", "\r").replace("\\n", "\n")), BYTE_LEVEL));
    Map<String, Object> removed = split(QWEN_2, "Removed", true);
    assertEquals("qwen2", recognize(false, null, removed, BYTE_LEVEL));
  }

  @Test
  void stepsWithoutRegexAreRecognized() throws IOException {
    assertEquals("gpt-2", recognize(false, null, byteLevel(true)));
    assertEquals("smollm", recognize(false, null, digits(true), byteLevel(true)));
  }

  @Test
  void deepSeekSplitsInManySteps() throws IOException {
    Map<String, Object> chinese = split("[一-龥ࠀ-一가-퟿]+");
    assertEquals(
      "deepseek-coder",
      recognize(
        false,
        null,
        split("[\r\n]"),
        split("\\s?\\p{L}+"),
        split("\\s?\\p{P}+"),
        chinese,
        digits(true),
        BYTE_LEVEL
      )
    );
    assertEquals(
      "deepseek-v3",
      recognize(
        false,
        null,
        split("\\p{N}{1,3}"),
        split("[一-龥぀-ゟ゠-ヿ]+"),
        split(
          "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
        ),
        BYTE_LEVEL
      )
    );
  }

  @Test
  void unknownOneIsShownWithTheKnownOnes() {
    FormatException e = assertThrows(FormatException.class, () ->
      recognize(false, null, split("[^\n]+|\n"), BYTE_LEVEL)
    );
    String expected = "found split [^\\n]+|\\n, byte-level, expected that of llama-bpe, smaug-bpe, ";
    assertTrue(e.getMessage().contains(expected), e.getMessage());
    assertEquals(1, e.getMessage().lines().count());
    // Splits that drop or join what they find are something else.
    assertThrows(FormatException.class, () ->
      recognize(false, null, split(QWEN_2, "MergedWithNext", false), BYTE_LEVEL)
    );
  }

  private static Map<String, Object> split(String regex) {
    return split(regex, "Isolated", false);
  }

  private static Map<String, Object> split(String regex, String behavior, boolean invert) {
    return Map.of("type", "Split", "pattern", Map.of("Regex", regex), "behavior", behavior, "invert", invert);
  }

  private static Map<String, Object> digits(boolean individual) {
    return Map.of("type", "Digits", "individual_digits", individual);
  }

  private static Map<String, Object> byteLevel(boolean regex) {
    return Map.of("type", "ByteLevel", "add_prefix_space", false, "trim_offsets", true, "use_regex", regex);
  }

  @SafeVarargs
  private static String recognize(boolean ignoreMerges, String first, Map<String, Object>... steps) throws IOException {
    List<Object> single = new ArrayList<>();
    if (first != null) {
      single.add(Map.of("SpecialToken", Map.of("id", first, "type_id", 0)));
    }
    single.add(Map.of("Sequence", Map.of("id", "A", "type_id", 0)));
    Object pre = steps.length == 1 ? steps[0] : Map.of("type", "Sequence", "pretokenizers", List.of(steps));
    byte[] json = MAPPER.writeValueAsBytes(
      Map.of(
        "pre_tokenizer",
        pre,
        "post_processor",
        Map.of("type", "TemplateProcessing", "single", single),
        "model",
        Map.of("type", "BPE", "ignore_merges", ignoreMerges)
      )
    );
    String text = new String(json, StandardCharsets.UTF_8);
    return PreTokenizer.recognize(
      TokenizerJson.parse(Path.of("tokenizer.json"), text.getBytes(StandardCharsets.UTF_8))
    ).name();
  }
}
