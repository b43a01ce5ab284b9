package dev.attar.quant.budget;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.Map;

/**
 * What types do to the output of one tensor W, with H the Gram matrix of its input and E the error of its weights.
 *
 * @param tensor the tensor as the model has it
 * @param observed whether H is known; if not, it is the diagonal matrix of the importance, or of ones
 * @param energy tr(W H W'), the mean square length of the output of a token; if H is not known, the mean square length of a row
 * @param relative tr(E H E') / tr(W H W') for each type, 0 for the tensor's own; infinite if the type cannot hold a value
 */
public record TensorErrors(TensorInfo tensor, boolean observed, double energy, Map<TensorType, Double> relative) {
  public TensorErrors {
    relative = Map.copyOf(relative);
  }

  /** The tensor's name. */
  public String name() {
    return tensor.name();
  }
}
