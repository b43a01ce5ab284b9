package dev.attar.prune.structure;

import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.IntStream;

/** Reads a model's {@link Anatomy}. */
final class AnatomyReader {

  /** What there may be of the feed-forward network when its neurons are cut. */
  private static final Set<String> FFN_PARTS = Set.of(
    "ffn_norm.weight",
    "ffn_norm.bias",
    "ffn_gate.weight",
    "ffn_gate.bias",
    "ffn_up.weight",
    "ffn_up.bias",
    "ffn_down.weight",
    "ffn_down.bias"
  );

  /** What there may be of attention when its heads are cut. Norms of queries and keys are those of one head. */
  private static final Set<String> ATTENTION_PARTS = Set.of(
    "attn_norm.weight",
    "attn_norm.bias",
    "attn_q.weight",
    "attn_q.bias",
    "attn_q_norm.weight",
    "attn_k.weight",
    "attn_k.bias",
    "attn_k_norm.weight",
    "attn_v.weight",
    "attn_v.bias",
    "attn_output.weight",
    "attn_output.bias"
  );

  private final String name;
  private final Metadata metadata;
  private final String architecture;
  private final List<TensorInfo> tensors;

  /** The tensors of each layer, by what they are in it. */
  private final Map<Integer, Map<String, TensorInfo>> byLayer = new HashMap<>();

  AnatomyReader(Model model) {
    name = model.source().toString();
    metadata = model.metadata();
    architecture = metadata.architecture();
    tensors = model.tensors().stream().map(Tensor::info).toList();
    for (TensorInfo tensor : tensors) {
      LayerTensor.of(tensor.name()).ifPresent(place ->
        byLayer.computeIfAbsent(place.layer(), _ -> new TreeMap<>()).put(place.part(), tensor)
      );
    }
  }

  Anatomy read() throws IOException {
    int layers = countLayers();
    int[] widths = values("feed_forward_length", layers, new int[layers]);
    int[] heads = values("attention.head_count", layers, new int[layers]);
    int[] groups = values("attention.head_count_kv", layers, heads);
    int[] none = new int[layers];
    int[] keyLengths = values("attention.key_length", layers, none);
    int[] valueLengths = values("attention.value_length", layers, keyLengths);
    List<Anatomy.Part> parts = new ArrayList<>();
    String ffn = Families.obstacleToFewerNeurons(architecture);
    String attention = null;
    for (int i = 0; i < layers; i++) {
      int neurons = 0;
      Anatomy.Part heart = new Anatomy.Part(0, 0, 0, 0);
      try {
        neurons = neurons(i, widths[i]);
      } catch (Obstacle e) {
        ffn = ffn == null ? e.getMessage() : ffn;
      }
      try {
        heart = heads(i, heads[i], groups[i], keyLengths[i], valueLengths[i]);
      } catch (Obstacle e) {
        attention = attention == null ? e.getMessage() : attention;
      }
      parts.add(new Anatomy.Part(neurons, heart.groups(), heart.headsPerGroup(), heart.headSize()));
    }
    return new Anatomy(
      architecture,
      parts,
      new Anatomy.Obstacles(name, ffn, attention, obstacleToFewerLayers(), obstacleToDifferences())
    );
  }

  /** Something cannot be cut; the message says why. */
  private static final class Obstacle extends Exception {

    private static final long serialVersionUID = 1L;

    Obstacle(String message) {
      super(message);
    }
  }

  /** The number of layers, which metadata and tensors agree on. */
  private int countLayers() throws PruneException {
    if (architecture.isEmpty()) {
      throw new PruneException(name + ": general.architecture: found nothing, expected the name of an architecture");
    }
    String key = architecture + ".block_count";
    long stated = metadata.integer(key).orElse(0);
    int found = byLayer.size();
    if (stated < 1 || stated != found || !IntStream.range(0, found).allMatch(byLayer::containsKey)) {
      throw new PruneException(
        name + ": " + key + ": found " + stated + ", expected the number of layers that have tensors, " + found
      );
    }
    return (int) stated;
  }

  private int[] values(String key, int layers, int[] otherwise) throws PruneException {
    return PerLayer.read(name, metadata, architecture + "." + key, layers).map(PerLayer::values).orElse(otherwise);
  }

  private TensorInfo tensor(int layer, String part) {
    return byLayer.get(layer).get(part);
  }

  private TensorInfo require(int layer, String part) throws Obstacle {
    TensorInfo tensor = tensor(layer, part);
    if (tensor == null) {
      throw new Obstacle("layer " + layer + " has no " + part);
    }
    return tensor;
  }

  /** Refuses tensors whose name begins so and that are not among those that can be cut, or are of no matter. */
  private void requireKnown(int layer, String prefix, Set<String> known) throws Obstacle {
    for (Map.Entry<String, TensorInfo> entry : byLayer.get(layer).entrySet()) {
      String part = entry.getKey();
      if (part.startsWith(prefix) && !known.contains(part) && entry.getValue().elements() > 1) {
        throw new Obstacle("layer " + layer + " has " + part + ", which is not one of the tensors that can be cut");
      }
    }
  }

  /** Checks the shape of a tensor, or of a bias that may be missing. */
  private static void requireShape(TensorInfo tensor, long... shape) throws Obstacle {
    boolean fits = tensor == null || tensor.rank() <= shape.length;
    for (int i = 0; fits && tensor != null && i < shape.length; i++) {
      fits = shape[i] == tensor.dimension(i);
    }
    if (!fits) {
      String expected = shape.length == 1 ? Long.toString(shape[0]) : shape[0] + " x " + shape[1];
      throw new Obstacle(tensor.name() + ": found " + tensor.shapeText() + ", expected " + expected);
    }
  }

  private int neurons(int layer, int stated) throws Obstacle {
    if (stated == 0 && tensor(layer, "ffn_down.weight") == null && architecture.equals(Families.NON_UNIFORM)) {
      return 0;
    }
    requireKnown(layer, "ffn_", FFN_PARTS);
    TensorInfo down = require(layer, "ffn_down.weight");
    TensorInfo up = require(layer, "ffn_up.weight");
    if (down.rank() > 2 || down.rowLength() != stated) {
      throw new Obstacle(
        down.name() + ": found " + down.shapeText() + ", expected feed_forward_length " + stated + " columns"
      );
    }
    long embedding = down.rows();
    requireShape(up, embedding, stated);
    requireShape(tensor(layer, "ffn_gate.weight"), embedding, stated);
    requireShape(tensor(layer, "ffn_up.bias"), stated);
    requireShape(tensor(layer, "ffn_gate.bias"), stated);
    requireShape(tensor(layer, "ffn_down.bias"), embedding);
    return stated;
  }

  private Anatomy.Part heads(int layer, int heads, int groups, int keyLength, int valueLength) throws Obstacle {
    if (groups == 0 && tensor(layer, "attn_k.weight") == null && architecture.equals(Families.NON_UNIFORM)) {
      return new Anatomy.Part(0, 0, 0, 0);
    }
    requireKnown(layer, "attn_", ATTENTION_PARTS);
    TensorInfo key = require(layer, "attn_k.weight");
    if (groups == 0 || heads % groups != 0) {
      throw new Obstacle("layer " + layer + " has " + heads + " heads of queries and " + groups + " of keys");
    }
    long size = key.rows() / groups;
    if (key.rank() > 2 || size == 0 || size > PerLayer.MOST || size * groups != key.rows()) {
      throw new Obstacle(key.name() + ": found " + key.shapeText() + ", expected rows of " + groups + " heads");
    }
    if ((keyLength != 0 && keyLength != size) || (valueLength != 0 && valueLength != size)) {
      throw new Obstacle(
        key.name() + ": heads of " + size + ", expected key_length " + keyLength + " and value_length " + valueLength
      );
    }
    long embedding = key.rowLength();
    long queries = heads * size;
    requireShape(require(layer, "attn_q.weight"), embedding, queries);
    requireShape(require(layer, "attn_v.weight"), embedding, groups * size);
    requireShape(require(layer, "attn_output.weight"), queries, embedding);
    requireShape(tensor(layer, "attn_q.bias"), queries);
    requireShape(tensor(layer, "attn_k.bias"), groups * size);
    requireShape(tensor(layer, "attn_v.bias"), groups * size);
    requireShape(tensor(layer, "attn_output.bias"), embedding);
    requireShape(tensor(layer, "attn_q_norm.weight"), size);
    requireShape(tensor(layer, "attn_k_norm.weight"), size);
    return new Anatomy.Part(0, groups, heads / groups, (int) size);
  }

  private String obstacleToFewerLayers() {
    String key = architecture + ".nextn_predict_layers";
    return metadata.integer(key).orElse(0) == 0
      ? Families.obstacleToFewerLayers(architecture)
      : "some predict further tokens (" + key + ")";
  }

  private String obstacleToDifferences() {
    if (!Families.canBecomeNonUniform(architecture)) {
      return "llama.cpp runs layers that differ only of Llama-like models, as deci, this is " + architecture;
    }
    return tensors
      .stream()
      .map(TensorInfo::name)
      .filter(tensor -> !Families.isKnownToNonUniform(tensor))
      .findFirst()
      .map(tensor -> "llama.cpp runs layers that differ as deci, which has no " + tensor)
      .orElse(null);
  }
}
