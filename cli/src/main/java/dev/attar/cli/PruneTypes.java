package dev.attar.cli;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.prune.structure.Structure;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * In what types a model is written of which something was removed.
 *
 * @param own the type of matrices that keep the source's, if it is not quantized
 * @param encoded whether the source is quantized
 * @param quantize the types that the user wants; empty for the source's
 */
record PruneTypes(OutputType own, boolean encoded, Optional<QuantizeOptions> quantize) {
  /**
   * The types for a model.
   *
   * @param source the whole model
   * @param wanted what the user wants its types to be; empty for the source's
   */
  static PruneTypes of(Model source, Optional<QuantizeOptions> wanted) {
    List<TensorType> matrices = source
      .tensors()
      .stream()
      .map(Tensor::info)
      .filter(info -> info.rank() > 1)
      .map(TensorInfo::type)
      .toList();
    boolean encoded = matrices.stream().anyMatch(TensorType::isQuantized);
    boolean single = source instanceof GgufModel && matrices.stream().allMatch(type -> type == TensorType.F32);
    return new PruneTypes(
      single ? OutputType.F32 : OutputType.AUTO.resolve(source),
      encoded,
      wanted.map(options -> encoded ? options.withAllowRequantize(true) : options)
    );
  }

  /** The same without the user's wishes. */
  PruneTypes asTheyAre() {
    return new PruneTypes(own, encoded, Optional.empty());
  }

  /** What a model becomes: the source, or what is left of it. */
  QuantizationPlan plan(Model model) {
    if (quantize.isPresent()) {
      return QuantizationPlan.quantize(model, quantize.get());
    }
    return encoded ? copy(model) : QuantizationPlan.convert(model, own);
  }

  /** Every tensor as it is, and what is said of how it was quantized too. */
  private static QuantizationPlan copy(Model model) {
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.COPY));
    Map<String, MetadataValue> values = new LinkedHashMap<>(plan.metadata().values());
    values.keySet().removeIf(PruneTypes::tellsOfQuantization);
    model
      .metadata()
      .values()
      .forEach((key, value) -> {
        if (tellsOfQuantization(key)) {
          values.put(key, value);
        }
      });
    return plan.withMetadata(Metadata.of(values));
  }

  private static boolean tellsOfQuantization(String key) {
    return key.equals("attar.method") || key.startsWith("attar.quantize.");
  }

  /**
   * What the user should know of a source that is quantized, one line; empty if nothing.
   *
   * @param structure what is removed
   */
  Optional<String> warning(Structure structure) {
    if (!encoded) {
      return Optional.empty();
    }
    if (quantize.isPresent()) {
      return Optional.of(
        "the model is quantized already, to quantize it again costs accuracy: better prune the original"
      );
    }
    // Whole layers go without a look at their weights. Of others columns are chosen, which blocks do not allow.
    return structure == Structure.LAYERS
      ? Optional.empty()
      : Optional.of(
          "the model is quantized already: what loses columns or is fitted anew is written in F16, which is larger, unless a " +
            "type is given (-t): better prune the original"
        );
  }
}
