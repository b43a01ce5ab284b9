package dev.attar.calibration;

import java.util.List;

/**
 * What enters one or several linear layers.
 *
 * @param name the weight tensor that meets it first, for example {@code blk.0.attn_q.weight}
 * @param weights the weight tensors that meet it, in the order of the computation, for example also {@code blk.0.attn_k.weight}
 * @param columns values per token, the row length of those tensors
 * @param experts number of matrices in each of those tensors: experts, each of which meets the tokens routed to it, or heads; 1 for
 *     an ordinary layer
 */
public record LinearInput(String name, List<String> weights, int columns, int experts) {
  public LinearInput {
    weights = List.copyOf(weights);
    if (columns < 1 || experts < 1) {
      throw new IllegalArgumentException(name + ": " + columns + " columns, " + experts + " experts");
    }
  }
}
