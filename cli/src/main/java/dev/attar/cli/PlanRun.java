package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Path;

/**
 * Carries out plans for the user, with progress.
 *
 * @param console where to show how it goes
 * @param quiet whether not to show it
 * @param threads how many threads work
 * @param overwrite whether files that are there may be replaced
 */
record PlanRun(Console console, boolean quiet, int threads, boolean overwrite) {
  private static final long MEGABYTE = 1_000_000;

  /** As the options of a command say. */
  static PlanRun of(Console console, WriteOptions options) {
    return new PlanRun(console, options.quiet(), options.threads(), options.overwrite());
  }

  /**
   * Writes a model as planned.
   *
   * @param task what is done, {@code quantizing}
   * @return the seconds that it took
   */
  double write(Model model, QuantizationPlan plan, Path out, String task) throws IOException, InterruptedException {
    long started = System.nanoTime();
    double total = (double) plan.bytesBefore() / MEGABYTE;
    double perValue = plan.elements() == 0 ? 0 : total / plan.elements();
    try (Progress progress = Progress.of(console, quiet, task, "MB")) {
      QuantizationRun.run(model, plan, out, overwrite, threads, (done, _, _) ->
        progress.at(Math.round(done * perValue), Math.round(total))
      );
    }
    return (System.nanoTime() - started) / 1e9;
  }
}
