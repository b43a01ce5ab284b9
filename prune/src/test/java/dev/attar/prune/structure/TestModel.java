package dev.attar.prune.structure;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/**
 * A model in memory: read from another, or random.
 *
 * @param metadata the metadata
 * @param tensors the tensors
 */
record TestModel(Metadata metadata, List<Tensor> tensors) implements Model {
  static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");

  private static final int VOCABULARY = 96;

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

  /** A checkpoint in single precision. */
  static TestModel read(Path checkpoint) throws IOException {
    return of(MemoryModel.read(checkpoint));
  }

  /** A model with its matrices as a type, where their rows fit it. */
  static TestModel copy(Model model, TensorType type) throws IOException {
    return of(MemoryModel.copy(model, type));
  }

  private static TestModel of(MemoryModel model) {
    return new TestModel(model.metadata(), model.tensors());
  }

  static List<String> names(Model model) {
    return model
      .tensors()
      .stream()
      .map(tensor -> tensor.info().name())
      .toList();
  }

  TestModel with(String key, MetadataValue value) {
    return new TestModel(metadata.with(key, value), tensors);
  }

  TestModel without(String key) {
    return new TestModel(metadata.without(key), tensors);
  }

  /** The same with another tensor of zeros. */
  TestModel withTensor(String name, long... shape) {
    List<Tensor> more = new ArrayList<>(tensors);
    TensorInfo info = new TensorInfo(name, TensorType.F32, shape);
    more.add(MemoryModel.tensor(info, new float[(int) info.elements()]));
    return new TestModel(metadata, more);
  }

  /** The same without the tensors whose names end so. */
  TestModel withoutTensors(String end) {
    return new TestModel(
      metadata,
      tensors
        .stream()
        .filter(tensor -> !tensor.info().name().endsWith(end))
        .toList()
    );
  }

  /**
   * The same in full shape, with zeros in place of what a cut removes: the columns of {@code ffn_down} and {@code attn_output}, and
   * of a layer that goes all that it adds.
   */
  TestModel zeroed(Cut cut) throws IOException {
    Anatomy anatomy = Anatomy.of(this);
    Map<Integer, Cut.Layer> left = new LinkedHashMap<>();
    cut.layers().forEach(layer -> left.put(layer.number(), layer));
    return map(tensor -> {
      LayerTensor place = LayerTensor.of(tensor.info().name()).orElse(null);
      if (place == null || !place.part().matches("(ffn_down|attn_output)\\..*")) {
        return tensor;
      }
      Cut.Layer layer = left.get(place.layer());
      boolean[] kept = new boolean[(int) tensor.info().rowLength()];
      if (layer != null && place.part().endsWith(".bias")) {
        Arrays.fill(kept, true);
      } else if (layer != null) {
        int[] some = place.part().startsWith("ffn")
          ? layer.neurons()
          : anatomy.layers().get(place.layer()).queries(layer.groups());
        for (int column : some) {
          kept[column] = true;
        }
      }
      float[] values = MemoryModel.values(tensor);
      for (int i = 0; i < values.length; i++) {
        values[i] = kept[i % kept.length] ? values[i] : 0;
      }
      return MemoryModel.tensor(tensor.info(), values);
    });
  }

  /** Makes a tensor of another. */
  @FunctionalInterface
  interface Change {
    Tensor of(Tensor tensor) throws IOException;
  }

  TestModel map(Change change) throws IOException {
    List<Tensor> changed = new ArrayList<>();
    for (Tensor tensor : tensors) {
      changed.add(change.of(tensor));
    }
    return new TestModel(metadata, List.copyOf(changed));
  }

  /** Random models. */
  static final class Builder {

    private final String architecture;
    private final int layers;
    private final int embedding;
    private final Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    private final List<Tensor> tensors = new ArrayList<>();
    private final Random random = new Random(11);

    Builder(String architecture, int layers, int embedding, int width, int heads, int groups, int headSize) {
      this.architecture = architecture;
      this.layers = layers;
      this.embedding = embedding;
      metadata.put("general.architecture", MetadataValue.string(architecture));
      number("block_count", layers);
      number("context_length", 256);
      number("embedding_length", embedding);
      number("feed_forward_length", width);
      number("attention.head_count", heads);
      number("attention.head_count_kv", groups);
      number("vocab_size", VOCABULARY);
      if (headSize * heads != embedding) {
        number("attention.key_length", headSize);
        number("attention.value_length", headSize);
      }
      metadata.put("tokenizer.ggml.model", MetadataValue.string("none"));
      matrix("token_embd.weight", embedding, VOCABULARY);
      vector("output_norm.weight", embedding, 1);
      matrix("output.weight", embedding, VOCABULARY);
    }

    Builder number(String key, int value) {
      metadata.put(architecture + "." + key, MetadataValue.uint32(value));
      return this;
    }

    Builder value(String key, MetadataValue value) {
      metadata.put(architecture + "." + key, value);
      return this;
    }

    /** A matrix of normal values, which keeps the size of what is multiplied with it. */
    Builder matrix(String name, long... shape) {
      return add(name, 0, 1 / Math.sqrt(shape[0]), shape);
    }

    /** A vector of values near one. */
    Builder vector(String name, long length, double mean) {
      return add(name, mean, 0.3, length);
    }

    Builder matrices(String part, long... shape) {
      for (int i = 0; i < layers; i++) {
        matrix("blk." + i + "." + part, shape);
      }
      return this;
    }

    Builder vectors(String part, long length, double mean) {
      for (int i = 0; i < layers; i++) {
        vector("blk." + i + "." + part, length, mean);
      }
      return this;
    }

    private Builder add(String name, double mean, double deviation, long... shape) {
      TensorInfo info = new TensorInfo(name, TensorType.F32, shape);
      float[] values = new float[(int) info.elements()];
      for (int i = 0; i < values.length; i++) {
        values[i] = (float) (mean + deviation * random.nextGaussian());
      }
      tensors.add(MemoryModel.tensor(info, values));
      return this;
    }

    /** What layers of Llama-like models have. */
    Builder llamaLayers(int width, int queries, int keys) {
      value("attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f));
      vectors("attn_norm.weight", embedding, 1);
      matrices("attn_q.weight", embedding, queries);
      matrices("attn_k.weight", embedding, keys);
      matrices("attn_v.weight", embedding, keys);
      matrices("attn_output.weight", queries, embedding);
      vectors("ffn_norm.weight", embedding, 1);
      matrices("ffn_gate.weight", embedding, width);
      matrices("ffn_down.weight", width, embedding);
      return matrices("ffn_up.weight", embedding, width);
    }

    TestModel build() {
      return new TestModel(Metadata.of(metadata), List.copyOf(tensors));
    }
  }

  /** Llama: 4 layers of 64 neurons, 4 groups of 2 heads of 8 values, embedding 48. */
  static TestModel llama() {
    return new Builder("llama", 4, 48, 64, 8, 4, 8)
      .llamaLayers(64, 64, 32)
      .number("rope.dimension_count", 8)
      .value("rope.freq_base", MetadataValue.float32(10_000))
      .build();
  }

  /** Qwen2: 3 layers of 64 neurons, 3 groups of 2 heads of 8 values. */
  static TestModel qwen2() {
    return new Builder("qwen2", 3, 48, 64, 6, 3, 8)
      .llamaLayers(64, 48, 24)
      .vectors("attn_q.bias", 48, 0)
      .vectors("attn_k.bias", 24, 0)
      .vectors("attn_v.bias", 24, 0)
      .value("rope.freq_base", MetadataValue.float32(1_000_000))
      .build();
  }

  /** StarCoder2: 3 layers of 64 GELU neurons, with biases everywhere. */
  static TestModel starcoder2() {
    return new Builder("starcoder2", 3, 48, 64, 6, 2, 8)
      .value("attention.layer_norm_epsilon", MetadataValue.float32(1e-5f))
      .vector("output_norm.bias", 48, 0)
      .vectors("attn_norm.weight", 48, 1)
      .vectors("attn_norm.bias", 48, 0)
      .matrices("attn_q.weight", 48, 48)
      .matrices("attn_k.weight", 48, 16)
      .matrices("attn_v.weight", 48, 16)
      .matrices("attn_output.weight", 48, 48)
      .vectors("attn_q.bias", 48, 0)
      .vectors("attn_k.bias", 16, 0)
      .vectors("attn_v.bias", 16, 0)
      .vectors("attn_output.bias", 48, 0)
      .vectors("ffn_norm.weight", 48, 1)
      .vectors("ffn_norm.bias", 48, 0)
      .matrices("ffn_down.weight", 64, 48)
      .matrices("ffn_up.weight", 48, 64)
      .vectors("ffn_down.bias", 48, 0)
      .vectors("ffn_up.bias", 64, 0)
      .build();
  }
}
