package dev.attar.cli;

import dev.attar.bench.Machine;
import dev.attar.calibration.Calibrator;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options of the commands that write a model. */
final class WriteOptions {

  /** The most threads that can be asked for. */
  static final int MAX_THREADS = 1024;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  private Integer threads;

  @Option(names = "--overwrite", description = "Replace the output if it exists.")
  private boolean overwrite;

  @Option(names = "--quiet", description = "Print errors only: no progress, no summary.")
  private boolean quiet;

  @Option(
    names = "--threads",
    paramLabel = "N",
    description = "How many threads work (default: one per processor; where a model runs, one per physical core)."
  )
  private void setThreads(int n) {
    threads = (int) Usage.range(command, "--threads", n, 1, MAX_THREADS);
  }

  /** How many threads to use, at least 1. */
  int threads() {
    return threads == null ? Runtime.getRuntime().availableProcessors() : threads;
  }

  /** How many threads are to run a model and to do algebra: physical cores, unless the user says otherwise. */
  int computeThreads() {
    return threads == null ? Machine.computeThreads() : Math.min(threads, Calibrator.MOST_THREADS);
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
