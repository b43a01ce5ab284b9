package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.prune.Amount;
import dev.attar.prune.PruneMethod;
import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalLong;

/** Tells which part of a model's weights was removed one by one, and what that gains: a smaller download at most. */
final class SparseReport {

  /** What nobody is to be left in doubt of. */
  static final String NO_GAIN = "speed and memory stay as they are: ggml has no sparse kernels";

  /**
   * What was removed.
   *
   * @param method how weights were chosen
   * @param sparsity how many were to be removed
   * @param matrices number of matrices that weights were removed of
   * @param weights number of weights in them
   * @param removed number of those that are zero now
   * @param tokens how many tokens were measured; 0 for none
   */
  record Removed(PruneMethod method, Amount sparsity, int matrices, long weights, long removed, long tokens) {}

  private final Path model;
  private final QuantizationPlan plan;
  private final Removed removed;
  private final ModelSummary before;
  private final ModelSummary after;
  private final List<String> warnings = new ArrayList<>();
  private ModelOutput out;
  private double seconds;
  private OptionalLong compressed = OptionalLong.empty();
  private OptionalLong compressedBase = OptionalLong.empty();
  private Optional<GptqSummary> gptq = Optional.empty();

  /**
   * @param model the model that was pruned
   * @param plan what was written, as it is in a GGUF
   */
  SparseReport(Model model, QuantizationPlan plan, Removed removed) {
    this.model = model.source();
    this.plan = plan;
    this.removed = removed;
    before = ModelSummary.of(model.tensors().stream().map(Tensor::info).toList());
    after = ModelSummary.of(plan.infos());
  }

  /** What was written, as it is in a GGUF. */
  QuantizationPlan plan() {
    return plan;
  }

  /** Says that it was written. */
  void setWritten(ModelOutput output, double took) {
    out = output;
    seconds = took;
  }

  /**
   * Says what a download takes.
   *
   * @param bytes of the output, compressed
   * @param base the same of the model with all of its weights, in the same types
   */
  void setCompressed(long bytes, long base) {
    compressed = OptionalLong.of(bytes);
    compressedBase = OptionalLong.of(base);
  }

  /** Says what GPTQ has done in the same walk. */
  void setGptq(GptqSummary summary) {
    gptq = Optional.of(summary);
  }

  /** Warns of something, one line. */
  void addWarning(String warning) {
    warnings.add(warning);
  }

  /** Tells it. */
  void print(Console console, MessageOptions messages, boolean quiet) throws IOException {
    if (!quiet) {
      printText(messages.json() ? console.err() : console.out(), messages.verbose());
      warnings.forEach(console::warn);
    }
    if (messages.json()) {
      Json.print(console.out(), json());
    }
  }

  private void printText(PrintStream people, boolean verbose) throws IOException {
    people.println(
      Text.escape(out.path().toString()) +
        ": " +
        Text.size(out.bytes()) +
        " (from " +
        Text.size(before.bytes()) +
        ") in " +
        Text.seconds(seconds)
    );
    people.println("  " + after.types());
    people.println(
      "  " +
        removed.method.word() +
        ": " +
        Text.count(removed.removed) +
        " of " +
        Text.count(removed.weights) +
        " weights in " +
        (removed.matrices == 1 ? "1 matrix" : removed.matrices + " matrices") +
        " are zero (" +
        Text.percent(ratio()) +
        "; asked for " +
        removed.sparsity.toString() +
        ")" +
        (removed.tokens == 0 ? "" : ", " + Text.plural(removed.tokens, "token"))
    );
    if (gptq.isPresent()) {
      people.println("  " + line(gptq.get()));
    }
    people.println("  " + NO_GAIN);
    if (compressed.isPresent()) {
      people.println(
        "  download, compressed by zstd: " +
          Text.size(compressed.getAsLong()) +
          " instead of " +
          Text.size(compressedBase.getAsLong())
      );
    }
    if (verbose && gptq.isPresent()) {
      gptq.get().printTensors(people);
    }
  }

  private boolean isQuantized() {
    return after.byType().keySet().stream().anyMatch(TensorType::isQuantized);
  }

  private String line(GptqSummary summary) {
    return isQuantized()
      ? summary.line("GPTQ in the same walk", "of that of rounding what is left")
      : summary.line("making up for it", "of that of removing the same weights alone");
  }

  /** The part of the weights that is removed. */
  private double ratio() {
    return removed.weights == 0 ? 0 : (double) removed.removed / removed.weights;
  }

  private Map<String, Object> json() throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("model", model.toString());
    json.put("method", removed.method.word());
    json.put("sparsity", removed.sparsity.toString());
    json.put("output", out.path().toString());
    json.put("format", out.isFolder() ? "huggingface" : "gguf");
    json.put("seconds", seconds);
    Map<String, Object> counts = new LinkedHashMap<>();
    counts.put("weights", removed.removed);
    counts.put("of", removed.weights);
    counts.put("ratio", ratio());
    counts.put("matrices", removed.matrices);
    json.put("removed", counts);
    json.put("tokens", removed.tokens);
    json.put("parameters", after.parameters());
    json.put("bytes_before", before.bytes());
    json.put("bytes", after.bytes());
    json.put("file_bytes", out.bytes());
    Map<String, Object> types = new LinkedHashMap<>();
    after.byType().forEach((type, total) -> types.put(type.toString(), total));
    json.put("types", types);
    compressed.ifPresent(bytes -> json.put("compressed_bytes", bytes));
    compressedBase.ifPresent(bytes -> json.put("compressed_bytes_before", bytes));
    json.put("gain", NO_GAIN);
    gptq.ifPresent(summary -> json.put(isQuantized() ? "gptq" : "sparsegpt", summary.json()));
    json.put("warnings", warnings);
    return json;
  }
}
