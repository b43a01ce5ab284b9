package dev.attar.cli;

import java.io.PrintStream;
import java.time.Duration;
import java.util.Locale;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarConsumer;
import me.tongfei.progressbar.ProgressBarStyle;

/**
 * Shows how far a task has come, once it has run for two seconds: a bar on a terminal, a line every few seconds elsewhere. Safe
 * for use by several threads.
 */
final class Progress implements AutoCloseable {

  private static final long DELAY_NANOS = 2_000_000_000L;
  private static final long LINE_INTERVAL_NANOS = 5_000_000_000L;

  private final PrintStream err;
  private final String task;
  private final String unit;
  private final boolean terminal;
  private final long started = System.nanoTime();
  private long nextLine = started + DELAY_NANOS;
  private ProgressBar bar;

  /** Progress of a command on standard error; none if it is to be quiet. */
  static Progress of(Console console, boolean quiet, String task, String unit) {
    return new Progress(quiet ? null : console.err(), !quiet && StandardError.isTerminal(), task, unit);
  }

  /**
   * @param err where to show it; {@code null} for nowhere
   * @param terminal whether that is a terminal
   * @param task what is done, {@code quantizing}
   * @param unit what is counted, plural: {@code MB}, {@code windows}
   */
  Progress(PrintStream err, boolean terminal, String task, String unit) {
    this.err = err;
    this.terminal = terminal;
    this.task = task;
    this.unit = unit;
  }

  /**
   * Says how far the task has come.
   *
   * @param done units done
   * @param total units to do in all
   */
  void at(long done, long total) {
    at(done, total, "");
  }

  /**
   * Says how far the task has come, and more.
   *
   * @param done units done
   * @param total units to do in all; -1 while that is not known
   * @param note what else there is to say, in the place of how long it will take; empty for nothing
   */
  synchronized void at(long done, long total, String note) {
    if (err == null) {
      return;
    }
    long now = System.nanoTime();
    if (bar == null && now - nextLine >= 0) {
      if (terminal) {
        bar = startBar(done, total, Duration.ofNanos(now - started), note.isEmpty());
      } else {
        printLine(done, total, note.isEmpty() ? left(done, total, (now - started) / 1e9) : ", " + note);
        nextLine = now + LINE_INTERVAL_NANOS;
      }
    }
    if (bar != null) {
      bar.maxHint(total).stepTo(done).setExtraMessage(note.isEmpty() ? "" : " " + note);
    }
  }

  private ProgressBar startBar(long done, long total, Duration elapsed, boolean estimates) {
    ProgressBarBuilder builder = new ProgressBarBuilder()
      .setTaskName(Text.escape(task))
      .setInitialMax(total)
      .startsFrom(done, elapsed)
      .setUnit(" " + unit, 1)
      .setUpdateIntervalMillis(200)
      .setStyle(ProgressBarStyle.ASCII)
      .setConsumer(new BarLine(err, StandardError.columns()));
    return (estimates ? builder : builder.hideEta()).build();
  }

  private static String left(long done, long total, double elapsed) {
    return done == 0 || done >= total ? "" : ", about " + Text.wait((elapsed * (total - done)) / done) + " left";
  }

  private void printLine(long done, long total, String more) {
    String share = total < 0
      ? String.format(Locale.ROOT, "%d %s", done, unit)
      : String.format(Locale.ROOT, "%d of %d %s, %d%%", done, total, unit, total == 0 ? 100 : (100 * done) / total);
    err.println("attar: " + Text.escape(task) + ", " + share + more);
  }

  @Override
  public synchronized void close() {
    if (bar != null) {
      bar.close();
    }
  }

  /** Draws the bar on one line and wipes it at the end. */
  private record BarLine(PrintStream err, int columns) implements ProgressBarConsumer {
    @Override
    public int getMaxRenderedLength() {
      return columns - 1;
    }

    @Override
    public void accept(String rendered) {
      err.print('\r' + rendered);
      err.flush();
    }

    @Override
    public void close() {
      err.print('\r' + " ".repeat(columns - 1) + '\r');
      err.flush();
    }
  }
}
