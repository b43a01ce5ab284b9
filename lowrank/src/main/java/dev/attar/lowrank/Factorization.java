package dev.attar.lowrank;

import dev.attar.formats.TensorInfo;
import java.util.List;

/**
 * What a run found for a model.
 *
 * @param tensors the products, in the order of the model
 * @param whole tensors that stay as they are, since factors within the budget would be no smaller
 * @param tokens how many tokens of the texts were used; 0 if none were needed
 */
public record Factorization(List<FactoredTensor> tensors, List<TensorInfo> whole, long tokens) {
  public Factorization {
    tensors = List.copyOf(tensors);
    whole = List.copyOf(whole);
  }

  /** Numbers in the tensors that could be factorized. */
  public long numbersBefore() {
    return (
      tensors
        .stream()
        .mapToLong(tensor -> tensor.source().elements())
        .sum() +
      whole.stream().mapToLong(TensorInfo::elements).sum()
    );
  }

  /** Numbers in what stands for them. */
  public long numbersAfter() {
    return (
      tensors.stream().mapToLong(FactoredTensor::numbers).sum() + whole.stream().mapToLong(TensorInfo::elements).sum()
    );
  }
}
