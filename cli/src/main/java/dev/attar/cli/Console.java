package dev.attar.cli;

import java.io.PrintStream;

/**
 * Where text goes.
 *
 * @param out standard output: results
 * @param err standard error: errors, progress, and what is meant for people when the result is JSON
 */
record Console(PrintStream out, PrintStream err) {
  /** Tells of something that does not stop the command, in one line. */
  void warn(String warning) {
    err.println("attar: warning: " + Text.escape(warning));
  }
}
