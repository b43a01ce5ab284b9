package dev.attar.formats.tokenizer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.regex.Pattern;

/** Reads a checkpoint's tokenizer files into GGUF's {@code tokenizer.*} keys. */
public final class Tokenizer {

  private static final Pattern BYTE_TOKEN = Pattern.compile("<0x[0-9A-Fa-f]{2}>");

  /** The score of a token that the tokenizer's files give none. */
  private static final float ADDED_SCORE = -1000;

  /** The score of a number that stands for no token. */
  private static final float UNUSED_SCORE = -10000;

  private final TokenizerFiles files;
  private final int vocabularySize;
  private final Map<String, MetadataValue> out = new LinkedHashMap<>();

  private Tokenizer(TokenizerFiles files, int vocabularySize) {
    this.files = files;
    this.vocabularySize = vocabularySize;
  }

  /** Which of a directory's tokenizer files an architecture looks at. */
  public enum Family {
    /** {@code tokenizer.model}, else {@code tokenizer.json} with byte fallback or byte-level BPE; {@code add_prefix_space} counts. */
    LLAMA,
    /** {@code tokenizer.model}, else {@code tokenizer.json} with byte-level BPE. */
    QWEN
  }

  /**
   * Reads the tokenizer of a checkpoint.
   *
   * @param directory the checkpoint's directory
   * @param modelConfig its {@code config.json}
   * @param family which files count
   * @param vocabularySize rows of the embedding, 1 to 2^24; shorter vocabularies are filled up with {@code [PADn]}
   * @return the keys in the order of llama.cpp's converter
   * @throws FormatException if a file is malformed, none is there, or the pre-tokenizer is unknown
   * @throws IOException if a file cannot be read
   */
  public static Map<String, MetadataValue> read(
    Path directory,
    ObjectNode modelConfig,
    Family family,
    int vocabularySize
  ) throws IOException {
    return read(TokenizerFiles.read(directory, modelConfig), family, vocabularySize);
  }

  /** As {@link #read(Path, ObjectNode, Family, int)}, from files that are read already. */
  static Map<String, MetadataValue> read(TokenizerFiles files, Family family, int vocabularySize) throws IOException {
    Tokenizer tokenizer = new Tokenizer(files, vocabularySize);
    if (family == Family.LLAMA) {
      tokenizer.readLlama();
    } else if (Files.isRegularFile(files.directory().resolve("tokenizer.model"))) {
      tokenizer.readSentencePiece();
    } else {
      tokenizer.readByteLevel();
    }
    return tokenizer.out;
  }

  private void readLlama() throws IOException {
    JsonNode prefixSpace = files.config().path("add_prefix_space");
    if (prefixSpace.isBoolean()) {
      out.put("tokenizer.ggml.add_space_prefix", MetadataValue.bool(prefixSpace.booleanValue()));
    }
    if (Files.isRegularFile(files.directory().resolve("tokenizer.model"))) {
      readSentencePiece();
    } else if (files.json() != null && hasByteFallback(files.json())) {
      readByteFallback();
    } else {
      readByteLevel();
    }
    if (vocabularySize == 32016) {
      // Code Llama: its infill tokens are in no file.
      SpecialTokens special = SpecialTokens.read(
        files,
        List.of("prefix", "suffix", "middle", "eot"),
        OptionalInt.empty()
      );
      special.setIfAbsent("eot", 32010);
      special.write(out);
    }
    if (vocabularySize == 49152) {
      // Granite's small models and others with this vocabulary.
      out.put("tokenizer.ggml.add_bos_token", MetadataValue.bool(false));
    }
  }

  private void writeSpecialTokens(OptionalInt limit) throws IOException {
    SpecialTokens.read(files, SpecialTokens.TYPES, limit).write(out);
  }

  // SentencePiece: tokenizer.model

  private void readSentencePiece() throws IOException {
    Path file = files.directory().resolve("tokenizer.model");
    Vocabulary vocabulary = new Vocabulary(file);
    for (SentencePieceModel.Piece piece : SentencePieceModel.read(file)) {
      if (vocabulary.size() < vocabularySize) {
        vocabulary.add(piece.text(), piece.score(), piece.type());
      }
    }
    vocabulary.pad(vocabularySize, UNUSED_SCORE);
    addFromAddedTokensFile(vocabulary);
    for (Map.Entry<String, JsonNode> entry : files.config().path("added_tokens_decoder").properties()) {
      int id = AddedTokens.decoderId(files, entry.getKey());
      String text = TokenizerFiles.content(entry.getValue());
      if (text == null) {
        String place = "added_tokens_decoder." + entry.getKey();
        throw new FormatException(files.configFile(), place, entry.getValue().toString(), "an object with content");
      }
      if (id < vocabularySize) {
        setAdded(vocabulary, id, text, entry.getValue().path("special").asBoolean(false));
      }
    }
    out.put("tokenizer.ggml.model", MetadataValue.string("llama"));
    out.put("tokenizer.ggml.pre", MetadataValue.string("default"));
    vocabulary.writeTokens(out);
    vocabulary.writeScores(out);
    vocabulary.writeTypes(out);
    writeSpecialTokens(OptionalInt.of(vocabulary.size()));
  }

  private void addFromAddedTokensFile(Vocabulary vocabulary) throws IOException {
    Path file = files.directory().resolve("added_tokens.json");
    ObjectNode added = JsonFiles.objectIfPresent(file).orElse(null);
    if (added != null) {
      for (Map.Entry<String, JsonNode> entry : added.properties()) {
        int id = TokenizerJson.checkedId(file, entry.getKey(), entry.getValue().numberValue());
        if (id < vocabularySize) {
          vocabulary.set(id, entry.getKey(), ADDED_SCORE, TokenType.USER_DEFINED);
        }
      }
    }
  }

  private static void setAdded(Vocabulary vocabulary, int id, String text, boolean special) throws FormatException {
    if (special || TokenType.looksSpecial(text)) {
      vocabulary.set(id, text, ADDED_SCORE, TokenType.CONTROL);
    } else {
      // llama.cpp looks for such tokens in text whose spaces are not yet replaced.
      vocabulary.set(id, text.replace('▁', ' '), ADDED_SCORE, TokenType.USER_DEFINED);
    }
  }

  // BPE over characters with byte fallback: tokenizer.json that was made from a SentencePiece model

  private static boolean hasByteFallback(TokenizerJson json) {
    return (
      json.model().path("type").asText().equals("BPE") &&
      json.model().path("byte_fallback").asBoolean(false) &&
      json.part("decoder").path("type").asText().equals("Sequence")
    );
  }

  private void readByteFallback() throws IOException {
    TokenizerJson json = files.json();
    AddedTokens added = new AddedTokens(files);
    if (isLlamaClass()) {
      added.named().addAll(List.of("<unk>", "<s>", "</s>"));
    }
    Vocabulary vocabulary = new Vocabulary(json.file());
    for (String text : inOrder(json)) {
      TokenType type = BYTE_TOKEN.matcher(text).matches()
        ? TokenType.BYTE
        : added.named().contains(text)
          ? TokenType.CONTROL
          : TokenType.NORMAL;
      vocabulary.add(text, ADDED_SCORE, type);
    }
    int own = vocabulary.size();
    List<AddedTokens.Token> beyond = added
      .tokens()
      .values()
      .stream()
      .filter(token -> token.id() >= own)
      .sorted(java.util.Comparator.comparingInt(AddedTokens.Token::id))
      .toList();
    for (AddedTokens.Token token : beyond) {
      boolean control = added.named().contains(token.text());
      vocabulary.add(token.text(), ADDED_SCORE, control ? TokenType.CONTROL : TokenType.USER_DEFINED);
    }
    out.put("tokenizer.ggml.model", MetadataValue.string("llama"));
    out.put("tokenizer.ggml.pre", MetadataValue.string("default"));
    vocabulary.writeTokens(out);
    vocabulary.writeScores(out);
    vocabulary.writeTypes(out);
    writeSpecialTokens(OptionalInt.of(vocabulary.size()));
  }

  private boolean isLlamaClass() {
    return files.config().path("tokenizer_class").asText().startsWith("LlamaTokenizer");
  }

  /** The model's own tokens by number, which must be 0, 1, 2 and so on. */
  private static List<String> inOrder(TokenizerJson json) throws FormatException {
    String[] texts = new String[json.vocabulary().size()];
    for (Map.Entry<String, Integer> entry : json.vocabulary().entrySet()) {
      int id = entry.getValue();
      if (id >= texts.length || texts[id] != null) {
        String expected = "each number below " + texts.length + " once";
        throw new FormatException(json.file(), "model.vocab of " + entry.getKey(), "number " + id, expected);
      }
      texts[id] = entry.getKey();
    }
    return List.of(texts);
  }

  // Byte-level BPE: tokenizer.json

  private void readByteLevel() throws IOException {
    TokenizerJson json = files.json();
    if (json == null) {
      String found = Files.exists(files.directory().resolve("tekken.json")) ? "only tekken.json" : "none";
      throw new FormatException(files.directory(), "tokenizer", found, "tokenizer.json or tokenizer.model");
    }
    String type = json.model().path("type").asText("");
    if (!type.equals("BPE")) {
      throw new FormatException(json.file(), "model.type", type.isEmpty() ? "nothing" : type, "BPE");
    }
    PreTokenizer pre = PreTokenizer.recognize(json);
    AddedTokens added = new AddedTokens(files);
    Map<Integer, String> texts = new HashMap<>();
    for (Map.Entry<String, Integer> entry : json.vocabulary().entrySet()) {
      String other = texts.put(entry.getValue(), entry.getKey());
      if (other != null) {
        throw new FormatException(json.file(), "model.vocab of " + entry.getKey(), "the number of " + other, "its own");
      }
    }
    added
      .tokens()
      .values()
      .forEach(token -> texts.put(token.id(), token.text()));
    for (Map.Entry<Integer, String> entry : texts.entrySet()) {
      if (entry.getKey() >= vocabularySize) {
        String expected = "a number below vocab_size " + vocabularySize;
        throw new FormatException(json.file(), "token " + entry.getValue(), "number " + entry.getKey(), expected);
      }
    }
    Vocabulary vocabulary = new Vocabulary(json.file());
    for (int id = 0; id < vocabularySize; id++) {
      String text = texts.get(id);
      AddedTokens.Token token = text == null ? null : added.tokens().get(text);
      if (text == null) {
        vocabulary.pad(id + 1, 0);
      } else {
        vocabulary.add(text, 0, TokenType.NORMAL);
        if (token != null) {
          setAdded(vocabulary, id, text, token.special());
        }
      }
    }
    out.put("tokenizer.ggml.model", MetadataValue.string("gpt2"));
    out.put("tokenizer.ggml.pre", MetadataValue.string(pre.name()));
    vocabulary.writeTokens(out);
    vocabulary.writeTypes(out);
    List<String> merges = json.merges().isEmpty() ? Merges.read(files.directory()) : json.merges();
    if (!merges.isEmpty()) {
      out.put("tokenizer.ggml.merges", MetadataValue.strings(merges));
    }
    writeSpecialTokens(OptionalInt.empty());
  }
}
