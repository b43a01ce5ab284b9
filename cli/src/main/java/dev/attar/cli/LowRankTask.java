package dev.attar.cli;

import dev.attar.lowrank.LowRankListener;
import java.util.ArrayList;
import java.util.List;

/** Shows the user how a factorization goes, and keeps what it warns of. */
final class LowRankTask implements LowRankListener, AutoCloseable {

  private final Console console;
  private final boolean quiet;
  private final PhaseProgress progress;
  private final List<String> warnings = new ArrayList<>();
  private boolean announced;

  /**
   * @param console where to show it
   * @param quiet whether not to show it
   */
  LowRankTask(Console console, boolean quiet) {
    this.console = console;
    this.quiet = quiet;
    progress = new PhaseProgress(console, quiet);
  }

  /** Takes what is shown away, until there is more. */
  void pause() {
    progress.close();
  }

  /** Does not say which device computes: the user knows by now. */
  void omitDevice() {
    announced = true;
  }

  /** What the user should know, one line each. */
  List<String> warnings() {
    return warnings;
  }

  @Override
  public void at(String phase, long done, long total, String unit) {
    progress.at(phase, done, total, unit);
  }

  @Override
  public void device(String line) {
    if (!quiet && !announced) {
      announced = true;
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
    pause();
  }
}
