package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.StoredTensor;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Applies the rules of a family to the tensors of a checkpoint: all that must be there are, none is unknown, shapes fit. */
final class TensorMapper {

  /** What quantizers leave in place of a weight. */
  private static final List<String> QUANTIZED = List.of(
    ".qweight",
    ".qzeros",
    ".scales",
    ".g_idx",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_packed",
    ".absmax",
    ".quant_map"
  );

  /** Tensors that hold nothing of the model's own. */
  private static final List<String> IGNORED = List.of(
    ".attention.masked_bias",
    ".attention.bias",
    ".rotary_emb.inv_freq"
  );

  private final Path source;
  private final HyperParameters h;
  private final Map<String, TensorRule> rules = new HashMap<>();
  private final Map<String, Collected> collected = new LinkedHashMap<>();

  /** The stored tensors that make up one tensor of GGUF. */
  private record Collected(TensorRule rule, List<StoredTensor> parts) {}

  private TensorMapper(Path source, HyperParameters h, List<TensorRule> rules) {
    this.source = source;
    this.h = h;
    rules.forEach(rule -> this.rules.put(rule.stored(), rule));
  }

  /**
   * Maps a checkpoint's tensors.
   *
   * @param source the checkpoint, for messages
   * @param h its sizes
   * @param rules the family's tensors
   * @param stored the tensors of the checkpoint
   * @return the tensors that GGUF sees, in the order of the checkpoint
   * @throws FormatException if a tensor is missing, unknown, or has another shape or type than it must
   */
  static List<Tensor> map(Path source, HyperParameters h, List<TensorRule> rules, List<StoredTensor> stored)
    throws FormatException {
    TensorMapper mapper = new TensorMapper(source, h, rules);
    for (StoredTensor tensor : stored) {
      mapper.collect(tensor);
    }
    for (TensorRule rule : rules) {
      mapper.checkComplete(rule);
    }
    List<Tensor> tensors = new ArrayList<>();
    for (Map.Entry<String, Collected> entry : mapper.collected.entrySet()) {
      tensors.add(mapper.tensor(entry.getKey(), entry.getValue()));
    }
    return tensors;
  }

  private void collect(StoredTensor tensor) throws FormatException {
    String name = tensor.name();
    if (IGNORED.stream().anyMatch(name::endsWith)) {
      return;
    }
    if (QUANTIZED.stream().anyMatch(name::endsWith)) {
      throw new FormatException(tensor.file(), "tensor " + name, "a quantized weight", "the original checkpoint");
    }
    TensorRule.Place place = TensorRule.place(rules, name).orElse(null);
    if (place == null) {
      throw new FormatException(tensor.file(), "tensor " + name + " is not one of this architecture");
    }
    TensorRule rule = place.rule();
    int layer = place.layer();
    int expert = place.expert();
    if (rule.isPerLayer() && layer >= h.layers()) {
      String expected = "below num_hidden_layers " + h.layers();
      throw new FormatException(tensor.file(), "tensor " + name, "layer " + layer, expected);
    }
    if (expert >= rule.parts(h)) {
      String expected = "below num_local_experts " + rule.parts(h);
      throw new FormatException(tensor.file(), "tensor " + name, "expert " + expert, expected);
    }
    check(tensor, rule);
    Collected parts = collected.computeIfAbsent(rule.ggufName(layer), _ ->
      new Collected(rule, Arrays.asList(new StoredTensor[rule.parts(h)]))
    );
    parts.parts.set(expert, tensor);
  }

  private void check(StoredTensor tensor, TensorRule rule) throws FormatException {
    String place = "tensor " + tensor.name();
    long[] expected = rule.storedShape(h);
    if (!Arrays.equals(tensor.shape(), expected)) {
      String text = "shape " + StoredTensor.shapeText(expected) + " as config.json says";
      throw new FormatException(tensor.file(), place, "shape " + tensor.shapeText(), text);
    }
    if (!tensor.type().isFloat()) {
      throw new FormatException(tensor.file(), place, "dtype " + tensor.type(), "F32, F16, BF16 or F64");
    }
  }

  private void checkComplete(TensorRule rule) throws FormatException {
    int layers = rule.isPerLayer() ? h.layers() : 1;
    for (int layer = 0; layer < layers; layer++) {
      Collected parts = collected.get(rule.ggufName(layer));
      if (parts == null && rule.required().test(h)) {
        throw missing(rule.storedName(layer, 0));
      }
      for (int i = 0; parts != null && i < parts.parts.size(); i++) {
        if (parts.parts.get(i) == null) {
          throw missing(rule.storedName(layer, i));
        }
      }
    }
  }

  private FormatException missing(String name) {
    return new FormatException(source, "tensor " + name + " is missing");
  }

  private Tensor tensor(String name, Collected collected) throws FormatException {
    TensorRule rule = collected.rule;
    StoredTensor first = collected.parts.getFirst();
    ElementType type = first.type();
    List<MemorySegment> segments = new ArrayList<>();
    for (StoredTensor part : collected.parts) {
      if (part.type() != type) {
        String expected = type + " as in " + first.name();
        throw new FormatException(part.file(), "tensor " + part.name(), "dtype " + part.type(), expected);
      }
      segments.add(part.bytes());
    }
    TensorInfo info = new TensorInfo(name, CheckpointTensor.presentedType(type, rule.isAlwaysF32()), rule.ggufShape(h));
    int heads = rule.rows() == TensorRule.Rows.INTERLEAVED ? rule.heads(h) : 0;
    return new CheckpointTensor(info, type, List.copyOf(segments), heads);
  }
}
