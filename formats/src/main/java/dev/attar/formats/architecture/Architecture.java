package dev.attar.formats.architecture;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.tokenizer.Tokenizer;
import java.util.List;
import java.util.Map;

/**
 * A family of models: how its checkpoints look in GGUF. A new family is a subclass, listed in {@link Architectures}, and a test case.
 */
abstract class Architecture {

  private final String ggufName;
  private final List<String> names;

  /**
   * @param ggufName {@code general.architecture}
   * @param names what {@code architectures} of {@code config.json} calls it
   */
  Architecture(String ggufName, String... names) {
    this.ggufName = ggufName;
    this.names = List.of(names);
  }

  /** What {@code architectures} of {@code config.json} calls it. */
  final List<String> names() {
    return names;
  }

  /** {@code general.architecture}. */
  final String ggufName() {
    return ggufName;
  }

  /** What it takes where {@code config.json} says nothing: the defaults of its configuration class in transformers. */
  abstract HyperParameters.Defaults defaults();

  /** Its tensors. */
  abstract List<TensorRule> tensors();

  /** Which tokenizer files count. */
  abstract Tokenizer.Family tokenizer();

  /** Adds keys beyond those that all families have. */
  void writeMetadata(HyperParameters h, Map<String, MetadataValue> out) {
    // None in general.
  }
}
