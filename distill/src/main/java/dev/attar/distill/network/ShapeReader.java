package dev.attar.distill.network;

import dev.attar.distill.DistillException;
import dev.attar.distill.network.TensorShapes.Size;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/** Reads a model's {@link Shape} and checks that its tensors are those of such a student. */
final class ShapeReader {

  /** Those whose graphs in llama.cpp are what {@link Network} computes. */
  private static final List<String> ARCHITECTURES = List.of("llama", "qwen2", "qwen3");

  private static final List<String> SCALINGS = List.of("none", "linear", "yarn");

  private static final List<String> LINEAR = List.of(
    TensorShapes.QUERY,
    TensorShapes.KEY,
    TensorShapes.VALUE,
    TensorShapes.ATTENTION_OUTPUT,
    TensorShapes.GATE,
    TensorShapes.UP,
    TensorShapes.DOWN
  );

  private static final int MOST = 1 << 24;

  private final String name;
  private final Metadata metadata;
  private final String architecture;
  private final Map<String, Tensor> tensors = new LinkedHashMap<>();

  ShapeReader(Model model) {
    name = model.source().toString();
    metadata = model.metadata();
    architecture = metadata.architecture();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
  }

  Shape read() throws IOException {
    if (!ARCHITECTURES.contains(architecture)) {
      throw refused("its architecture is '" + architecture + "', expected one of " + String.join(", ", ARCHITECTURES));
    }
    if (metadata.integer(key("expert_count")).orElse(0) > 0) {
      throw refused("it is a mixture of experts, expected a dense model");
    }
    int embedding = number("embedding_length");
    int heads = number("attention.head_count");
    int groups = number("attention.head_count_kv", heads);
    int size = number("attention.key_length", Math.max(1, embedding / heads));
    if (heads % groups != 0) {
      throw malformed(key("attention.head_count_kv"), String.valueOf(groups), "a divisor of " + heads);
    }
    for (String same : List.of("attention.value_length", "rope.dimension_count")) {
      if (number(same, size) != size) {
        throw refused(key(same) + " is " + number(same, size) + ", expected the size of keys, " + size);
      }
    }
    if (size % 2 != 0) {
      throw refused("its heads have " + size + " numbers, expected an even number");
    }
    double epsilon = positive("attention.layer_norm_rms_epsilon", 0);
    double scale = metadata.number(key("attention.scale")).orElse(0);
    requireRotary();
    Shape shape = new Shape(
      architecture,
      number("block_count"),
      vocabulary(embedding),
      embedding,
      number("feed_forward_length"),
      heads,
      groups,
      size,
      (float) epsilon,
      (float) (scale == 0 ? 1 / Math.sqrt(size) : scale),
      Rotary.of(metadata, architecture.equals("llama"), size, divisors(size / 2)),
      biases(),
      tensors.containsKey(TensorShapes.name(0, "attn_q_norm.weight")),
      !tensors.containsKey(TensorShapes.OUTPUT)
    );
    requireTensors(shape);
    return shape;
  }

  /** As many tokens as the embedding has rows. */
  private int vocabulary(int embedding) throws IOException {
    Tensor table = require(TensorShapes.EMBEDDING);
    long[] shape = table.info().shape();
    if (shape.length != 2 || shape[0] != embedding || shape[1] > MOST) {
      throw malformed(TensorShapes.EMBEDDING, Arrays.toString(shape), "[" + embedding + ", tokens]");
    }
    return (int) shape[1];
  }

  private Set<String> biases() {
    return LINEAR.stream()
      .filter(layer -> tensors.containsKey(TensorShapes.name(0, layer + ".bias")))
      .collect(Collectors.toUnmodifiableSet());
  }

  private void requireRotary() throws DistillException {
    double base = metadata.number(key("rope.freq_base")).orElse(2);
    if (!(base > 1 && base < Double.POSITIVE_INFINITY)) {
      throw malformed(key("rope.freq_base"), String.valueOf(base), "a number above 1");
    }
    String type = metadata.string(key("rope.scaling.type")).orElse("linear");
    if (!SCALINGS.contains(type)) {
      throw refused("positions are scaled by '" + type + "', expected one of " + String.join(", ", SCALINGS));
    }
    for (String factor : List.of("factor", "original_context_length", "yarn_beta_fast", "yarn_beta_slow")) {
      double _ = positive("rope.scaling." + factor, 1);
    }
  }

  private float[] divisors(int pairs) throws IOException {
    Tensor tensor = tensors.get(TensorShapes.FREQUENCIES);
    if (tensor == null) {
      return null;
    }
    if (!Arrays.equals(tensor.info().shape(), new long[] { pairs })) {
      throw malformed(TensorShapes.FREQUENCIES, Arrays.toString(tensor.info().shape()), "[" + pairs + "]");
    }
    float[] divisors = new float[pairs];
    tensor.decodeRows(0, 1, divisors, 0);
    for (float divisor : divisors) {
      if (!(divisor > 0 && divisor < Float.POSITIVE_INFINITY)) {
        throw malformed(TensorShapes.FREQUENCIES, String.valueOf(divisor), "numbers above 0");
      }
    }
    return divisors;
  }

  private void requireTensors(Shape shape) throws DistillException {
    Map<String, Size> expected = TensorShapes.of(shape);
    for (Map.Entry<String, Size> entry : expected.entrySet()) {
      Size size = entry.getValue();
      long[] found = require(entry.getKey()).info().shape();
      long[] wanted = size.isVector() ? new long[] { size.columns() } : new long[] { size.columns(), size.rows() };
      if (!Arrays.equals(found, wanted)) {
        throw malformed(entry.getKey(), Arrays.toString(found), Arrays.toString(wanted));
      }
    }
    for (String found : tensors.keySet()) {
      if (!expected.containsKey(found) && !found.equals(TensorShapes.FREQUENCIES)) {
        throw refused("it has a tensor " + found + ", which is not known to be trained");
      }
    }
  }

  private Tensor require(String tensor) throws DistillException {
    Tensor found = tensors.get(tensor);
    if (found == null) {
      throw refused("it has no tensor " + tensor);
    }
    return found;
  }

  private String key(String rest) {
    return architecture + "." + rest;
  }

  private int number(String rest) throws DistillException {
    return number(rest, 0);
  }

  /** A number that is the same for all blocks; 0 as the default for one that must be there. */
  private int number(String rest, int otherwise) throws DistillException {
    MetadataValue value = metadata.get(key(rest)).orElse(null);
    if (value == null && otherwise > 0) {
      return otherwise;
    }
    Object found = value == null ? null : value.value();
    if (found instanceof long[] each && each.length > 0) {
      if (Arrays.stream(each).anyMatch(other -> other != each[0])) {
        throw refused(key(rest) + " differs from block to block, expected blocks that are alike");
      }
      found = each[0];
    }
    if (!(found instanceof Long number) || number < 1 || number > MOST) {
      throw malformed(key(rest), value == null ? "nothing" : value.toString(), "a whole number from 1 to " + MOST);
    }
    return number.intValue();
  }

  /** A number above 0; 0 as the default for one that must be there. */
  private double positive(String rest, double otherwise) throws DistillException {
    double number = metadata.number(key(rest)).orElse(otherwise);
    if (!(number > 0 && number < Double.POSITIVE_INFINITY)) {
      String found = metadata.get(key(rest)).map(MetadataValue::toString).orElse("nothing");
      throw malformed(key(rest), found, "a number above 0");
    }
    return number;
  }

  private DistillException refused(String why) {
    return new DistillException(name + ": cannot be trained: " + why);
  }

  private DistillException malformed(String what, String found, String expected) {
    return new DistillException(name + ": " + what + ": found " + found + ", expected " + expected);
  }
}
