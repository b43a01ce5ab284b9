package dev.attar.bench;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * A model to measure.
 *
 * @param name how it is called in results, unique among the subjects of a run: its file name or type
 * @param file the GGUF that llama.cpp opens; of a split model the first part
 * @param origin what the user named: the same file, or the checkpoint that it was made from
 * @param adapters LoRA adapters in GGUF to apply, each with scale 1
 * @param problem why it cannot be measured, if that is known already (a file that is no model, a quantization that was refused): it
 *     takes part only as a failure
 */
public record Subject(String name, Path file, Path origin, List<Path> adapters, Optional<String> problem) {
  public Subject {
    adapters = List.copyOf(adapters);
  }

  /** A GGUF file. */
  public static Subject of(String name, Path file) {
    return new Subject(name, file, file, List.of(), Optional.empty());
  }

  /** One that cannot be measured. */
  public static Subject failed(String name, Path file, String problem) {
    return new Subject(name, file, file, List.of(), Optional.of(problem));
  }
}
