package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.StoredTensor;
import java.lang.foreign.MemorySegment;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;

/**
 * How the tensors of a model are called and arranged in Hugging Face checkpoints of its family, whatever file the model itself is in. For
 * what is stored beside a checkpoint and refers to it by name.
 */
public final class CheckpointNames {

  private final Model model;
  private final Map<String, TensorRule> rules = new HashMap<>();

  private CheckpointNames(Model model) {
    this.model = model;
  }

  /**
   * Where a tensor of a checkpoint is in the model.
   *
   * @param name the name of the model's tensor
   * @param stacked whether that holds all experts, of which the checkpoint's is one
   * @param expert which of them; 0 if it is of none
   * @param heads heads within each of which the rows of rotary halves are interleaved; 0 if rows are in the checkpoint's order
   */
  public record Place(String name, boolean stacked, int expert, int heads) {}

  /**
   * The names for a model.
   *
   * @throws FormatException if checkpoints of its architecture are not known
   */
  public static CheckpointNames of(Model model) throws FormatException {
    CheckpointNames names = new CheckpointNames(model);
    String architecture = model.metadata().architecture();
    // Several families may share one architecture; where they have the same tensors these are arranged alike.
    Architectures.ALL.stream()
      .filter(family -> family.ggufName().equals(architecture))
      .flatMap(family -> family.tensors().stream())
      .forEach(rule -> names.rules.put(rule.stored(), rule));
    if (names.rules.isEmpty()) {
      String known = Architectures.ALL.stream()
        .map(Architecture::ggufName)
        .distinct()
        .collect(Collectors.joining(", "));
      String found = architecture.isEmpty() ? "nothing" : architecture;
      throw new FormatException(
        model.source(),
        "general.architecture",
        found,
        "one whose checkpoints are known: " + known
      );
    }
    return names;
  }

  /**
   * Where a tensor is. Whether the model has it, and in which shape, is not looked at.
   *
   * @param stored the name in a checkpoint, {@code model.layers.0.self_attn.q_proj.weight}
   * @return the place; empty if checkpoints of the family have no such tensor
   * @throws FormatException if the model does not say how many heads it has
   */
  public Optional<Place> place(String stored) throws FormatException {
    Optional<TensorRule.Place> found = TensorRule.place(rules, stored);
    if (found.isEmpty()) {
      return Optional.empty();
    }
    TensorRule rule = found.get().rule();
    int layer = found.get().layer();
    int heads = rule.rows() == TensorRule.Rows.INTERLEAVED ? heads(rule.isOfQueries(), layer) : 0;
    boolean stacked = rule.rows() == TensorRule.Rows.STACKED;
    return Optional.of(new Place(rule.ggufName(layer), stacked, found.get().expert(), heads));
  }

  private int heads(boolean queries, int layer) throws FormatException {
    String prefix = model.metadata().architecture() + ".attention.";
    String key = prefix + "head_count";
    String ofKeys = prefix + "head_count_kv";
    if (!queries && model.metadata().get(ofKeys).isPresent()) {
      key = ofKeys;
    }
    MetadataValue value = model.metadata().get(key).orElse(null);
    long heads = switch (value == null ? null : value.value()) {
      case Long number -> number;
      case long[] numbers when layer < numbers.length -> numbers[layer];
      case null, default -> 0;
    };
    if (heads < 1 || heads > Integer.MAX_VALUE) {
      String found = value == null ? "nothing" : value.toString();
      throw new FormatException(model.source(), "key " + key, found, "the number of heads of layer " + layer);
    }
    return (int) heads;
  }

  /**
   * Presents stored values as a model has those of its tensors.
   *
   * @param name what to call the tensor
   * @param shape its shape, row length first
   * @param parts the stored values, one part for each expert, all of one type of real numbers, together those of the shape
   * @param heads heads within each of which rows are to be interleaved, so many that the rows of each are even in number; 0 to leave rows
   *     in their order
   */
  public static Tensor present(String name, long[] shape, List<StoredTensor> parts, int heads) {
    ElementType type = parts.getFirst().type();
    List<MemorySegment> segments = parts.stream().map(StoredTensor::bytes).toList();
    return new CheckpointTensor(
      new TensorInfo(name, CheckpointTensor.presentedType(type, false), shape),
      type,
      segments,
      heads
    );
  }
}
