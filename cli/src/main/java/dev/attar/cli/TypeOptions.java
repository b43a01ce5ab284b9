package dev.attar.cli;

import dev.attar.formats.TensorType;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorTypeRule;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;

/** Options for which tensor gets which type. */
final class TypeOptions {

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

  /** How to quantize to a file type with these options, without importance. */
  QuantizeOptions options(FileType fileType) {
    return QuantizeOptions.of(fileType)
      .withPure(pure)
      .withTensorTypes(tensorTypes)
      .withOutputTensorType(outputTensorType)
      .withTokenEmbeddingType(tokenEmbeddingType)
      .withLeaveOutputTensor(leaveOutputTensor)
      .withAllowRequantize(allowRequantize);
  }

  /** The options that the user gave, by name. */
  List<String> given() {
    List<String> given = new ArrayList<>();
    if (pure) {
      given.add("--pure");
    }
    if (!tensorTypes.isEmpty()) {
      given.add("--tensor-type");
    }
    if (outputTensorType != null) {
      given.add("--output-tensor-type");
    }
    if (tokenEmbeddingType != null) {
      given.add("--token-embedding-type");
    }
    if (leaveOutputTensor) {
      given.add("--leave-output-tensor");
    }
    if (allowRequantize) {
      given.add("--allow-requantize");
    }
    return given;
  }

  /** Refuses {@code --allow-requantize} in a command that quantizes what is quantized already, with a warning. */
  void forbidRequantize(CommandSpec command) {
    if (allowRequantize) {
      throw Usage.error(
        command,
        "--allow-requantize is for attar quantize, attar " + command.name() + " takes quantized models with a warning"
      );
    }
  }

  /** What has no effect in a plan: a mistyped name would otherwise show only in the result. */
  List<String> withoutEffect(QuantizationPlan plan) {
    List<String> warnings = new ArrayList<>();
    for (TensorTypeRule rule : tensorTypes) {
      if (
        plan
          .tensors()
          .stream()
          .noneMatch(t -> t.target() == rule.type() && rule.matches(t.name()))
      ) {
        warnings.add("--tensor-type " + rule + " has no effect: no tensor that it matches becomes " + rule.type());
      }
    }
    if (
      leaveOutputTensor &&
      plan
        .tensors()
        .stream()
        .noneMatch(t -> t.name().equals("output.weight"))
    ) {
      warnings.add("--leave-output-tensor has no effect: the model has no output.weight");
    }
    return warnings;
  }
}
