package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.adapter.LoraAdapter;
import dev.attar.formats.adapter.LoraTensor;
import dev.attar.lowrank.MergedModel;
import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.IntSummaryStatistics;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Tells which adapters were merged into a model, and what came of it. */
final class MergeReport {

  private final Model base;
  private final List<MergedModel.Scaled> adapters;
  private final ModelOutput out;
  private final double seconds;
  private final ModelSummary before;
  private final ModelSummary after;
  private final List<String> warnings = new ArrayList<>();

  /**
   * @param base the model
   * @param adapters what was added to it
   * @param plan what was written, as it is in a GGUF
   * @param out where
   * @param seconds how long it took
   */
  MergeReport(Model base, List<MergedModel.Scaled> adapters, QuantizationPlan plan, ModelOutput out, double seconds) {
    this.base = base;
    this.adapters = adapters;
    this.out = out;
    this.seconds = seconds;
    before = ModelSummary.of(base);
    after = ModelSummary.of(plan.infos());
    for (MergedModel.Scaled scaled : adapters) {
      List<String> ignored = scaled.adapter().ignored();
      if (!ignored.isEmpty()) {
        warnings.add(
          scaled.adapter().source() +
            ": " +
            Text.plural(ignored.size(), "tensor") +
            " of norms not merged (" +
            ignored.getFirst() +
            (ignored.size() > 1 ? ", …" : "") +
            "): llama.cpp ignores them too"
        );
      }
    }
  }

  /** Warns of something, one line. */
  void addWarning(String warning) {
    warnings.add(warning);
  }

  /** Tells it. */
  void print(Console console, MessageOptions messages, boolean quiet) throws IOException {
    if (!quiet) {
      printText(messages.json() ? console.err() : console.out());
      warnings.forEach(console::warn);
    }
    if (messages.json()) {
      Json.print(console.out(), json());
    }
  }

  private void printText(PrintStream people) throws IOException {
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
    for (MergedModel.Scaled scaled : adapters) {
      LoraAdapter adapter = scaled.adapter();
      IntSummaryStatistics ranks = ranks(adapter);
      people.println(
        "  merged " +
          Text.escape(adapter.source().toString()) +
          ": " +
          Text.plural(adapter.tensors().size(), "tensor") +
          ", rank " +
          ranks.getMin() +
          (ranks.getMax() > ranks.getMin() ? " to " + ranks.getMax() : "") +
          ", scale " +
          Text.plain(Double.parseDouble(Float.toString(scaled.scale())))
      );
    }
  }

  private static IntSummaryStatistics ranks(LoraAdapter adapter) {
    return adapter.tensors().stream().mapToInt(LoraTensor::rank).summaryStatistics();
  }

  private Map<String, Object> json() throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("model", base.source().toString());
    json.put("output", out.path().toString());
    json.put("format", out.isFolder() ? "huggingface" : "gguf");
    json.put("seconds", seconds);
    List<Map<String, Object>> merged = new ArrayList<>();
    for (MergedModel.Scaled scaled : adapters) {
      Map<String, Object> adapter = new LinkedHashMap<>();
      adapter.put("file", scaled.adapter().source().toString());
      adapter.put("scale", scaled.scale());
      adapter.put("tensors", scaled.adapter().tensors().size());
      adapter.put("rank_min", ranks(scaled.adapter()).getMin());
      adapter.put("rank_max", ranks(scaled.adapter()).getMax());
      adapter.put("ignored", scaled.adapter().ignored());
      merged.add(adapter);
    }
    json.put("adapters", merged);
    json.put("parameters", after.parameters());
    json.put("bytes_before", before.bytes());
    json.put("bytes", after.bytes());
    json.put("file_bytes", out.bytes());
    Map<String, Object> types = new LinkedHashMap<>();
    after.byType().forEach((type, total) -> types.put(type.toString(), total));
    json.put("types", types);
    json.put("warnings", warnings);
    return json;
  }
}
