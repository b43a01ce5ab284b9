package dev.attar.cli;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * In what types a model is written of which something was removed, or changed.
 *
 * @param own the type of matrices that keep the source's, if it is not quantized
 * @param encoded whether the source is quantized
 * @param quantize the types that the user wants; empty for the source's
 */
record ModelTypes(OutputType own, boolean encoded, Optional<QuantizeOptions> quantize) {
  /**
   * The types for a model.
   *
   * @param source the whole model
   * @param wanted what the user wants its types to be; empty for the source's
   */
  static ModelTypes of(Model source, Optional<QuantizeOptions> wanted) {
    List<TensorType> matrices = source
      .tensors()
      .stream()
      .map(Tensor::info)
      .filter(info -> info.rank() > 1)
      .map(TensorInfo::type)
      .toList();
    boolean encoded = matrices.stream().anyMatch(TensorType::isQuantized);
    boolean single = source instanceof GgufModel && matrices.stream().allMatch(type -> type == TensorType.F32);
    return new ModelTypes(
      single ? OutputType.F32 : OutputType.AUTO.resolve(source),
      encoded,
      wanted.map(options -> encoded ? options.withAllowRequantize(true) : options)
    );
  }

  /** The same without the user's wishes. */
  ModelTypes asTheyAre() {
    return new ModelTypes(own, encoded, Optional.empty());
  }

  /** What a model becomes: the source, or what was made of it. */
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
    values.keySet().removeIf(ModelTypes::tellsOfQuantization);
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
   * @param changed what cannot keep its type, {@code what loses columns}; empty if everything keeps it
   * @param better what to do instead, {@code prune the original}
   */
  Optional<String> warning(Optional<String> changed, String better) {
    if (!encoded) {
      return Optional.empty();
    }
    if (quantize.isPresent()) {
      return Optional.of("the model is quantized already, to quantize it again costs accuracy: better " + better);
    }
    return changed.map(
      what ->
        "the model is quantized already: " +
        what +
        " is written in F16, which is larger, unless a type is given (-t): better " +
        better
    );
  }
}
