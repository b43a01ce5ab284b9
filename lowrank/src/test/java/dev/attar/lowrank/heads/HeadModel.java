package dev.attar.lowrank.heads;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * A small model in memory: random, with the tokenizer of the sample.
 *
 * @param metadata the metadata
 * @param tensors the tensors
 */
record HeadModel(Metadata metadata, List<Tensor> tensors) implements Model {
  static final int EMBEDDING = 48;
  static final int LAYERS = 2;
  static final int SIZE = 8;

  private static final int WIDTH = 32;

  @Override
  public Path source() {
    return Path.of("test-model");
  }

  @Override
  public List<Path> files() {
    return List.of();
  }

  @Override
  public void close() {
    // Nothing is open.
  }

  /** Changes values of a tensor in place. */
  @FunctionalInterface
  interface Change {
    void to(TensorInfo info, float[] values);
  }

  /**
   * A Llama whose attention says something: of the heads' queries and keys, products are some units large.
   *
   * @param biases whether queries, keys and values have them
   */
  static HeadModel llama(int heads, int groups, boolean biases) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    Metadata tokenizer;
    try (Model sample = Models.open(MemoryModel.SAMPLE)) {
      tokenizer = sample.metadata();
    }
    int vocabulary = tokenizer.get("tokenizer.ggml.tokens").orElseThrow().length();
    metadata.put("general.architecture", MetadataValue.string("llama"));
    metadata.put("general.size_label", MetadataValue.string("7B"));
    number(metadata, "block_count", LAYERS);
    number(metadata, "context_length", 256);
    number(metadata, "embedding_length", EMBEDDING);
    number(metadata, "feed_forward_length", WIDTH);
    number(metadata, "attention.head_count", heads);
    number(metadata, "attention.head_count_kv", groups);
    number(metadata, "attention.key_length", SIZE);
    number(metadata, "attention.value_length", SIZE);
    number(metadata, "rope.dimension_count", SIZE);
    number(metadata, "vocab_size", vocabulary);
    metadata.put("llama.rope.freq_base", MetadataValue.float32(500));
    metadata.put("llama.attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f));
    tokenizer
      .values()
      .forEach((key, value) -> {
        if (key.startsWith("tokenizer.")) {
          metadata.put(key, value);
        }
      });
    List<Tensor> tensors = new ArrayList<>();
    Random random = new Random(5);
    tensors.add(random(random, "token_embd.weight", 1, EMBEDDING, vocabulary));
    tensors.add(random(random, "output_norm.weight", 1, EMBEDDING));
    for (int i = 0; i < LAYERS; i++) {
      String layer = "blk." + i + ".";
      tensors.add(random(random, layer + "attn_norm.weight", 1, EMBEDDING));
      tensors.add(random(random, layer + "attn_q.weight", 0.2, EMBEDDING, heads * SIZE));
      tensors.add(random(random, layer + "attn_k.weight", 0.2, EMBEDDING, groups * SIZE));
      tensors.add(random(random, layer + "attn_v.weight", 0.2, EMBEDDING, groups * SIZE));
      tensors.add(random(random, layer + "attn_output.weight", 0.2, heads * SIZE, EMBEDDING));
      if (biases) {
        tensors.add(random(random, layer + "attn_q.bias", 0.3, heads * SIZE));
        tensors.add(random(random, layer + "attn_k.bias", 0.3, groups * SIZE));
        tensors.add(random(random, layer + "attn_v.bias", 0.3, groups * SIZE));
        tensors.add(random(random, layer + "attn_output.bias", 0.3, EMBEDDING));
      }
      tensors.add(random(random, layer + "ffn_norm.weight", 1, EMBEDDING));
      tensors.add(random(random, layer + "ffn_gate.weight", 0.1, EMBEDDING, WIDTH));
      tensors.add(random(random, layer + "ffn_down.weight", 0.1, WIDTH, EMBEDDING));
      tensors.add(random(random, layer + "ffn_up.weight", 0.1, EMBEDDING, WIDTH));
    }
    return new HeadModel(Metadata.of(metadata), List.copyOf(tensors));
  }

  private static void number(Map<String, MetadataValue> metadata, String key, int value) {
    metadata.put("llama." + key, MetadataValue.uint32(value));
  }

  private static Tensor random(Random random, String name, double deviation, long... shape) {
    TensorInfo info = new TensorInfo(name, TensorType.F32, shape);
    float[] values = new float[(int) info.elements()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (deviation * random.nextGaussian());
    }
    return MemoryModel.tensor(info, values);
  }

  HeadModel map(Change change) throws IOException {
    List<Tensor> changed = new ArrayList<>();
    for (Tensor tensor : tensors) {
      float[] values = MemoryModel.values(tensor);
      change.to(tensor.info(), values);
      changed.add(MemoryModel.tensor(tensor.info(), values));
    }
    return new HeadModel(metadata, List.copyOf(changed));
  }

  HeadModel with(String key, MetadataValue value) {
    return new HeadModel(metadata.with(key, value), tensors);
  }

  HeadModel without(String key) {
    return new HeadModel(metadata.without(key), tensors);
  }

  /** The same with another tensor. */
  HeadModel with(String name, TensorType type, float[] values, long... shape) {
    List<Tensor> more = new ArrayList<>(tensors);
    more.removeIf(tensor -> tensor.info().name().equals(name));
    more.add(MemoryModel.tensor(new TensorInfo(name, type, shape), values));
    return new HeadModel(metadata, more);
  }

  HeadModel withoutTensor(String name) {
    return new HeadModel(
      metadata,
      tensors
        .stream()
        .filter(tensor -> !tensor.info().name().equals(name))
        .toList()
    );
  }
}
