package dev.attar.quant;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * A tensor that may be quantized, and the types that it may get.
 *
 * @param tensor the tensor as the model has it
 * @param types at least one, from the smallest to the largest
 * @param pinned whether the user gave it its one type
 */
public record TypeCandidates(TensorInfo tensor, List<TensorType> types, boolean pinned) {
  public TypeCandidates {
    types = types.stream().sorted(Comparator.comparingDouble(TensorType::bitsPerWeight)).toList();
    if (types.isEmpty()) {
      throw new IllegalArgumentException(tensor.name() + ": no types to choose from");
    }
  }

  /**
   * The tensors of a model that options allow to change, in the order of the output file. Where rows do not fit a type of the ladder,
   * the type is there instead that {@code llama-quantize} falls back to. Every tensor may also stay as it is, and one that is quantized
   * already, or holds integers, can do nothing else unless it is allowed.
   *
   * @param options the wishes: {@code tensorTypes}, {@code outputTensorType}, {@code tokenEmbeddingType}, {@code leaveOutputTensor},
   *     {@code allowRequantize}; the file type does not matter
   * @param ladder the types to choose from
   */
  public static List<TypeCandidates> of(Model model, QuantizeOptions options, List<TensorType> ladder) {
    // The largest quantized type is where every rule takes effect and none needs importance.
    QuantizeOptions wishes = options.withChosen(FileType.Q8_0, null);
    QuantizationPlan plan = QuantizationPlan.quantize(model, wishes);
    List<TensorInfo> sources = model.tensors().stream().map(Tensor::info).toList();
    Recipe recipe = new Recipe(wishes, Hyperparameters.of(model.metadata()), sources);
    List<TypeCandidates> all = new ArrayList<>();
    for (TensorPlan step : plan.tensors()) {
      TensorInfo source = step.source();
      if (!recipe.allows(source) || source.elements() == 0) {
        continue;
      }
      boolean pinned = recipe.isPinned(source);
      Set<TensorType> types = EnumSet.of(pinned ? step.target() : source.type());
      boolean fixed = !source.type().isFloat() || (source.type().isQuantized() && !options.allowRequantize());
      if (!pinned && !fixed) {
        for (TensorType wanted : ladder) {
          Recipe.fitting(source, wanted).ifPresent(types::add);
        }
      }
      all.add(new TypeCandidates(source, List.copyOf(types), pinned));
    }
    return all;
  }
}
