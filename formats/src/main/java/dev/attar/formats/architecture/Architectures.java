package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import java.util.List;
import java.util.stream.Collectors;

/** The families of models that are known. */
final class Architectures {

  /** All of them. */
  static final List<Architecture> ALL = List.of(
    new LlamaArchitecture(),
    new MistralArchitecture(),
    new MixtralArchitecture(),
    new Qwen2Architecture(),
    new Qwen3Architecture()
  );

  private Architectures() {}

  /**
   * The family of a checkpoint.
   *
   * @throws FormatException if it is unknown, already quantized, or more than a language model
   */
  static Architecture of(CheckpointConfig config) throws FormatException {
    String name = config.json().path("architectures").path(0).asText("");
    Architecture architecture = ALL.stream()
      .filter(known -> known.names().contains(name))
      .findFirst()
      .orElse(null);
    if (architecture == null) {
      String known = ALL.stream()
        .flatMap(a -> a.names().stream())
        .collect(Collectors.joining(", "));
      throw new FormatException(config.file(), "architectures", name.isEmpty() ? "nothing" : name, "one of " + known);
    }
    for (String part : List.of("vision_config", "audio_config", "text_config")) {
      if (config.has(part)) {
        throw new FormatException(config.file(), part, "a model of more than text", "a language model");
      }
    }
    if (config.has("quantization_config")) {
      String method = config.json().path("quantization_config").path("quant_method").asText("some method");
      String found = "weights quantized by " + method;
      throw new FormatException(config.file(), "quantization_config", found, "the original checkpoint");
    }
    return architecture;
  }
}
