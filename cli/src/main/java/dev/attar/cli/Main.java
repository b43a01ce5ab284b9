package dev.attar.cli;

import java.io.PrintStream;
import picocli.CommandLine;

/** The entry point of the {@code attar} command. */
public final class Main {

  /** Exit code of a command that did what it was asked. */
  static final int SUCCESS = 0;
  /** Exit code of a command that failed: bad input, a full disk. */
  static final int FAILURE = 1;
  /** Exit code of a command line that makes no sense. */
  static final int USAGE = 2;

  private Main() {}

  /** Runs the command line and ends the process with its exit code. */
  public static void main(String[] args) {
    StandardError.restore();
    StandardOutput out = new StandardOutput();
    Interruption interruption = Interruption.watch(Thread.currentThread());
    int code;
    try (PrintStream stdout = out.printStream()) {
      code = run(args, new Console(stdout, System.err));
    }
    if (code == SUCCESS && out.failed()) {
      System.err.println("attar: standard output: " + out.failure());
      code = FAILURE;
    }
    interruption.done();
    System.exit(code);
  }

  /**
   * Runs a command line.
   *
   * @param args its words
   * @param console where text goes
   * @return the exit code: 0 success, 1 failure, 2 a wrong command line
   */
  static int run(String[] args, Console console) {
    CommandLine attar = AttarCommand.commandLine(console);
    try {
      return attar.execute(args);
    } catch (StackOverflowError | OutOfMemoryError | InternalError | AssertionError | LinkageError e) {
      // picocli hands on exceptions only. These come from the heap's limit, a mapped file that shrank, or a mistake of ours.
      return ErrorReport.failure(e, console, MessageOptions.isVerbose(args));
    } finally {
      console.out().flush();
      console.err().flush();
    }
  }
}
