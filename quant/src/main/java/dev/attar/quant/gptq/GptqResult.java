package dev.attar.quant.gptq;

import dev.attar.quant.QuantizationPlan;
import java.util.List;
import java.util.OptionalDouble;

/**
 * What a run did.
 *
 * @param plan what was written
 * @param sequential whether statistics were measured with the layers before already quantized
 * @param tokens how many tokens of the texts were used
 * @param tensors what was done to each tensor; none if they were only rounded
 * @param divergence the predicted mean Kullback-Leibler divergence from the model as it was, in nats per token; empty if types were not
 *     chosen for a size, or nothing was measured to predict it from
 */
public record GptqResult(
  QuantizationPlan plan,
  boolean sequential,
  long tokens,
  List<TensorReport> tensors,
  OptionalDouble divergence
) {
  public GptqResult {
    tensors = List.copyOf(tensors);
  }

  /** The geometric mean of the tensors' {@link TensorReport#errorRatio}; 1 without tensors. */
  public double errorRatio() {
    return Math.exp(
      tensors
        .stream()
        .mapToDouble(t -> Math.log(Math.max(t.errorRatio(), 1e-12)))
        .average()
        .orElse(0)
    );
  }
}
