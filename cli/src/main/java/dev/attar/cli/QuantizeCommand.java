package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.TensorType;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorTypeRule;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** Quantizes a model. */
@Command(
  name = "quantize",
  description = "Write a model with fewer bits per weight.",
  footer = { "", "Every tensor's bytes are those that llama.cpp's llama-quantize writes for the same options.%n" }
)
final class QuantizeCommand implements Callable<Integer> {

  private static final String LIST = "list";

  private final Console console;

  @Spec
  private CommandSpec spec;

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
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    required = true,
    description = "The file type, for instance Q4_K_M; 'list' shows all."
  )
  private String type;

  @Option(
    names = "--imatrix",
    paramLabel = "FILE",
    description = "Weigh columns by this importance matrix of llama-imatrix (GGUF or .dat)."
  )
  private Path importanceFile;

  @Option(names = "--pure", description = "Give all tensors the same type instead of a mixture.")
  private boolean pure;

  @Option(
    names = "--tensor-type",
    paramLabel = "REGEX=TYPE",
    converter = Converters.Rule.class,
    description = "Give tensors whose name matches this type. May be repeated; the first match counts."
  )
  private List<TensorTypeRule> tensorTypes = new ArrayList<>();

  @Option(
    names = "--output-tensor-type",
    paramLabel = "TYPE",
    converter = Converters.Type.class,
    description = "The type of output.weight."
  )
  private TensorType outputTensorType;

  @Option(
    names = "--token-embedding-type",
    paramLabel = "TYPE",
    converter = Converters.Type.class,
    description = "The type of token_embd.weight."
  )
  private TensorType tokenEmbeddingType;

  @Option(names = "--leave-output-tensor", description = "Leave output.weight as it is.")
  private boolean leaveOutputTensor;

  @Option(
    names = "--allow-requantize",
    description = "Quantize tensors again that are quantized already, which costs accuracy."
  )
  private boolean allowRequantize;

  @Option(names = "--dry-run", description = "Show each tensor's type and the final size; write nothing.")
  private boolean dryRun;

  QuantizeCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (type.equalsIgnoreCase(LIST)) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    FileType fileType = FileType.byName(type).orElseThrow(() ->
      new ParameterException(spec.commandLine(), FileTypes.unknown(type))
    );
    Path source = model.path();
    Path out = output != null ? output : ModelArgument.outputName(source, fileType.name().toLowerCase(Locale.ROOT));
    try (Model opened = Models.open(source)) {
      QuantizationPlan plan = QuantizationPlan.quantize(opened, options(fileType));
      PlanReport report = new PlanReport(console, messages.json(), writing.quiet(), plan, fileType.name());
      warnOfOptionsWithoutEffect(plan, report);
      if (dryRun) {
        report.dryRun();
        plan.requireNoProblems();
      } else {
        List<Path> inputs = Output.inputs(opened);
        if (importanceFile != null) {
          inputs.add(importanceFile);
        }
        Output.check(out, writing.overwrite(), inputs);
        plan.requireNoProblems();
        report.written(out, PlanRun.of(console, writing).write(opened, plan, out, "quantizing"));
      }
    }
    return Main.SUCCESS;
  }

  /** A mistyped name would otherwise show only in the result. */
  private void warnOfOptionsWithoutEffect(QuantizationPlan plan, PlanReport report) {
    for (TensorTypeRule rule : tensorTypes) {
      if (
        plan
          .tensors()
          .stream()
          .noneMatch(t -> t.target() == rule.type() && rule.matches(t.name()))
      ) {
        report.addWarning("--tensor-type " + rule + " has no effect: no tensor that it matches becomes " + rule.type());
      }
    }
    if (
      leaveOutputTensor &&
      plan
        .tensors()
        .stream()
        .noneMatch(t -> t.name().equals("output.weight"))
    ) {
      report.addWarning("--leave-output-tensor has no effect: the model has no output.weight");
    }
  }

  private QuantizeOptions options(FileType fileType) throws IOException {
    QuantizeOptions options = QuantizeOptions.of(fileType)
      .withPure(pure)
      .withTensorTypes(tensorTypes)
      .withOutputTensorType(outputTensorType)
      .withTokenEmbeddingType(tokenEmbeddingType)
      .withLeaveOutputTensor(leaveOutputTensor)
      .withAllowRequantize(allowRequantize);
    return importanceFile == null
      ? options
      : options.withImportance(ImportanceMatrix.open(importanceFile), importanceFile.toString());
  }
}
