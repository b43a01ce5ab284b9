package dev.attar.quant.budget;

import dev.attar.formats.TensorType;
import dev.attar.quant.QuantizeOptions;
import java.util.Map;

/**
 * A choice of types whose effect is to be measured: some tensors get coarse types, all others stay as they are.
 *
 * @param name what is changed: a {@link LossModel#kind kind} of tensors, or {@link #ALL}
 * @param types the types of the tensors that change, by name
 * @param options with which {@link dev.attar.quant.QuantizationPlan#quantize} makes this very choice
 */
public record Probe(String name, Map<String, TensorType> types, QuantizeOptions options) {
  /** The name of the probe that changes all tensors. */
  public static final String ALL = "all";

  public Probe {
    types = Map.copyOf(types);
  }
}
