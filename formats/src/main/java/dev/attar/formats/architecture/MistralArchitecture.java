package dev.attar.formats.architecture;

/** Mistral: Llama's graph. */
final class MistralArchitecture extends LlamaArchitecture {

  MistralArchitecture() {
    super("MistralForCausalLM");
  }

  @Override
  HyperParameters.Defaults defaults() {
    return new HyperParameters.Defaults(8, 0, true, 131_072, 1e-6, 10_000);
  }
}
