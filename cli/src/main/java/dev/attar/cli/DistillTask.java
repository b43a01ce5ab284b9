package dev.attar.cli;

import dev.attar.distill.DistillListener;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Shows the user how a distillation goes, and keeps what it warns of. */
final class DistillTask implements DistillListener, AutoCloseable {

  private final Console console;
  private final boolean quiet;
  private final PhaseProgress progress;
  private final List<String> warnings = new ArrayList<>();
  private boolean announced;

  /**
   * @param console where to show it
   * @param quiet whether not to show it
   */
  DistillTask(Console console, boolean quiet) {
    this.console = console;
    this.quiet = quiet;
    progress = new PhaseProgress(console, quiet);
  }

  /** What the user should know, one line each. */
  List<String> warnings() {
    return warnings;
  }

  /** Where other parts show how far they are. */
  PhaseProgress progress() {
    return progress;
  }

  @Override
  public void at(String phase, long done, long total, String unit) {
    progress.at(phase, done, total, unit);
  }

  @Override
  public void step(Step step) {
    String left = step
      .left()
      .map(time -> ", about " + Text.wait(time.toMillis() / 1000.0) + " left")
      .orElse("");
    String note =
      "loss " +
      Text.number(step.loss(), 4) +
      String.format(Locale.ROOT, ", %,.0f tokens/s", step.tokensPerSecond()) +
      left;
    progress.at(step.phase(), step.number(), step.steps() == 0 ? -1 : step.steps(), "steps", note);
  }

  @Override
  public void validated(Validation validation) {
    if (quiet) {
      return;
    }
    progress.close();
    String when = validation.phase().equals(DistillMeasures.START)
      ? "before training"
      : validation.phase() + ", step " + validation.step();
    String divergence = Double.isNaN(validation.divergence())
      ? ""
      : ", divergence " + Text.number(validation.divergence(), 4);
    console
      .err()
      .println(
        "attar: " +
          when +
          ": held out, perplexity " +
          Text.number(Math.exp(validation.crossEntropy()), 4) +
          divergence +
          (validation.best() ? "" : " (not better)")
      );
  }

  @Override
  public void device(String line) {
    if (!quiet && !announced) {
      announced = true;
      progress.close();
      console.err().println("attar: " + Text.escape(line));
    }
  }

  @Override
  public void warn(String message) {
    if (!warnings.contains(message)) {
      warnings.add(message);
    }
  }

  @Override
  public void close() {
    progress.close();
  }
}
