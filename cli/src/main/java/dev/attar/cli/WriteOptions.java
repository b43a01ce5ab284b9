package dev.attar.cli;

import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options of the commands that write a model. */
final class WriteOptions {

  /** The most threads that can be asked for. */
  static final int MAX_THREADS = 1024;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  private int threads = Runtime.getRuntime().availableProcessors();

  @Option(names = "--overwrite", description = "Replace the output if it exists.")
  private boolean overwrite;

  @Option(names = "--quiet", description = "Print errors only: no progress, no summary.")
  private boolean quiet;

  @Option(names = "--threads", paramLabel = "N", description = "How many threads work (default: one per processor).")
  private void setThreads(int n) {
    if (n < 1 || n > MAX_THREADS) {
      throw new ParameterException(
        command.commandLine(),
        "invalid value for option '--threads': " + n + ", expected 1 to " + MAX_THREADS
      );
    }
    threads = n;
  }

  /** How many threads to use, at least 1. */
  int threads() {
    return threads;
  }

  /** Whether an existing output may be replaced. */
  boolean overwrite() {
    return overwrite;
  }

  /** Whether only errors are wanted. */
  boolean quiet() {
    return quiet;
  }
}
