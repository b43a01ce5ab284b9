package dev.attar.quant.budget;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import java.util.List;
import java.util.OptionalDouble;

/**
 * The types that were chosen for a size.
 *
 * @param target the size that was asked for
 * @param options with which {@link QuantizationPlan#quantize} makes the plan
 * @param plan what is to be written; not larger than the target
 * @param choices what was chosen for each tensor that may change, in the order of the file
 * @param divergence the predicted mean Kullback-Leibler divergence from the model as it is, in nats per token; empty if none was measured
 *     to predict it from
 */
public record BudgetPlan(
  SizeTarget target,
  QuantizeOptions options,
  QuantizationPlan plan,
  List<Choice> choices,
  OptionalDouble divergence
) {
  public BudgetPlan {
    choices = List.copyOf(choices);
  }

  /**
   * What was chosen for a tensor.
   *
   * @param tensor the tensor as it is written
   * @param pinned whether the user had named its type
   * @param error its relative output error, {@link TensorErrors#relative}; not a number if nothing was measured
   * @param loss what it contributes to the predicted divergence; without measured divergences, only comparable with the other tensors'
   *     losses; not a number if nothing was measured
   */
  public record Choice(TensorInfo tensor, boolean pinned, double error, double loss) {
    /** The chosen type. */
    public TensorType type() {
      return tensor.type();
    }

    /** Bytes as written. */
    public long bytes() {
      return tensor.bytes();
    }
  }
}
