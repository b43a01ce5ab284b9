package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A {@code tokenizer.json} of the tokenizers library. The two big parts, vocabulary and merges, are read token by token. */
final class TokenizerJson {

  /** Token numbers from here on are refused. */
  static final int MAX_TOKENS = 1 << 24;

  private final Path file;
  private final Map<String, Integer> vocabulary = new LinkedHashMap<>();
  private final List<String> merges = new ArrayList<>();
  private final ObjectNode model = JsonNodeFactory.instance.objectNode();
  private final ObjectNode rest = JsonNodeFactory.instance.objectNode();

  private TokenizerJson(Path file) {
    this.file = file;
  }

  /**
   * Reads a file.
   *
   * @throws FormatException if it is not JSON, or vocabulary or merges have an unknown form
   */
  static TokenizerJson read(Path file) throws IOException {
    TokenizerJson json = new TokenizerJson(file);
    JsonFiles.stream(file, json::readAll);
    return json;
  }

  /** As {@link #read}, from the file's bytes. */
  static TokenizerJson parse(Path file, byte[] bytes) throws IOException {
    TokenizerJson json = new TokenizerJson(file);
    JsonFiles.stream(file, new ByteArrayInputStream(bytes), json::readAll);
    return json;
  }

  Path file() {
    return file;
  }

  /** The model's own tokens, without added ones; empty if it has no map from text to number. */
  Map<String, Integer> vocabulary() {
    return vocabulary;
  }

  /** The merges in order, each as two parts with a space between; spaces within a part are written as {@code Ġ}. */
  List<String> merges() {
    return merges;
  }

  /** The rest of {@code model}: {@code type}, {@code byte_fallback} and so on. */
  ObjectNode model() {
    return model;
  }

  /** A part beside {@code model}, such as {@code added_tokens} or {@code pre_tokenizer}; missing if there is none. */
  JsonNode part(String name) {
    return rest.path(name);
  }

  private void readAll(JsonParser parser) throws IOException {
    if (parser.nextToken() != JsonToken.START_OBJECT) {
      throw new FormatException(file, "top level", "something else", "an object");
    }
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      String name = parser.currentName();
      JsonToken value = parser.nextToken();
      if (name.equals("model") && value == JsonToken.START_OBJECT) {
        readModel(parser);
      } else {
        rest.set(name, JsonFiles.tree(parser));
      }
    }
  }

  private void readModel(JsonParser parser) throws IOException {
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      String name = parser.currentName();
      JsonToken value = parser.nextToken();
      if (name.equals("vocab") && value == JsonToken.START_OBJECT) {
        readVocabulary(parser);
      } else if (name.equals("merges") && value == JsonToken.START_ARRAY) {
        readMerges(parser);
      } else if (name.equals("vocab") || name.equals("merges")) {
        parser.skipChildren();
      } else {
        model.set(name, JsonFiles.tree(parser));
      }
    }
  }

  private void readVocabulary(JsonParser parser) throws IOException {
    while (parser.nextToken() == JsonToken.FIELD_NAME) {
      String text = parser.currentName();
      if (parser.nextToken() != JsonToken.VALUE_NUMBER_INT) {
        throw new FormatException(file, "model.vocab of " + text, parser.currentToken().name(), "a number");
      }
      vocabulary.put(text, checkedId(file, text, parser.getNumberValue()));
    }
  }

  private void readMerges(JsonParser parser) throws IOException {
    for (JsonToken token = parser.nextToken(); token != JsonToken.END_ARRAY; token = parser.nextToken()) {
      if (token == JsonToken.VALUE_STRING) {
        merges.add(Vocabulary.requireText(file, "merge " + merges.size(), parser.getText()));
      } else if (token == JsonToken.START_ARRAY) {
        merges.add(part(parser) + " " + part(parser));
        if (parser.nextToken() != JsonToken.END_ARRAY) {
          throw malformedMerge();
        }
      } else {
        throw malformedMerge();
      }
    }
  }

  private String part(JsonParser parser) throws IOException {
    if (parser.nextToken() != JsonToken.VALUE_STRING) {
      throw malformedMerge();
    }
    return Vocabulary.requireText(file, "merge " + merges.size(), parser.getText()).replace(' ', 'Ġ');
  }

  private FormatException malformedMerge() {
    return new FormatException(
      file,
      "model.merges[" + merges.size() + "]",
      "something else",
      "a string or two strings"
    );
  }

  /** The number of a token if it is one. */
  static int checkedId(Path file, String token, Number id) throws FormatException {
    if (!(id instanceof Integer n) || n < 0 || n >= MAX_TOKENS) {
      throw new FormatException(file, "token " + token, "number " + id, "0 to " + (MAX_TOKENS - 1));
    }
    return n;
  }
}
