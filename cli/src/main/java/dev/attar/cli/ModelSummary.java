package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * What a list of tensors adds up to.
 *
 * @param tensors how many
 * @param parameters values in all
 * @param bytes their bytes, without padding
 * @param byType the same per type, in the types' order
 */
record ModelSummary(long tensors, long parameters, long bytes, Map<TensorType, Total> byType) {
  /**
   * The tensors of one type.
   *
   * @param tensors how many
   * @param parameters values in all
   * @param bytes their bytes
   */
  record Total(long tensors, long parameters, long bytes) {
    private static final Total NONE = new Total(0, 0, 0);

    private Total plus(TensorInfo tensor) {
      return new Total(tensors + 1, parameters + tensor.elements(), bytes + tensor.bytes());
    }
  }

  /** Adds up a model's tensors. */
  static ModelSummary of(Model model) {
    return of(model.tensors().stream().map(Tensor::info).toList());
  }

  /** Adds up tensors. */
  static ModelSummary of(List<TensorInfo> tensors) {
    Map<TensorType, Total> byType = new EnumMap<>(TensorType.class);
    Total all = Total.NONE;
    for (TensorInfo tensor : tensors) {
      byType.put(tensor.type(), byType.getOrDefault(tensor.type(), Total.NONE).plus(tensor));
      all = all.plus(tensor);
    }
    return new ModelSummary(all.tensors, all.parameters, all.bytes, byType);
  }

  /** Bits that one value takes on average. */
  double bitsPerWeight() {
    return parameters == 0 ? 0 : (8.0 * bytes) / parameters;
  }

  /** How many tensors of each type: {@code 25 Q4_K, 4 Q6_K, 9 F32}. */
  String types() {
    return String.join(
      ", ",
      byType
        .entrySet()
        .stream()
        .map(e -> e.getValue().tensors() + " " + e.getKey())
        .toList()
    );
  }
}
