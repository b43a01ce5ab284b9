package dev.attar.cli;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** The model that a command works on. */
final class ModelArgument {

  private static final Pattern ENDING = Pattern.compile("(-\\d{5}-of-\\d{5})?\\.(gguf|safetensors)$");
  private static final Pattern PLAIN_TYPE = Pattern.compile("(?i)[-._](f32|f16|bf16)$");

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Parameters(
    paramLabel = "MODEL",
    arity = "0..1", // a command may have something to say without one
    description = {
      "A Hugging Face checkpoint folder, a .safetensors file beside its config.json,",
      "or a .gguf file (of a split model the first)."
    }
  )
  private Path path;

  /**
   * The path as the user gave it.
   *
   * @throws ParameterException if there is none
   */
  Path path() {
    if (path == null) {
      throw new ParameterException(
        command.commandLine(),
        "no model given, expected a checkpoint folder, a .safetensors or a .gguf file"
      );
    }
    return path;
  }

  /** What a model is called: {@code sample-bf16} for {@code models/sample-bf16.gguf}, the name of a checkpoint's folder. */
  static String name(Path model) {
    Path absolute = model.toAbsolutePath().normalize();
    boolean isFolder = Files.isDirectory(absolute);
    // A checkpoint's file has a name that says nothing (model.safetensors).
    Path named = !isFolder && absolute.toString().endsWith(".safetensors") ? absolute.getParent() : absolute;
    String name = named.getFileName() == null ? "model" : named.getFileName().toString();
    return isFolder ? name : ENDING.matcher(name).replaceFirst("");
  }

  /** The name of an output in the current folder: {@code sample-q4_k_m.gguf} for {@code models/sample-bf16.gguf} and q4_k_m. */
  static Path outputName(Path model, String type) {
    return Path.of(PLAIN_TYPE.matcher(name(model)).replaceFirst("") + "-" + type + ".gguf");
  }
}
