package dev.attar.cli;

import dev.attar.formats.Version;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The command itself; the work is in its subcommands. */
@Command(
  name = "attar",
  description = "Makes language models smaller, for llama.cpp.",
  versionProvider = AttarCommand.VersionLine.class,
  commandListHeading = "%nCommands:%n",
  optionListHeading = "%nOptions:%n",
  synopsisSubcommandLabel = "COMMAND",
  footer = { "", "'attar COMMAND --help' describes a command.%n" }
)
final class AttarCommand implements Callable<Integer> {

  @Spec
  private CommandSpec spec;

  @Option(names = { "-h", "--help" }, usageHelp = true, description = "Show this and exit.")
  private boolean help;

  @Option(names = { "-V", "--version" }, versionHelp = true, description = "Show the version and exit.")
  private boolean version;

  private AttarCommand() {}

  /** The whole command line, ready to execute. */
  static CommandLine commandLine(Console console) {
    CommandLine attar = new CommandLine(new AttarCommand())
      .addSubcommand(new ConvertCommand(console))
      .addSubcommand(new QuantizeCommand(console))
      .addSubcommand(new PruneCommand(console))
      .addSubcommand(new LowRankCommand(console))
      .addSubcommand(new MergeCommand(console))
      .addSubcommand(new DistillCommand(console))
      .addSubcommand(new ImatrixCommand(console))
      .addSubcommand(new InspectCommand(console))
      .addSubcommand(new EvalCommand(console))
      .addSubcommand(new BenchCommand(console))
      .addSubcommand(new DevicesCommand(console))
      .addSubcommand(new CompletionCommand(console));
    return attar
      .registerConverter(Path.class, new Converters.Name())
      .setOut(new PrintWriter(console.out(), true))
      .setErr(new PrintWriter(console.err(), true))
      .setCaseInsensitiveEnumValuesAllowed(true)
      .setOverwrittenOptionsAllowed(false)
      .setUsageHelpAutoWidth(false)
      .setUsageHelpLongOptionsMaxWidth(34)
      .setUsageHelpWidth(100)
      .setParameterExceptionHandler((e, _) -> ErrorReport.usage(e, console))
      .setExecutionExceptionHandler((e, command, _) ->
        ErrorReport.failure(e, console, MessageOptions.isVerbose(command))
      );
  }

  @Override
  public Integer call() {
    throw new ParameterException(
      spec.commandLine(),
      "no command, expected one of " + String.join(", ", spec.subcommands().keySet())
    );
  }

  /** Asks for the version only when it is wanted. */
  static final class VersionLine implements IVersionProvider {

    @Override
    public String[] getVersion() {
      return new String[] { "attar " + Version.current() };
    }
  }
}
