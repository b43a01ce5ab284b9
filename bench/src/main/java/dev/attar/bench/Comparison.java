package dev.attar.bench;

import java.util.List;
import java.util.stream.Stream;

/**
 * The result of a run: a base and the models that were compared with it.
 *
 * @param environment where and with what
 * @param settings what was asked for
 * @param base the model that the others are compared with; or the only model
 * @param variants in the order that was asked for; those that failed too
 */
public record Comparison(Environment environment, Settings settings, ModelResult base, List<ModelResult> variants) {
  public Comparison {
    variants = List.copyOf(variants);
  }

  /** The base, then the variants. */
  public List<ModelResult> models() {
    return Stream.concat(Stream.of(base), variants.stream()).toList();
  }
}
