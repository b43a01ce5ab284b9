package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * The files that make up a tokenizer, each empty or {@code null} if it is not there.
 *
 * @param directory where they lie
 * @param modelConfig {@code config.json}
 * @param config {@code tokenizer_config.json}; empty if missing
 * @param specialTokensMap {@code special_tokens_map.json}; empty if missing
 * @param json {@code tokenizer.json}, or {@code null}
 */
record TokenizerFiles(
  Path directory,
  ObjectNode modelConfig,
  ObjectNode config,
  ObjectNode specialTokensMap,
  TokenizerJson json
) {
  static TokenizerFiles read(Path directory, ObjectNode modelConfig) throws IOException {
    Path json = directory.resolve("tokenizer.json");
    return new TokenizerFiles(
      directory,
      modelConfig,
      optional(directory.resolve("tokenizer_config.json")),
      optional(directory.resolve("special_tokens_map.json")),
      Files.isRegularFile(json) ? TokenizerJson.read(json) : null
    );
  }

  /** The path of {@code tokenizer_config.json}. */
  Path configFile() {
    return directory.resolve("tokenizer_config.json");
  }

  /** The text of a token that is given as a string or as an object with {@code content}; {@code null} if it is neither. */
  static String content(JsonNode token) {
    JsonNode content = token.isObject() ? token.path("content") : token;
    return content.isTextual() ? content.textValue() : null;
  }

  private static ObjectNode optional(Path file) throws IOException {
    return JsonFiles.objectIfPresent(file).orElseGet(JsonNodeFactory.instance::objectNode);
  }
}
