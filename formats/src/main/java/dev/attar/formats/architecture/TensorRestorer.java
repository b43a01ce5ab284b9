package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsWriter;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Applies the rules of a family in the other direction than {@link TensorMapper}: from the tensors of GGUF to those of a checkpoint. */
final class TensorRestorer {

  private static final Pattern LAYER = Pattern.compile("(?<=^blk\\.)(0|[1-9][0-9]{0,8})(?=\\.)");

  private final Model model;
  private final HyperParameters h;
  private final int[] layers;
  private final Map<String, StoredTensor> stored = new HashMap<>();
  private final Map<String, TensorRule> rules = new HashMap<>();
  private final List<RestoredTensor> restored = new ArrayList<>();

  private TensorRestorer(Model model, HyperParameters h, int[] layers) {
    this.model = model;
    this.h = h;
    this.layers = layers;
  }

  /**
   * Finds what a checkpoint has of a model.
   *
   * @param model the model
   * @param h its sizes
   * @param rules the family's tensors
   * @param stored the tensors of the checkpoint that the model was made of
   * @param layers for each layer of the model its number in that checkpoint
   * @return the tensors, in the order of the model
   * @throws FormatException if a tensor is missing, unknown, or has another shape or type than it must
   */
  static List<RestoredTensor> restore(
    Model model,
    HyperParameters h,
    List<TensorRule> rules,
    List<StoredTensor> stored,
    int[] layers
  ) throws IOException {
    TensorRestorer restorer = new TensorRestorer(model, h, layers);
    rules.forEach(rule -> restorer.rules.put(rule.gguf(), rule));
    stored.forEach(tensor -> restorer.stored.put(tensor.name(), tensor));
    Set<String> names = new HashSet<>();
    for (Tensor tensor : model.tensors()) {
      names.add(tensor.info().name());
      restorer.restore(tensor);
    }
    for (TensorRule rule : rules) {
      for (int layer = 0; layer < (rule.isPerLayer() ? h.layers() : 1); layer++) {
        if (rule.required().test(h) && !names.contains(rule.ggufName(layer))) {
          throw new FormatException(model.source(), "tensor " + rule.ggufName(layer) + " is missing");
        }
      }
    }
    return restorer.restored;
  }

  private void restore(Tensor tensor) throws IOException {
    TensorInfo info = tensor.info();
    if (info.name().equals(ComputedTensor.ROPE_FREQUENCIES) && h.rope().hasFrequencyFactors()) {
      return; // Follows from config.json.
    }
    String place = "tensor " + info.name();
    Matcher match = LAYER.matcher(info.name());
    int layer = match.find() ? Integer.parseInt(match.group()) : 0;
    TensorRule rule = rules.get(match.replaceFirst(Matcher.quoteReplacement(TensorRule.LAYER)));
    if (rule == null) {
      throw new FormatException(model.source(), place + " has no place in the checkpoint");
    }
    if (layer >= h.layers()) {
      throw new FormatException(model.source(), place, "layer " + layer, "below the number of layers " + h.layers());
    }
    TensorInfo expected = new TensorInfo(info.name(), TensorType.F32, rule.ggufShape(h));
    if (!info.shapeText().equals(expected.shapeText())) {
      throw new FormatException(model.source(), place, "shape " + info.shapeText(), expected.shapeText());
    }
    switch (info.type()) {
      case F32, F16, BF16 -> {
        // What can be written.
      }
      default -> throw new FormatException(model.source(), place, "type " + info.type(), "F32, F16 or BF16");
    }
    int parts = rule.parts(h);
    List<Long> shape = Arrays.stream(rule.storedShape(h)).boxed().toList();
    int heads = rule.rows() == TensorRule.Rows.INTERLEAVED ? rule.heads(h) : 0;
    for (int part = 0; part < parts; part++) {
      ElementType type = type(tensor, rule, rule.storedName(layers[layer], part));
      SafetensorsWriter.Entry entry = new SafetensorsWriter.Entry(rule.storedName(layer, part), type, shape);
      restored.add(new RestoredTensor(entry, tensor, part, parts, heads));
    }
  }

  /**
   * The type that a tensor is written as: its own, or, if GGUF holds it in single precision by rule, the one from which it came, unless
   * it has been changed to what that does not hold.
   *
   * @param origin the name of the tensor of the checkpoint that it was made of
   */
  private ElementType type(Tensor tensor, TensorRule rule, String origin) throws IOException {
    TensorInfo info = tensor.info();
    StoredTensor before = stored.get(origin);
    if (before == null) {
      throw new FormatException(model.source(), "tensor " + info.name() + ": the checkpoint has no " + origin);
    }
    TensorType type = info.type();
    if (rule.isAlwaysF32()) {
      boolean half = before.type() == ElementType.F16 || before.type() == ElementType.BF16;
      TensorType own = half ? before.type().tensorType().orElseThrow() : TensorType.F32;
      type = RestoredTensor.isExact(tensor, own) ? own : TensorType.F32;
    }
    return ElementType.byName(type.name()).orElseThrow();
  }
}
