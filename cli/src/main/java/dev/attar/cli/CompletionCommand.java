package dev.attar.cli;

import java.util.concurrent.Callable;
import picocli.AutoComplete;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Prints the script that completes attar's commands and options in a shell. */
@Command(
  name = "completion",
  description = "Print the completion script for bash and zsh.",
  footer = { "", "In bash or zsh: source <(attar completion)%n" }
)
final class CompletionCommand implements Callable<Integer> {

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Option(names = { "-h", "--help" }, usageHelp = true, description = "Show this and exit.")
  private boolean help;

  CompletionCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() {
    console.out().print(AutoComplete.bash("attar", spec.parent().commandLine()));
    return Main.SUCCESS;
  }
}
