package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Path;

/** Carries out a plan for the user: with progress while it runs, and a report at the end. */
final class PlanRun {

  private final Console console;
  private final WriteOptions options;

  /**
   * @param console where to show how it goes
   * @param options how to run
   */
  PlanRun(Console console, WriteOptions options) {
    this.console = console;
    this.options = options;
  }

  /**
   * Writes the model as planned and tells of it.
   *
   * @param task what is done, {@code quantizing}
   */
  void write(Model model, QuantizationPlan plan, Path out, String task, PlanReport report)
    throws IOException, InterruptedException {
    long started = System.nanoTime();
    long total = plan.bytesBefore();
    double bytesPerValue = plan.elements() == 0 ? 0 : (double) total / plan.elements();
    try (Progress progress = Progress.of(console, options.quiet(), task)) {
      QuantizationRun.run(model, plan, out, options.overwrite(), options.threads(), (done, _, _) ->
        progress.at(Math.round(done * bytesPerValue), total)
      );
    }
    report.written(out, (System.nanoTime() - started) / 1e9);
  }
}
