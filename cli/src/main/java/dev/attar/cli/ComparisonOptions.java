package dev.attar.cli;

import dev.attar.bench.Settings;
import dev.attar.bench.report.HtmlReport;
import dev.attar.formats.FormatException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for a comparison of what was made with what it could have been made otherwise. */
final class ComparisonOptions {

  /** The shortest window that can be scored. */
  private static final int LEAST_CONTEXT = 4;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--text",
    paramLabel = "FILE",
    description = "Then measure the result on this UTF-8 text, beside the model and beside the plain quantization of it that takes " +
      "as many bytes, and say which is better."
  )
  private Path text;

  @Option(names = "--chunks", paramLabel = "N", description = "Evaluate the first N windows of it only (default: all).")
  private Integer windows;

  @Option(names = "--no-latency", description = "Time nothing.")
  private boolean noLatency;

  @Option(
    names = "--report",
    paramLabel = "OUT.html",
    description = "Write a report of the comparison with charts, one file for a browser."
  )
  private Path report;

  /** Whether a comparison is wanted. */
  boolean isWanted() {
    return text != null;
  }

  /** The HTML file to write, if one is wanted. */
  Optional<Path> report() {
    return Optional.ofNullable(report);
  }

  /** The files that are read. */
  List<Path> inputs() {
    return text == null ? List.of() : List.of(text);
  }

  /**
   * Checks that the options go together.
   *
   * @param calibration the text that plain quantization is fitted on; {@code null} without one
   * @throws ParameterException if they do not, or a value is out of range
   */
  void requireSense(Calibration calibration) {
    List<String> given = new ArrayList<>();
    if (windows != null) {
      given.add("--chunks");
    }
    if (noLatency) {
      given.add("--no-latency");
    }
    if (report != null) {
      given.add("--report");
    }
    if (!isWanted() && !given.isEmpty()) {
      throw Usage.error(command, Usage.needs(given, "a --text to compare on"));
    }
    if (isWanted() && calibration == null) {
      throw Usage.error(
        command,
        "--text compares with plain quantization, which needs a text to measure losses on, expected --calibration TEXT"
      );
    }
    if (isWanted()) {
      Settings _ = settings(calibration);
    }
  }

  /**
   * Checks, before long work, that the files can be read and written.
   *
   * @param inputs all files that are read
   * @param outputs what else is written
   * @param context tokens in a window of the text
   */
  void check(boolean overwrite, List<Path> inputs, List<Path> outputs, int context) throws IOException {
    if (isWanted()) {
      MeasureOptions.requireText(text);
      if (Files.size(text) < context) {
        // A token has a byte at least, but for those that begin and end a text.
        throw new FormatException(
          text,
          Files.size(text) + " bytes, expected at least a window of " + context + " tokens"
        );
      }
    }
    if (report != null) {
      if (outputs.stream().anyMatch(out -> report.toAbsolutePath().equals(out.toAbsolutePath()))) {
        throw Usage.error(command, report + " is both the output and the --report, expected two names");
      }
      HtmlReport.check(report, overwrite);
      Output.check(report, overwrite, inputs);
    }
  }

  /**
   * What to measure, if that is wanted: in the windows of the calibration.
   *
   * @throws ParameterException if a value is out of range
   */
  Settings settings(Calibration calibration) {
    int context = (int) Usage.range(command, "--ctx", calibration.context(), LEAST_CONTEXT, Integer.MAX_VALUE);
    return new Settings(
      Optional.of(text),
      context,
      windows == null
        ? OptionalInt.empty()
        : OptionalInt.of(Usage.range(command, "--chunks", windows, 1, 1, Integer.MAX_VALUE)),
      noLatency ? List.of() : MeasureOptions.usualLatency(calibration.threads()),
      MeasureOptions.DEFAULT_REPETITIONS,
      calibration.threads(),
      OptionalInt.empty(),
      false,
      Optional.empty(),
      calibration.patience()
    );
  }
}
