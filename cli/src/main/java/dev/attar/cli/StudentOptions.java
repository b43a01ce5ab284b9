package dev.attar.cli;

import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for what a student is made of. */
final class StudentOptions {

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--teacher",
    paramLabel = "MODEL",
    description = {
      "The model to learn from, any that llama.cpp runs, quantized too: a Hugging Face checkpoint folder, a .safetensors file " +
        "beside its config.json, or a .gguf file."
    }
  )
  private Path teacher;

  @Option(
    names = "--student",
    paramLabel = "MODEL",
    description = "The model to train, for instance one that 'attar prune' has written; or a config.json, alone or in a folder " +
      "without weights, for a student with fresh ones."
  )
  private Path student;

  @Option(
    names = "--layers",
    paramLabel = "LIST",
    split = ",",
    hideParamSyntax = true,
    description = "Instead of --student: these layers of the teacher, from 0: 0,2,4,6."
  )
  private List<Integer> layers;

  @Option(
    names = "--keep-layers",
    paramLabel = "N",
    description = "Instead of --student: the N layers of the teacher without whose others its predictions change least, as by 'attar " +
      "prune --structure layers', measured on the text."
  )
  private Integer keep;

  /** What a student is made of. */
  sealed interface Source {
    /** Layers of the teacher, ascending. */
    record Layers(List<Integer> numbers) implements Source {}

    /** The best so many layers of the teacher. */
    record BestLayers(int count) implements Source {}

    /** A model, or a configuration. */
    record Given(Path path) implements Source {}
  }

  /** The teacher as the user named it. */
  Path teacher() {
    if (teacher == null) {
      throw Usage.error(command, "no teacher given, expected --teacher MODEL");
    }
    return teacher;
  }

  /**
   * What the student is made of.
   *
   * @throws ParameterException if that is not said, or said twice
   */
  Source source() {
    List<String> given = new ArrayList<>();
    if (student != null) {
      given.add("--student");
    }
    if (layers != null) {
      given.add("--layers");
    }
    if (keep != null) {
      given.add("--keep-layers");
    }
    if (given.isEmpty()) {
      throw Usage.error(
        command,
        "no student given, expected --layers 0,2,… or --keep-layers N of the teacher, or --student MODEL or config.json"
      );
    }
    if (given.size() > 1) {
      throw Usage.error(command, Usage.exclusive(given));
    }
    if (student != null) {
      return new Source.Given(student);
    }
    if (keep != null) {
      return new Source.BestLayers((int) Usage.range(command, "--keep-layers", keep, 1, Integer.MAX_VALUE));
    }
    for (int i = 0; i < layers.size(); i++) {
      if (layers.get(i) < 0 || (i > 0 && layers.get(i) <= layers.get(i - 1))) {
        throw Usage.error(
          command,
          "invalid value for option '--layers': found " +
            layers.get(i) +
            " at " +
            (i + 1) +
            ", expected ascending numbers from 0"
        );
      }
    }
    return new Source.Layers(List.copyOf(layers));
  }
}
