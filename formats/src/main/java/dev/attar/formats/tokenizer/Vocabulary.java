package dev.attar.formats.tokenizer;

import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The tokens of a model by number, with a score and a kind each. Grows at the end; every entry can be replaced. */
final class Vocabulary {

  private final Path file;
  private final List<String> texts = new ArrayList<>();
  private final List<Float> scores = new ArrayList<>();
  private final List<TokenType> types = new ArrayList<>();

  /**
   * @param file where tokens come from, for messages
   */
  Vocabulary(Path file) {
    this.file = file;
  }

  int size() {
    return texts.size();
  }

  void add(String text, float score, TokenType type) throws FormatException {
    texts.add(requireText(text));
    scores.add(score);
    types.add(type);
  }

  void set(int id, String text, float score, TokenType type) throws FormatException {
    texts.set(id, requireText(text));
    scores.set(id, score);
    types.set(id, type);
  }

  /** Adds {@code [PADn]} tokens up to a size. */
  void pad(int size, float score) throws FormatException {
    while (size() < size) {
      add("[PAD" + size() + "]", score, TokenType.UNUSED);
    }
  }

  void writeTokens(Map<String, MetadataValue> out) {
    out.put("tokenizer.ggml.tokens", MetadataValue.strings(texts));
  }

  void writeScores(Map<String, MetadataValue> out) {
    float[] values = new float[scores.size()];
    for (int i = 0; i < values.length; i++) {
      values[i] = scores.get(i);
    }
    out.put("tokenizer.ggml.scores", MetadataValue.float32s(values));
  }

  void writeTypes(Map<String, MetadataValue> out) {
    out.put("tokenizer.ggml.token_type", MetadataValue.int32s(types.stream().mapToInt(TokenType::id).toArray()));
  }

  private String requireText(String text) throws FormatException {
    return requireText(file, "token " + size(), text);
  }

  /** The text, if it can be written as UTF-8: lone surrogates cannot. */
  static String requireText(Path file, String place, String text) throws FormatException {
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
        i++;
      } else if (Character.isSurrogate(c)) {
        throw new FormatException(file, place, "a lone surrogate", "text");
      }
    }
    return text;
  }
}
