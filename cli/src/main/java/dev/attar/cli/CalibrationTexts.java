package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for the texts that a model reads while it is measured what enters its layers. */
class CalibrationTexts {

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--calibration",
    paramLabel = "TEXT",
    description = "Measure what enters the layers while the model reads this text: a document in UTF-8, or in a file " +
      "*.jsonl one on each line, {\"text\": ...}. May be repeated."
  )
  private List<Path> texts = new ArrayList<>();

  @Option(
    names = "--calibration-tokens",
    paramLabel = "N",
    description = "Use so many tokens of the texts (default: 65536)."
  )
  private Long tokens;

  /** The texts as the user named them. */
  final List<Path> texts() {
    return texts;
  }

  /** The command that has these options. */
  final CommandSpec command() {
    return command;
  }

  /** The options without a use where there is no text, as given. */
  List<String> dependent() {
    return tokens == null ? List.of() : List.of("--calibration-tokens");
  }

  /**
   * How many tokens to use.
   *
   * @param window tokens in a window, which they are cut into
   * @throws ParameterException if it is out of range, or less than a window
   */
  final long tokens(int window) {
    long used = tokens == null
      ? Calibrator.DEFAULT_TOKENS
      : Usage.range(command, "--calibration-tokens", tokens, 1, Calibrator.MOST_TOKENS);
    if (used < window) {
      throw Usage.error(
        command,
        "invalid value for option '--calibration-tokens': " + used + ", expected at least a window, --ctx " + window
      );
    }
    return used;
  }
}
