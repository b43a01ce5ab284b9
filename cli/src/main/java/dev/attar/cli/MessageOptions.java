package dev.attar.cli;

import java.util.Arrays;
import picocli.CommandLine;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.Option;

/** Options for what a command prints, as each command has them. */
final class MessageOptions {

  @Option(names = { "-h", "--help" }, usageHelp = true, description = "Show this and exit.")
  private boolean help;

  @Option(names = "--verbose", description = "Print details, on failure the stack trace.")
  private boolean verbose;

  @Option(
    names = "--json",
    description = "Print the result as JSON on standard output; what is meant for people goes to standard error."
  )
  private boolean json;

  /** Whether the result is wanted as JSON. */
  boolean json() {
    return json;
  }

  /** Whether details are wanted. */
  boolean verbose() {
    return verbose;
  }

  /** Whether stack traces are wanted in this command, as parsed. */
  static boolean isVerbose(CommandLine command) {
    OptionSpec option = command.getCommandSpec().findOption("--verbose");
    return option != null && Boolean.TRUE.equals(option.getValue());
  }

  /** Whether stack traces are wanted, by the words of the command line. */
  static boolean isVerbose(String[] args) {
    return Arrays.asList(args).contains("--verbose");
  }
}
