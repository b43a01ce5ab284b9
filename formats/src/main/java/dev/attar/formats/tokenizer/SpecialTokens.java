package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.MissingNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.fasterxml.jackson.databind.node.TextNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/**
 * The tokens with a role, whether they are added to a text by themselves, the chat templates and the normalizer's flags. What is
 * in which file and which of them wins follows {@code SpecialVocab} of gguf-py, so that the keys come out the same.
 */
final class SpecialTokens {

  /** The roles that are looked for by default. */
  static final List<String> TYPES = List.of("bos", "eos", "unk", "sep", "pad", "cls", "mask");

  private static final Map<String, String> ID_KEYS = Map.of(
    "bos",
    "tokenizer.ggml.bos_token_id",
    "eos",
    "tokenizer.ggml.eos_token_id",
    "unk",
    "tokenizer.ggml.unknown_token_id",
    "sep",
    "tokenizer.ggml.seperator_token_id",
    "pad",
    "tokenizer.ggml.padding_token_id",
    "mask",
    "tokenizer.ggml.mask_token_id",
    "eot",
    "tokenizer.ggml.eot_token_id",
    "eom",
    "tokenizer.ggml.eom_token_id"
  );

  private static final Map<String, String> ADD_KEYS = Map.of(
    "bos",
    "tokenizer.ggml.add_bos_token",
    "eos",
    "tokenizer.ggml.add_eos_token",
    "sep",
    "tokenizer.ggml.add_sep_token"
  );

  private static final MissingNode NONE = MissingNode.getInstance();

  private final TokenizerFiles files;
  private final List<String> types;
  private final OptionalInt limit;
  private final ObjectNode config;
  private final Map<String, Long> ids = new LinkedHashMap<>();
  private final Map<String, Boolean> add = new LinkedHashMap<>();
  private final Map<String, MetadataValue> templates = new LinkedHashMap<>();
  private Boolean lowercase;
  private Boolean stripAccents;

  private SpecialTokens(TokenizerFiles files, List<String> types, OptionalInt limit) {
    this.files = files;
    this.types = new ArrayList<>(types);
    this.limit = limit;
    this.config = files.config().deepCopy();
  }

  /**
   * Reads a checkpoint's files.
   *
   * @param files the files
   * @param types the roles to look for
   * @param limit token numbers from here on do not count
   */
  static SpecialTokens read(TokenizerFiles files, List<String> types, OptionalInt limit) throws IOException {
    SpecialTokens tokens = new SpecialTokens(files, types, limit);
    if (files.json() != null) {
      tokens.readNormalizer(files.json().part("normalizer"));
      tokens.readPostProcessor();
    }
    if (!tokens.config.isEmpty()) {
      tokens.templates.putAll(ChatTemplates.read(files));
      tokens.readTokenizerConfig();
    }
    tokens.readModelConfig();
    return tokens;
  }

  /** Sets the token of a role unless a file has. */
  void setIfAbsent(String type, long id) {
    ids.putIfAbsent(type, id);
  }

  /** Adds the keys. */
  void write(Map<String, MetadataValue> out) {
    ids.forEach((type, id) -> put(out, ID_KEYS.get(type), MetadataValue.uint32(id)));
    add.forEach((type, value) -> put(out, ADD_KEYS.get(type), MetadataValue.bool(value)));
    out.putAll(templates);
    if (lowercase != null) {
      out.put("tokenizer.ggml.normalizer.lowercase", MetadataValue.bool(lowercase));
    }
    if (stripAccents != null) {
      out.put("tokenizer.ggml.normalizer.strip_accents", MetadataValue.bool(stripAccents));
    }
  }

  private static void put(Map<String, MetadataValue> out, String key, MetadataValue value) {
    if (key != null) {
      out.put(key, value);
    }
  }

  private void readNormalizer(JsonNode normalizer) {
    switch (normalizer.path("type").asText("")) {
      case "Lowercase" -> lowercase = true;
      case "StripAccents" -> stripAccents = true;
      case "BertNormalizer" -> {
        lowercase = normalizer.has("lowercase") ? flag(normalizer.path("lowercase")) : lowercase;
        stripAccents = normalizer.has("strip_accents") ? flag(normalizer.path("strip_accents")) : stripAccents;
      }
      case "Sequence" -> normalizer.path("normalizers").forEach(this::readNormalizer);
      default -> {
        // Other normalizers change nothing that GGUF has a key for.
      }
    }
  }

  private static Boolean flag(JsonNode node) {
    return node.isBoolean() ? node.booleanValue() : null;
  }

  private void readPostProcessor() {
    Roles roles = new Roles();
    if (!truthy(roles.bos) && truthy(roles.cls)) {
      roles.bos = set("bos_token", roles.cls);
    }
    if (!truthy(roles.eos) && truthy(roles.sep)) {
      roles.eos = set("eos_token", roles.sep);
    }
    JsonNode post = files.json().part("post_processor");
    if (post.has("processors")) {
      post.path("processors").forEach(processor -> readProcessor(processor, roles));
    } else {
      readProcessor(post, roles);
    }
  }

  /** What the tokenizer's configuration says of four roles: text, an object with {@code content}, or nothing. */
  private final class Roles {

    private JsonNode bos = config.path("bos_token");
    private JsonNode eos = config.path("eos_token");
    private JsonNode cls = config.path("cls_token");
    private JsonNode sep = config.path("sep_token");
  }

  private void readProcessor(JsonNode processor, Roles roles) {
    switch (processor.path("type").asText("")) {
      case "RobertaProcessing" -> {
        add.put("bos", true);
        add.put("eos", true);
        add.put("sep", true);
        if (!truthy(roles.cls) && !config.isEmpty()) {
          roles.cls = set("cls_token", processor.has("cls") ? processor.path("cls").path(0) : roles.bos);
        }
        if (!truthy(roles.sep) && !config.isEmpty()) {
          roles.sep = set("sep_token", processor.has("sep") ? processor.path("sep").path(0) : roles.eos);
        }
      }
      case "TemplateProcessing" -> readTemplate(processor.path("single"), processor.path("pair"), roles);
      default -> {
        // ByteLevel and others add no tokens.
      }
    }
  }

  /** Finds out from the template for one text and for two which tokens go before, behind and between. */
  private void readTemplate(JsonNode single, JsonNode pair, Roles roles) {
    JsonNode first = NONE;
    JsonNode last = NONE;
    if (single.size() > 1) {
      first = specialToken(single.get(0));
      if (truthy(first)) {
        readFirst(first, roles);
      }
      last = specialToken(single.get(single.size() - 1));
      if (truthy(last)) {
        readLast(last, roles);
      }
    }
    if (!pair.isEmpty()) {
      int begin = truthy(first) && specialToken(pair.get(0)).equals(first) ? 1 : 0;
      int end = pair.size() - (truthy(last) && specialToken(pair.get(pair.size() - 1)).equals(last) ? 1 : 0);
      readBetween(pair, begin, end, truthy(last), roles);
    }
  }

  private void readFirst(JsonNode first, Roles roles) {
    if (config.isEmpty()) {
      roles.bos = first;
    } else if (!first.equals(roles.bos) && !first.equals(roles.cls)) {
      if (!truthy(roles.bos)) {
        roles.bos = set("bos_token", first);
      }
      if (!truthy(roles.cls)) {
        roles.cls = set("cls_token", first);
      }
    }
    add.put("bos", first.equals(roles.bos) || first.equals(roles.cls));
  }

  private void readLast(JsonNode last, Roles roles) {
    if (config.isEmpty()) {
      roles.eos = last;
    } else if (!last.equals(roles.eos)) {
      // What was the end of text is the end of a turn then.
      for (String type : List.of("eot", "eom")) {
        if (!types.contains(type)) {
          types.add(type);
          set(type + "_token", roles.eos);
          break;
        }
      }
      roles.eos = set("eos_token", last);
    }
    add.put("eos", last.equals(roles.eos));
  }

  private void readBetween(JsonNode pair, int begin, int end, boolean hasLast, Roles roles) {
    boolean between =
      end - begin > 2 &&
      pair.get(begin).path("Sequence").path("id").asText("").equals("A") &&
      pair.get(end - 1).path("Sequence").path("id").asText("").equals("B");
    if (!between) {
      return;
    }
    JsonNode entry = specialToken(pair.get(begin + 1));
    boolean addSep = truthy(entry) && isSeparator(entry, roles) && !hasLast;
    if (end - begin - 2 == 2) {
      JsonNode second = specialToken(pair.get(begin + 2));
      addSep |= truthy(second) && isSeparator(second, roles);
    }
    add.put("sep", addSep);
    if (addSep && !truthy(roles.sep) && !config.isEmpty()) {
      set("sep_token", roles.eos);
    }
  }

  private static boolean isSeparator(JsonNode token, Roles roles) {
    return token.equals(roles.sep) || token.equals(roles.eos);
  }

  private static JsonNode specialToken(JsonNode entry) {
    return entry.path("SpecialToken").path("id");
  }

  /** Sets an entry of the tokenizer's configuration, unless that is empty and thus not looked at. */
  private JsonNode set(String key, JsonNode value) {
    if (!config.isEmpty()) {
      config.set(key, value.isMissingNode() ? config.nullNode() : value);
    }
    return value;
  }

  private static boolean truthy(JsonNode node) {
    return switch (node.getNodeType()) {
      case STRING -> !node.textValue().isEmpty();
      case OBJECT, ARRAY -> !node.isEmpty();
      case BOOLEAN -> node.booleanValue();
      case NUMBER -> node.doubleValue() != 0;
      default -> false;
    };
  }

  private void readTokenizerConfig() throws FormatException {
    JsonNode added = files.json() == null ? NONE : files.json().part("added_tokens");
    for (String type : types) {
      JsonNode addFlag = config.path("add_" + type + "_token");
      if (addFlag.isBoolean()) {
        add.put(type, addFlag.booleanValue());
      }
      String text = TokenizerFiles.content(config.path(type + "_token"));
      if (text != null) {
        for (JsonNode token : added) {
          if (token.path("content").equals(TextNode.valueOf(text))) {
            setId(files.json().file(), type, token.path("id"));
            break;
          }
        }
      }
    }
  }

  private void readModelConfig() throws FormatException {
    Path file = files.directory().resolve("config.json");
    for (String type : types) {
      setId(file, type, files.modelConfig().path(type + "_token_id"));
    }
  }

  private void setId(Path file, String type, JsonNode id) throws FormatException {
    if (!id.isIntegralNumber()) {
      return;
    }
    if (!id.canConvertToLong() || id.longValue() < 0 || id.longValue() >= TokenizerJson.MAX_TOKENS) {
      throw new FormatException(file, type + " token", "number " + id, "0 to " + (TokenizerJson.MAX_TOKENS - 1));
    }
    if (limit.isEmpty() || id.longValue() < limit.getAsInt()) {
      ids.putIfAbsent(type, id.longValue());
    }
  }
}
