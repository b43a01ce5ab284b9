package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Converts a checkpoint to GGUF. */
@Command(name = "convert", description = "Write a checkpoint as GGUF, its matrices unquantized or in 8 bits.")
final class ConvertCommand implements Callable<Integer> {

  private final Console console;

  @Mixin
  private ModelArgument model;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = { "-o", "--output" },
    paramLabel = "OUT.gguf",
    description = "The file to write (default: the model's name with the type, in the current folder)."
  )
  private Path output;

  @Option(
    names = "--outtype",
    paramLabel = "TYPE",
    description = {
      "The type of matrices: auto, f32, f16, bf16 or q8_0 (default: auto,",
      "their own type if it has 16 bits, f16 otherwise). Vectors are always f32."
    }
  )
  private OutputType type = OutputType.AUTO;

  ConvertCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    Path source = model.path();
    try (Model opened = Models.open(source)) {
      OutputType resolved = type.resolve(opened);
      Path out = output != null ? output : ModelArgument.outputName(source, resolved.name().toLowerCase(Locale.ROOT));
      Output.check(out, writing.overwrite(), Output.inputs(opened));
      QuantizationPlan plan = QuantizationPlan.convert(opened, resolved);
      PlanReport report = new PlanReport(console, messages.json(), writing.quiet(), plan, resolved.name());
      report.written(out, PlanRun.of(console, writing).write(opened, plan, out, "converting"), messages.verbose());
    }
    return Main.SUCCESS;
  }
}
