package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The tokens that a checkpoint adds to those of its model, as the transformers library loads them: those of {@code tokenizer.json},
 * then those of {@code added_tokens_decoder}, whose flags win, then tokens with a role ({@code bos_token} and so on) that are in
 * neither.
 */
final class AddedTokens {

  private static final List<String> ROLES = List.of("bos", "eos", "unk", "sep", "pad", "cls", "mask");

  /** An added token; {@code special} ones are control tokens. */
  record Token(String text, int id, boolean special) {}

  private final Map<String, Token> tokens = new LinkedHashMap<>();
  private final Set<String> named = new LinkedHashSet<>();
  private final TokenizerFiles files;
  private int nextId;

  AddedTokens(TokenizerFiles files) throws FormatException {
    this.files = files;
    files
      .json()
      .vocabulary()
      .values()
      .forEach(id -> nextId = Math.max(nextId, id + 1));
    JsonNode added = files.json().part("added_tokens");
    for (int i = 0; i < added.size(); i++) {
      JsonNode token = added.get(i);
      String text = TokenizerFiles.content(token.path("content"));
      if (text == null) {
        String found = token.toString();
        throw new FormatException(
          files.json().file(),
          "added_tokens[" + i + "]",
          found,
          "an object with content and id"
        );
      }
      add(text, TokenizerJson.checkedId(files.json().file(), text, token.path("id").numberValue()), special(token));
    }
    for (Map.Entry<String, JsonNode> entry : files.config().path("added_tokens_decoder").properties()) {
      String text = TokenizerFiles.content(entry.getValue());
      if (text == null) {
        String place = "added_tokens_decoder." + entry.getKey();
        throw new FormatException(files.configFile(), place, entry.getValue().toString(), "an object with content");
      }
      add(text, decoderId(files, entry.getKey()), special(entry.getValue()));
    }
    readNamed();
    for (String text : named) {
      if (!tokens.containsKey(text)) {
        add(text, nextId, true);
      }
    }
  }

  /** The tokens by their text. */
  Map<String, Token> tokens() {
    return tokens;
  }

  /** The texts of the tokens with a role. */
  Set<String> named() {
    return named;
  }

  /** The number that a key of {@code added_tokens_decoder} stands for. */
  static int decoderId(TokenizerFiles files, String key) throws FormatException {
    Integer id = null;
    try {
      id = Integer.valueOf(key);
    } catch (NumberFormatException _) {
      // Reported below like a number that is out of range.
    }
    return TokenizerJson.checkedId(files.configFile(), "added_tokens_decoder." + key, id);
  }

  private static boolean special(JsonNode token) {
    return token.path("special").asBoolean(false);
  }

  private void add(String text, int id, boolean special) {
    Integer known = files.json().vocabulary().get(text);
    Token before = tokens.get(text);
    int actual = before != null ? before.id() : known != null ? known : id;
    tokens.put(text, new Token(text, actual, special));
    nextId = Math.max(nextId, actual + 1);
  }

  private void readNamed() {
    for (String role : ROLES) {
      JsonNode token = files.config().path(role + "_token");
      if (token.isMissingNode()) {
        token = files.specialTokensMap().path(role + "_token");
      }
      name(token);
    }
    for (String list : List.of("additional_special_tokens", "extra_special_tokens")) {
      files.config().path(list).forEach(this::name);
      files.specialTokensMap().path(list).forEach(this::name);
    }
  }

  private void name(JsonNode token) {
    String text = TokenizerFiles.content(token);
    if (text != null && !text.isEmpty()) {
      named.add(text);
    }
  }
}
