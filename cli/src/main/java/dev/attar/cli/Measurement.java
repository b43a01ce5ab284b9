package dev.attar.cli;

import dev.attar.bench.Benchmark;
import dev.attar.bench.Comparison;
import dev.attar.bench.Settings;
import dev.attar.bench.Subject;
import dev.attar.bench.report.HtmlReport;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Measures models for the user: everything is checked first, then they are made where necessary and measured, with progress. */
final class Measurement {

  private final Console console;
  private final CommandSpec command;
  private final MeasureOptions options;

  /**
   * @param console where to show how it goes
   * @param command the command that the user gave
   * @param options its options
   */
  Measurement(Console console, CommandSpec command, MeasureOptions options) {
    this.console = console;
    this.command = command;
    this.options = options;
  }

  /**
   * Measures models.
   *
   * @param models the base, then its variants
   * @param settings what to measure
   * @param making what further variants are made from the base
   * @throws ParameterException if a model is given twice
   * @throws IOException if a model does not exist, the base or a file of the options cannot be read, or a file cannot be written
   */
  Comparison run(List<MeasuredModel> models, Settings settings, Making making)
    throws IOException, InterruptedException {
    requireDistinct(models);
    if (making.calibration().isPresent()) {
      making.calibration().get().check();
    }
    try (
      ImportanceMatrix importance = options.open();
      Participants participants = Participants.open(console, options, models, weighted(making, importance))
    ) {
      checkReport(participants, making);
      return measure(participants.make(), settings);
    }
  }

  /**
   * Writes the report if one is wanted, and says where it is. To be called once the result is printed, which then is not lost if this
   * fails.
   *
   * @param people where to say it; {@code null} for nowhere
   */
  void writeReport(Comparison comparison, PrintStream people) throws IOException {
    if (options.report().isPresent()) {
      Path report = options.report().get();
      HtmlReport.write(comparison, report, options.overwrite());
      if (people != null) {
        people.println();
        people.println("report: " + Text.escape(report.toString()));
      }
    }
  }

  private Making weighted(Making making, ImportanceMatrix importance) {
    String file = options.importanceFile().map(Path::toString).orElse(null);
    return making.withEach(variant ->
      variant.kind() == Variant.Kind.IMATRIX
        ? variant
        : variant.with(variant.options().withImportance(importance, file))
    );
  }

  private Comparison measure(List<Subject> subjects, Settings settings) throws IOException, InterruptedException {
    List<Subject> variants = subjects.subList(1, subjects.size());
    try (PhaseProgress progress = new PhaseProgress(console, options.quiet())) {
      return Benchmark.run(subjects.getFirst(), variants, settings, words(command), progress);
    }
  }

  /** The command as a shell would be given it. */
  static String words(CommandSpec command) {
    List<String> words = new ArrayList<>(List.of("attar"));
    words.addAll(command.root().commandLine().getParseResult().originalArgs());
    return ShellWords.join(words);
  }

  private void requireDistinct(List<MeasuredModel> models) throws IOException {
    for (int i = 0; i < models.size(); i++) {
      for (MeasuredModel earlier : models.subList(0, i)) {
        MeasuredModel model = models.get(i);
        if (model.isSame(earlier)) {
          String message = model.equals(earlier)
            ? model + " is given twice"
            : model + " and " + earlier + " are the same";
          throw new ParameterException(command.commandLine(), message);
        }
      }
    }
  }

  private void checkReport(Participants participants, Making making) throws IOException {
    if (options.report().isPresent()) {
      List<Path> inputs = new ArrayList<>(participants.inputs());
      options.text().ifPresent(inputs::add);
      options.importanceFile().ifPresent(inputs::add);
      making.calibration().ifPresent(calibration -> inputs.addAll(calibration.texts()));
      HtmlReport.check(options.report().get(), options.overwrite());
      Output.check(options.report().get(), options.overwrite(), inputs);
    }
  }
}
