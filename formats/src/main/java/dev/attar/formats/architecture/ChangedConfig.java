package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.safetensors.ElementType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.IntStream;

/** The {@code config.json} of what was made of a checkpoint: the checkpoint's own, with only what has changed replaced. */
final class ChangedConfig {

  private static final String TOKENS = "tokenizer.ggml.tokens";

  private final CheckpointConfig original;
  private final Architecture architecture;
  private final Model model;
  private final ObjectNode json;

  private ChangedConfig(CheckpointConfig original, Architecture architecture, Model model) {
    this.original = original;
    this.architecture = architecture;
    this.model = model;
    this.json = original.json().deepCopy();
  }

  /**
   * Changes a configuration.
   *
   * @param original the checkpoint's
   * @param architecture its family
   * @param model what was made of it
   * @param layers for each layer of the model its number in the checkpoint
   * @return the configuration; its messages name the model
   * @throws FormatException if the model is of another architecture, or its layers differ in their sizes
   * @throws IllegalArgumentException if {@code layers} does not fit the model and the checkpoint
   */
  static CheckpointConfig of(CheckpointConfig original, Architecture architecture, Model model, int[] layers)
    throws FormatException {
    ChangedConfig changed = new ChangedConfig(original, architecture, model);
    changed.checkArchitecture();
    changed.changeLayers(layers);
    changed.changeSizes();
    changed.changeVocabulary();
    return CheckpointConfig.of(model.source(), changed.json);
  }

  private void checkArchitecture() throws FormatException {
    String found = model.metadata().architecture();
    if (found.equals("deci")) {
      throw differing("general.architecture", found);
    }
    if (!found.equals(architecture.ggufName())) {
      String expected = architecture.ggufName() + " as in " + original.file();
      throw new FormatException(model.source(), "key general.architecture", found, expected);
    }
  }

  private FormatException differing(String key, String found) {
    String expected = "the same sizes in all layers, as config.json has no others (write GGUF instead)";
    return new FormatException(model.source(), "key " + key, found, expected);
  }

  private void changeLayers(int[] layers) throws FormatException {
    int before = (int) original.count("num_hidden_layers", 1, Integer.MAX_VALUE);
    int count = size("block_count");
    boolean ascending = IntStream.range(1, layers.length).allMatch(i -> layers[i] > layers[i - 1]);
    if (count != layers.length || !ascending || layers[0] < 0 || layers[count - 1] >= before) {
      throw new IllegalArgumentException(
        "layers " + Arrays.toString(layers) + ", expected " + count + " ascending numbers from 0 to " + (before - 1)
      );
    }
    if (count == before) {
      return;
    }
    set("num_hidden_layers", count);
    for (Map.Entry<String, JsonNode> entry : json.properties()) {
      // Other lists may have as many elements by chance.
      if (entry.getKey().contains("layer") && entry.getValue() instanceof ArrayNode list && list.size() == before) {
        ArrayNode left = list.arrayNode();
        Arrays.stream(layers).forEach(layer -> left.add(list.get(layer)));
        entry.setValue(left);
      }
    }
    if (original.has("max_window_layers")) {
      // The first layers, whose attention is not cut to a window.
      long whole = original.count("max_window_layers", 0, Long.MAX_VALUE);
      set(
        "max_window_layers",
        Arrays.stream(layers)
          .filter(layer -> layer < whole)
          .count()
      );
    }
  }

  private void changeSizes() throws FormatException {
    HyperParameters.Defaults defaults = architecture.defaults();
    int heads = size("attention.head_count");
    int keyValueHeads = has("attention.head_count_kv") ? size("attention.head_count_kv") : heads;
    long embedding = original.count("hidden_size", 1, Integer.MAX_VALUE);
    long headSize = has("attention.key_length") ? size("attention.key_length") : embedding / heads;
    if (has("attention.value_length") && size("attention.value_length") != headSize) {
      String found = Integer.toString(size("attention.value_length"));
      throw new FormatException(model.source(), key("attention.value_length"), found, headSize + " as for keys");
    }
    set("intermediate_size", size("feed_forward_length"));
    set("num_attention_heads", heads);
    int impliedHeads = defaults.keyValueHeads() == 0 ? heads : defaults.keyValueHeads();
    if (original.has("num_key_value_heads") || impliedHeads != keyValueHeads) {
      set("num_key_value_heads", keyValueHeads);
    }
    // What is left of the heads no longer fills the embedding, by which their size was known.
    boolean implied = defaults.headSize() == 0 ? heads * headSize == embedding : headSize == defaults.headSize();
    if (original.has("head_dim") || !implied) {
      set("head_dim", headSize);
    }
  }

  /** Tokens at the end may have been cut away: fewer rows are a smaller vocabulary. More are not, and found where shapes are compared. */
  private void changeVocabulary() throws FormatException {
    long before = original.count("vocab_size", 1, Integer.MAX_VALUE);
    long rows = model
      .tensors()
      .stream()
      .map(Tensor::info)
      .filter(info -> info.name().equals("token_embd.weight"))
      .findFirst()
      .map(TensorInfo::rows)
      .orElse(before);
    if (rows >= before || rows == 0) {
      return;
    }
    set("vocab_size", rows);
    for (Map.Entry<String, JsonNode> entry : json.properties()) {
      boolean token = entry.getKey().endsWith("_token_id") && entry.getValue().isIntegralNumber();
      if (token && entry.getValue().longValue() >= rows) {
        // transformers makes no embedding with a token for padding that it does not have.
        entry.setValue(json.nullNode());
      }
    }
  }

  private void set(String key, long value) {
    if (json.path(key).asLong(-1) != value) {
      json.put(key, value);
    }
  }

  private boolean has(String name) {
    return model.metadata().get(architecture.ggufName() + "." + name).isPresent();
  }

  private String key(String name) {
    return "key " + architecture.ggufName() + "." + name;
  }

  private int size(String name) throws FormatException {
    String key = architecture.ggufName() + "." + name;
    MetadataValue value = model.metadata().get(key).orElse(null);
    if (value != null && value.type() == MetadataValue.Type.ARRAY) {
      throw differing(key, "a list, " + value);
    }
    if (value == null || !(value.value() instanceof Long number) || number < 1 || number > Integer.MAX_VALUE) {
      throw new FormatException(model.source(), key(name), value == null ? "nothing" : value.toString(), "a size");
    }
    return Math.toIntExact(number);
  }

  /**
   * Has the configuration say what type the weights are of, if it said that before and most of them have changed.
   *
   * @param before what most values of the checkpoint are
   * @param after what most of the model's are
   */
  static void setType(ObjectNode json, ElementType before, ElementType after) {
    for (String key : List.of("dtype", "torch_dtype")) {
      if (json.hasNonNull(key) && before != after) {
        json.put(
          key,
          switch (after) {
            case F16 -> "float16";
            case BF16 -> "bfloat16";
            case F32 -> "float32";
            default -> throw new IllegalArgumentException(after.name().toLowerCase(Locale.ROOT));
          }
        );
      }
    }
  }

  /**
   * Checks that a checkpoint with this configuration has the settings of the model, as far as both state them, and its vocabulary.
   *
   * @param directory where the tokenizer's files are
   * @throws FormatException if the model has others, for which nothing here finds a place
   */
  static void checkSettings(
    Path directory,
    CheckpointConfig changed,
    Architecture architecture,
    HyperParameters h,
    Model model
  ) throws IOException {
    Metadata expected = ModelMetadata.read(directory, changed, architecture, h, model.tensors());
    for (Map.Entry<String, MetadataValue> entry : expected.values().entrySet()) {
      String key = entry.getKey();
      MetadataValue found = model.metadata().get(key).orElse(null);
      if (found == null || same(entry.getValue(), found)) {
        continue;
      }
      if (key.startsWith(architecture.ggufName() + ".")) {
        String value = entry.getValue() + " as in the checkpoint " + directory;
        throw new FormatException(model.source(), "key " + key, found.toString(), value);
      }
      if (key.equals(TOKENS)) {
        throw new FormatException(model.source(), "key " + key, "other tokens", "those of the checkpoint " + directory);
      }
    }
  }

  /** Whether two values are the same, whatever the type of a number. */
  private static boolean same(MetadataValue a, MetadataValue b) {
    if (a.value() instanceof Number m && b.value() instanceof Number n) {
      return m.doubleValue() == n.doubleValue();
    }
    return a.equals(b);
  }
}
