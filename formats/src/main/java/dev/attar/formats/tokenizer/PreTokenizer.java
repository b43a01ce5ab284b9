package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * A way to split text before byte-level BPE, by the name that llama.cpp knows it under ({@code tokenizer.ggml.pre}).
 *
 * <p>It is recognised by the steps of {@code pre_tokenizer} in {@code tokenizer.json}. Where llama.cpp has several names for the
 * same steps, the first of {@link #KNOWN} whose condition holds is taken: one that makes llama.cpp tokenize the same.
 *
 * @param name llama.cpp's name
 * @param steps the steps: {@code split REGEX}, {@code digits}, {@code digits one by one}, {@code byte-level} with or without
 *     {@code regex}
 * @param condition what else must hold
 */
record PreTokenizer(String name, List<String> steps, Predicate<TokenizerJson> condition) {
  private static final String CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
  private static final String BREAKS = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  private static final String SYMBOLS = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|";
  private static final String WORDS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+";
  private static final String UPPER = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
  private static final String LOWER = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  private static final String CASED =
    "[^\\r\\n\\p{L}\\p{N}]?" + UPPER + "*" + LOWER + "+%s|[^\\r\\n\\p{L}\\p{N}]?" + UPPER + "+" + LOWER + "*%s|";
  private static final String CJK = "[一-龥぀-ゟ゠-ヿ]+";
  private static final String BYTE_LEVEL = "byte-level";
  private static final String BYTE_LEVEL_REGEX = "byte-level regex";

  private static final String DEEPSEEK_LETTERS =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴ" +
    "ᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
  private static final String DEEPSEEK_CJK = "[一-龥ࠀ-一가-퟿]+";
  private static final String PUNCTUATED_WORDS =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|";

  private static final String LLAMA_3 = CONTRACTIONS + "|" + WORDS + "|\\p{N}{1,3}" + SYMBOLS + BREAKS;
  private static final String QWEN_2 = CONTRACTIONS + "|" + WORDS + "|\\p{N}" + SYMBOLS + BREAKS;

  /** All that are recognised. */
  static final List<PreTokenizer> KNOWN = List.of(
    of("llama-bpe", PreTokenizer::ignoresMerges, split(LLAMA_3), BYTE_LEVEL),
    of("smaug-bpe", split(LLAMA_3), BYTE_LEVEL),
    of("deepseek-r1-qwen", PreTokenizer::beginsLikeDeepSeek, split(QWEN_2), BYTE_LEVEL),
    of("qwen2", split(QWEN_2), BYTE_LEVEL),
    of("ufakzeka", split(WORDS + "|\\p{N}" + SYMBOLS + BREAKS), BYTE_LEVEL),
    of(
      "qwen35",
      split(
        CONTRACTIONS + "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" + BREAKS
      ),
      BYTE_LEVEL
    ),
    of("tekken", split(CASED.formatted("", "") + "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" + BREAKS), BYTE_LEVEL),
    of(
      "gpt-4o",
      split(
        CASED.formatted(CONTRACTIONS + "?", CONTRACTIONS + "?") +
          "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" +
          BREAKS
      ),
      BYTE_LEVEL
    ),
    of(
      "seed-coder",
      split(CONTRACTIONS + "|" + WORDS + "|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" + BREAKS),
      BYTE_LEVEL
    ),
    of(
      "minicpm5",
      PreTokenizer::ignoresMerges,
      split("\\p{N}{1,3}"),
      split(CONTRACTIONS + "|" + WORDS + "|\\p{N}+" + SYMBOLS + BREAKS),
      BYTE_LEVEL
    ),
    of(
      "bailingmoe",
      split(
        "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
      ),
      BYTE_LEVEL
    ),
    of("deepseek-v3", split("\\p{N}{1,3}"), split(CJK), split(PUNCTUATED_WORDS + BREAKS), BYTE_LEVEL),
    of(
      "deepseek-llm",
      split("[\\r\\n]"),
      split(DEEPSEEK_LETTERS),
      split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
      split("\\s+$"),
      split(DEEPSEEK_CJK),
      "digits one by one",
      BYTE_LEVEL
    ),
    of(
      "deepseek-llm",
      split("[\\r\\n]"),
      split(DEEPSEEK_LETTERS),
      split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
      split("\\s+$"),
      split(DEEPSEEK_CJK),
      split("\\p{N}+"),
      BYTE_LEVEL
    ),
    of(
      "deepseek-llm",
      split("[\\r\\n]"),
      split(DEEPSEEK_LETTERS),
      split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"),
      split("\\s+$"),
      split(DEEPSEEK_CJK),
      "digits",
      BYTE_LEVEL
    ),
    of(
      "deepseek-coder",
      split("[\\r\\n]"),
      split("\\s?\\p{L}+"),
      split("\\s?\\p{P}+"),
      split(DEEPSEEK_CJK),
      "digits one by one",
      BYTE_LEVEL
    ),
    of(
      "deepseek-coder",
      split("[\\r\\n]"),
      split("\\s?\\p{L}+"),
      split("\\s?\\p{P}+"),
      split(DEEPSEEK_CJK),
      split("\\p{N}"),
      BYTE_LEVEL
    ),
    of("smollm", "digits one by one", BYTE_LEVEL_REGEX),
    of("gpt-2", BYTE_LEVEL_REGEX)
  );

  /**
   * The pre-tokenizer of a tokenizer.
   *
   * @throws FormatException if it is none of {@link #KNOWN}
   */
  static PreTokenizer recognize(TokenizerJson json) throws FormatException {
    List<String> steps = new ArrayList<>();
    addSteps(json.part("pre_tokenizer"), steps);
    for (PreTokenizer known : KNOWN) {
      if (known.steps.equals(steps) && known.condition.test(json)) {
        return known;
      }
    }
    String found = steps.stream().collect(Collectors.joining(", ")).replace("\r", "\\r").replace("\n", "\\n");
    String names = KNOWN.stream().map(PreTokenizer::name).distinct().collect(Collectors.joining(", "));
    throw new FormatException(json.file(), "pre_tokenizer", found.isEmpty() ? "none" : found, "that of " + names);
  }

  private static PreTokenizer of(String name, String... steps) {
    return of(name, _ -> true, steps);
  }

  private static PreTokenizer of(String name, Predicate<TokenizerJson> condition, String... steps) {
    return new PreTokenizer(name, List.of(steps), condition);
  }

  private static String split(String regex) {
    return "split " + regex;
  }

  private static void addSteps(JsonNode pre, List<String> steps) {
    switch (pre.path("type").asText("")) {
      case "" -> {
        // No pre-tokenizer, no steps.
      }
      case "Sequence" -> pre.path("pretokenizers").forEach(step -> addSteps(step, steps));
      case "Split" -> steps.add(splitStep(pre));
      case "Digits" -> steps.add(pre.path("individual_digits").asBoolean(false) ? "digits one by one" : "digits");
      case "ByteLevel" -> steps.add(byteLevelStep(pre));
      default -> steps.add(pre.toString());
    }
  }

  private static String splitStep(JsonNode pre) {
    JsonNode regex = pre.path("pattern").path("Regex");
    boolean inverted = pre.path("invert").asBoolean(false);
    // To keep what matches and to drop what lies between is to isolate matches, for a regex that matches everything.
    boolean isolates = switch (pre.path("behavior").asText("")) {
      case "Isolated" -> !inverted;
      case "Removed" -> inverted;
      default -> false;
    };
    return regex.isTextual() && isolates ? split(canonical(regex.textValue())) : pre.toString();
  }

  private static String byteLevelStep(JsonNode pre) {
    if (pre.path("add_prefix_space").asBoolean(false)) {
      return pre.toString();
    }
    return pre.path("use_regex").asBoolean(true) ? BYTE_LEVEL_REGEX : BYTE_LEVEL;
  }

  /** The same regex in one spelling: line breaks escaped, contractions without regard to case spelled as an inline flag. */
  private static String canonical(String regex) {
    return regex
      .replace("\r", "\\r")
      .replace("\n", "\\n")
      .replace("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", CONTRACTIONS);
  }

  private static boolean ignoresMerges(TokenizerJson json) {
    return json.model().path("ignore_merges").asBoolean(false);
  }

  private static boolean beginsLikeDeepSeek(TokenizerJson json) {
    JsonNode post = json.part("post_processor");
    for (JsonNode processor : post.has("processors") ? post.path("processors") : List.of(post)) {
      if (
        processor.path("single").path(0).path("SpecialToken").path("id").asText("").equals("<｜begin▁of▁sentence｜>")
      ) {
        return true;
      }
    }
    return false;
  }
}
