package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Measures an importance matrix. */
@Command(
  name = "imatrix",
  customSynopsis = "attar imatrix MODEL --calibration TEXT... -o OUT.gguf [OPTION]...",
  description = "Measure how much each column of a model's matrices matters, for quantizing it.",
  footer = {
    "",
    "The file is one of llama-imatrix in its GGUF form, for --imatrix of attar and of llama-quantize:",
    "for each linear layer the sum of the squares of each input, over the tokens of the texts.",
    "",
    "Example:",
    "  attar imatrix checkpoint/ --calibration calibration.txt -o imatrix.gguf"
  }
)
final class ImatrixCommand implements Callable<Integer> {

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Mixin
  private CalibrationOptions calibrating;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(names = { "-o", "--output" }, paramLabel = "OUT.gguf", required = true, description = "The file to write.")
  private Path out;

  @Option(names = "--process-output", description = "Measure output.weight too.")
  private boolean processOutput;

  ImatrixCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    Path source = model.path();
    if (calibrating.texts().isEmpty()) {
      throw Usage.error(spec, "no text given, expected --calibration TEXT");
    }
    Calibration calibration = calibrating.calibration(writing.computeThreads());
    try (Model opened = Models.open(source)) {
      calibration.check();
      List<Path> inputs = Output.inputs(opened);
      inputs.addAll(calibration.texts());
      Output.check(out, writing.overwrite(), inputs);
      long started = System.nanoTime();
      ImportanceRun.Measured measured = new ImportanceRun(console, writing.quiet()).measure(
        opened,
        out,
        calibration,
        processOutput
      );
      report(measured, (System.nanoTime() - started) / 1e9);
    }
    return Main.SUCCESS;
  }

  private void report(ImportanceRun.Measured measured, double seconds) throws IOException {
    if (!writing.quiet()) {
      PrintStream people = messages.json() ? console.err() : console.out();
      people.println(
        Text.escape(out.toString()) +
          ": importance for " +
          Text.plural(measured.tensors(), "tensor") +
          ", measured on " +
          Text.plural(measured.tokens(), "token") +
          " (" +
          Text.plural(measured.windows(), "window") +
          ") in " +
          Text.seconds(seconds)
      );
      measured.warnings().forEach(console::warn);
    }
    if (messages.json()) {
      Map<String, Object> result = new LinkedHashMap<>();
      result.put("model", model.path().toString());
      result.put("file", out.toString());
      result.put("tensors", measured.tensors());
      result.put("windows", measured.windows());
      result.put("tokens", measured.tokens());
      result.put("seconds", seconds);
      result.put("warnings", measured.warnings());
      Json.print(console.out(), result);
    }
  }
}
