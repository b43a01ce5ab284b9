package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import dev.attar.formats.Model;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * Measures importance for the user, with progress.
 *
 * @param console where to show how it goes
 * @param quiet whether not to show it
 */
record ImportanceRun(Console console, boolean quiet) {
  /**
   * What was measured.
   *
   * @param tensors number of tensors that have importance
   * @param windows number of windows
   * @param tokens number of tokens in them
   * @param warnings what the user should know, one line each
   */
  record Measured(int tensors, int windows, long tokens, List<String> warnings) {}

  /**
   * Measures a model. One that llama.cpp cannot run is converted to a temporary file first.
   *
   * @param out the file of the importance, which is replaced if it is there
   * @param calibration on which text
   * @param output whether to measure output.weight too
   */
  Measured measure(Model model, Path out, Calibration calibration, boolean output)
    throws IOException, InterruptedException {
    if (!RunnableModel.needsConversion(model)) {
      return measure(model.source(), out, calibration, output);
    }
    QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.AUTO.resolve(model));
    plan.requireNoProblems();
    try (TemporaryFolder folder = TemporaryFolder.create(plan.fileBytes())) {
      Path gguf = folder.path().resolve("model.gguf");
      double _ = new PlanRun(console, quiet, calibration.threads(), false).write(model, plan, gguf, "converting");
      return measure(gguf, out, calibration, output);
    }
  }

  /** Measures a model that llama.cpp can run. */
  Measured measure(Path gguf, Path out, Calibration calibration, boolean output) throws IOException {
    try (
      PhaseProgress progress = new PhaseProgress(console, quiet);
      Calibrator calibrator = Calibrator.open(gguf, calibration.settings(output), (_, done, windows) ->
        progress.at("measuring importance", done, windows, "windows")
      )
    ) {
      calibrator.importance(out);
      int tensors = calibrator
        .inputs()
        .stream()
        .mapToInt(input -> input.weights().size())
        .sum();
      return new Measured(tensors, calibrator.windows(), calibrator.tokens(), calibrator.warnings());
    }
  }
}
