package dev.attar.cli;

import dev.attar.quant.gptq.GptqOptions;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;

/**
 * What models are made for a comparison, and how.
 *
 * @param variants those to be made of the base
 * @param calibration how to measure what enters its layers; empty if no variant needs that
 * @param gptq how GPTQ works; empty if no variant is made by it
 * @param keep the folder for all models that are made; empty for a temporary one
 */
record Making(
  List<Variant> variants,
  Optional<Calibration> calibration,
  Optional<GptqOptions> gptq,
  Optional<Path> keep
) {
  /** No variants; what has to be made all the same goes into a temporary folder. */
  static final Making NONE = new Making(List.of(), Optional.empty(), Optional.empty(), Optional.empty());

  Making {
    variants = List.copyOf(variants);
  }

  /** The same with other variants. */
  Making withEach(UnaryOperator<Variant> change) {
    return new Making(variants.stream().map(change).toList(), calibration, gptq, keep);
  }
}
