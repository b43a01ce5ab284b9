package dev.attar.lowrank.heads;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.lowrank.LowRankException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The attention of a model whose heads can be made smaller. */
final class HeadLayout {

  static final String FREQUENCIES = "rope_freqs.weight";

  /** Their graphs take any size of a head, if it is the same for keys, values and rotations; pairs that rotate are neighbours. */
  private static final Set<String> ARCHITECTURES = Set.of("llama", "deci");

  private static final Set<String> PARTS = Set.of(
    "attn_norm.weight",
    "attn_norm.bias",
    "attn_q.weight",
    "attn_q.bias",
    "attn_k.weight",
    "attn_k.bias",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias"
  );

  /** Kinds of scaling that treat all frequencies alike. */
  private static final Set<String> SCALINGS = Set.of("none", "linear");

  private static final Pattern ATTENTION = Pattern.compile("blk\\.\\d+\\.(attn_.*)");

  /** llama.cpp's base of frequencies if the model names none. */
  private static final double DEFAULT_BASE = 10_000;

  private static final int MOST = 1 << 24;

  /**
   * A layer with heads.
   *
   * @param number its number
   * @param heads how many heads of queries
   * @param groups how many heads of keys and of values, a divisor of {@code heads}
   * @param queries (heads size, embedding)
   * @param queryBias {@code null} if there is none; so are the other biases
   * @param keys (groups size, embedding)
   * @param values (groups size, embedding)
   * @param output (embedding, heads size)
   */
  record Layer(
    int number,
    int heads,
    int groups,
    Tensor queries,
    Tensor queryBias,
    Tensor keys,
    Tensor keyBias,
    Tensor values,
    Tensor valueBias,
    Tensor output
  ) {
    int embedding() {
      return Math.toIntExact(queries.info().rowLength());
    }

    /** The group that a head of queries belongs to. */
    int group(int head) {
      return head / (heads / groups);
    }
  }

  private final String name;
  private final Metadata metadata;
  private final String architecture;
  private final Map<String, Tensor> tensors = new HashMap<>();
  private final int size;
  private final double base;
  private final float[] divisors;
  private final List<Layer> layers = new ArrayList<>();

  private HeadLayout(Model model) throws IOException {
    name = model.source().toString();
    metadata = model.metadata();
    architecture = metadata.architecture();
    if (!ARCHITECTURES.contains(architecture)) {
      throw refused("llama.cpp runs other sizes of heads as llama and deci, this is " + architecture);
    }
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    size = readSize();
    requireRotation();
    base = metadata.number(key("rope.freq_base")).orElse(DEFAULT_BASE);
    if (!(base > 0 && base < Double.POSITIVE_INFINITY)) {
      throw malformed(key("rope.freq_base"), String.valueOf(base), "a number above 0");
    }
    divisors = readDivisors();
    requireParts();
    int count = number("block_count", -1, true);
    for (int i = 0; i < count; i++) {
      if (tensors.containsKey("blk." + i + ".attn_k.weight")) {
        layers.add(layer(i));
      }
    }
    if (layers.isEmpty()) {
      throw refused("no layer has heads");
    }
  }

  /**
   * Reads it.
   *
   * @throws LowRankException if llama.cpp would not run the model with smaller heads, or its metadata and tensors contradict each other
   */
  static HeadLayout of(Model model) throws IOException {
    return new HeadLayout(model);
  }

  /** Checks a new size. */
  void require(int newSize) throws LowRankException {
    if (newSize < 2 || newSize >= size || newSize % 2 != 0) {
      throw refused("found " + newSize + " as the new size, expected an even number from 2 to " + (size - 2));
    }
  }

  /** What to call the model in messages. */
  String name() {
    return name;
  }

  String architecture() {
    return architecture;
  }

  /** The size of a head, in values; even. */
  int size() {
    return size;
  }

  /** By how much the pairs rotate from one position to the next, in radians, without what scales all frequencies alike. */
  double[] frequencies() {
    double[] frequencies = new double[size / 2];
    Arrays.setAll(frequencies, pair -> Math.pow(base, (-2.0 * pair) / size) / divisors[pair]);
    return frequencies;
  }

  /**
   * What frequencies have to be divided by in heads of another size so that its pairs have frequencies of this one's.
   *
   * @param pairs whose frequencies the pairs there have
   */
  float[] divisors(List<Integer> pairs) {
    double[] frequencies = frequencies();
    float[] other = new float[pairs.size()];
    for (int i = 0; i < other.length; i++) {
      other[i] = (float) (Math.pow(base, (-1.0 * i) / other.length) / frequencies[pairs.get(i)]);
    }
    return other;
  }

  /** The longest distance of two positions, in steps of the frequencies: that of the context that the model was made for. */
  double longestDistance() throws LowRankException {
    int context = number("context_length", 0, true);
    double factor = metadata.number(key("rope.scaling.factor")).orElse(1);
    return Math.max(1, factor > 1 ? context / factor : context);
  }

  /** The layers that have heads. */
  List<Layer> layers() {
    return List.copyOf(layers);
  }

  private String key(String rest) {
    return architecture + "." + rest;
  }

  private LowRankException refused(String why) {
    return new LowRankException(name + ": heads cannot be made smaller: " + why);
  }

  private LowRankException malformed(String what, String found, String expected) {
    return new LowRankException(name + ": " + what + ": found " + found + ", expected " + expected);
  }

  private int number(String rest, int otherwise, boolean required) throws LowRankException {
    MetadataValue value = metadata.get(key(rest)).orElse(null);
    if (value == null && !required) {
      return otherwise;
    }
    if (value == null || !(value.value() instanceof Long number) || number < 1 || number > MOST) {
      throw malformed(key(rest), value == null ? "nothing" : value.toString(), "a whole number from 1 to " + MOST);
    }
    return number.intValue();
  }

  /** A number that is given for all layers or for each. */
  private long ofLayer(String rest, int layer, long otherwise) throws LowRankException {
    MetadataValue value = metadata.get(key(rest)).orElse(null);
    if (value == null) {
      return otherwise;
    }
    if (value.value() instanceof Long one) {
      return one;
    }
    if (value.value() instanceof long[] each && layer < each.length) {
      return each[layer];
    }
    throw malformed(key(rest), value.toString(), "a whole number, or one for each layer");
  }

  private int readSize() throws LowRankException {
    int stated = number("attention.key_length", 0, false);
    if (stated == 0) {
      int embedding = number("embedding_length", 0, true);
      long heads = ofLayer("attention.head_count", 0, 0);
      if (heads < 1 || heads > embedding) {
        throw malformed(key("attention.head_count"), String.valueOf(heads), "1 to " + embedding);
      }
      stated = (int) (embedding / heads);
    }
    for (String other : List.of("attention.value_length", "rope.dimension_count")) {
      int found = number(other, stated, false);
      if (found != stated) {
        throw refused(key(other) + " is " + found + ", llama.cpp wants the size of keys, " + stated);
      }
    }
    if (stated % 2 != 0) {
      throw refused("they have " + stated + " values, not an even number");
    }
    return stated;
  }

  private void requireRotation() throws LowRankException {
    String scaling = metadata.string(key("rope.scaling.type")).orElse("linear");
    if (!SCALINGS.contains(scaling)) {
      throw refused("rope scaling " + scaling + " depends on the frequencies in its own way, only linear can be kept");
    }
    for (String key : metadata.values().keySet()) {
      if (key.startsWith(key("rope.scaling.yarn_"))) {
        throw refused(key + " makes rotations depend on the frequencies in their own way");
      }
    }
  }

  private float[] readDivisors() throws IOException {
    float[] read = new float[size / 2];
    Tensor tensor = tensors.get(FREQUENCIES);
    if (tensor == null) {
      Arrays.fill(read, 1);
      return read;
    }
    requireShape(tensor, size / 2);
    tensor.decodeRows(0, 1, read, 0);
    for (float divisor : read) {
      if (!(divisor > 0 && divisor < Float.POSITIVE_INFINITY)) {
        throw malformed("tensor " + FREQUENCIES, String.valueOf(divisor), "numbers above 0");
      }
    }
    return read;
  }

  /** Refuses what is not known to follow the size of heads. Single numbers are of no matter. */
  private void requireParts() throws LowRankException {
    for (Tensor tensor : tensors.values()) {
      Matcher part = ATTENTION.matcher(tensor.info().name());
      if (part.matches() && !PARTS.contains(part.group(1)) && tensor.info().elements() > 1) {
        throw refused("there is " + tensor.info().name() + ", which is not one of the tensors that can follow");
      }
    }
  }

  private Layer layer(int number) throws LowRankException {
    String prefix = "blk." + number + ".attn_";
    Tensor queries = matrix(prefix + "q.weight");
    Tensor keys = matrix(prefix + "k.weight");
    long embedding = queries.info().rowLength();
    long heads = queries.info().rows() / size;
    long groups = keys.info().rows() / size;
    long headsStated = ofLayer("attention.head_count", number, heads);
    long groupsStated = ofLayer("attention.head_count_kv", number, headsStated);
    if (heads != headsStated || groups != groupsStated || groups == 0 || heads % groups != 0) {
      throw malformed(
        "layer " + number,
        heads + " heads of queries and " + groups + " of keys",
        headsStated + " and " + groupsStated + ", as the metadata say, of " + size + " values"
      );
    }
    requireShape(queries, embedding, heads * size);
    requireShape(keys, embedding, groups * size);
    Tensor values = matrix(prefix + "v.weight");
    requireShape(values, embedding, groups * size);
    Tensor output = matrix(prefix + "output.weight");
    requireShape(output, heads * size, embedding);
    return new Layer(
      number,
      Math.toIntExact(heads),
      Math.toIntExact(groups),
      queries,
      bias(prefix + "q.bias", heads),
      keys,
      bias(prefix + "k.bias", groups),
      values,
      bias(prefix + "v.bias", groups),
      output
    );
  }

  private Tensor matrix(String tensor) throws LowRankException {
    Tensor found = tensors.get(tensor);
    if (found == null) {
      throw malformed("tensor " + tensor, "nothing", "a matrix");
    }
    return found;
  }

  private Tensor bias(String tensor, long heads) throws LowRankException {
    Tensor found = tensors.get(tensor);
    if (found != null) {
      requireShape(found, heads * size);
    }
    return found;
  }

  private void requireShape(Tensor tensor, long... shape) throws LowRankException {
    TensorInfo info = tensor.info();
    boolean fits = info.rank() <= shape.length;
    for (int i = 0; i < shape.length; i++) {
      fits &= info.dimension(i) == shape[i];
    }
    if (!fits) {
      throw malformed(
        "tensor " + info.name(),
        info.shapeText(),
        shape.length == 1 ? String.valueOf(shape[0]) : shape[0] + " x " + shape[1]
      );
    }
  }
}
