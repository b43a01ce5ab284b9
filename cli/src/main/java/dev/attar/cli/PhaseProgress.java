package dev.attar.cli;

import dev.attar.bench.ProgressListener;

/** Shows the progress of a run that has several phases, of each by itself. */
final class PhaseProgress implements ProgressListener, AutoCloseable {

  private final Console console;
  private final boolean quiet;
  private String phase;
  private Progress progress;

  /**
   * @param console where to show it
   * @param quiet whether not to show it
   */
  PhaseProgress(Console console, boolean quiet) {
    this.console = console;
    this.quiet = quiet;
  }

  @Override
  public void at(String name, long done, long total, String unit) {
    at(name, done, total, unit, "");
  }

  /**
   * The same with something more to say.
   *
   * @param total -1 while it is not known
   * @param note what else there is to say, in the place of how long it will take; empty for nothing
   */
  synchronized void at(String name, long done, long total, String unit, String note) {
    if (!name.equals(phase)) {
      close();
      phase = name;
      progress = Progress.of(console, quiet, name, unit);
    }
    progress.at(done, total, note);
  }

  @Override
  public synchronized void close() {
    if (progress != null) {
      progress.close();
      phase = null;
    }
  }
}
