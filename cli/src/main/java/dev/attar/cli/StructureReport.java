package dev.attar.cli;

import dev.attar.prune.structure.Anatomy;
import dev.attar.prune.structure.Cut;
import dev.attar.prune.structure.Ladder;
import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureOptions;
import dev.attar.prune.structure.StructureResult;
import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.IntSummaryStatistics;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.ToDoubleFunction;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** Tells what was removed of a model, or would be, and what that gains. */
final class StructureReport {

  /**
   * What is removed.
   *
   * @param model the whole model
   * @param options how
   * @param anatomy what the model has
   * @param asked what the user wanted
   * @param step how much that came to
   * @param nearer a multiple of widths by which it would come nearer to what was asked for; empty for none
   */
  record Choice(
    Path model,
    StructureOptions options,
    Anatomy anatomy,
    CutTarget asked,
    Ladder.Step step,
    Optional<Integer> nearer
  ) {}

  private final Choice choice;
  private final ModelSummary before;
  private final ModelSummary after;
  private final QuantizationPlan plan;
  private final SpeedPrediction predicted;
  private final List<String> warnings = new ArrayList<>();
  private Optional<StructureResult> result = Optional.empty();
  private Optional<MeasuredSpeed> measured = Optional.empty();
  private Optional<ModelOutput> out = Optional.empty();
  private double seconds;

  /**
   * @param choice what is removed
   * @param before the whole model
   * @param plan what is left, as it is written in a GGUF
   * @param predicted how much faster it should be than the whole model in the same types
   */
  StructureReport(Choice choice, ModelSummary before, QuantizationPlan plan, SpeedPrediction predicted) {
    this.choice = choice;
    this.before = before;
    this.plan = plan;
    this.after = ModelSummary.of(plan.infos());
    this.predicted = predicted;
  }

  /** As the user types it: {@code ffn}. */
  static String word(Structure structure) {
    return structure.name().toLowerCase(Locale.ROOT);
  }

  /** What is written, as it is in a GGUF. */
  QuantizationPlan plan() {
    return plan;
  }

  /** Warns of something, one line. */
  void addWarning(String warning) {
    warnings.add(warning);
  }

  /** What was warned of. */
  List<String> warnings() {
    return List.copyOf(warnings);
  }

  /** What was written; empty if nothing was. */
  Optional<Path> output() {
    return out.map(ModelOutput::path);
  }

  /** Says what was found out. */
  void setResult(StructureResult found) {
    result = Optional.of(found);
  }

  /** Says how fast it is. */
  void setMeasured(MeasuredSpeed speed) {
    measured = Optional.of(speed);
  }

  /** Says that it was written. */
  void setWritten(ModelOutput output, double took) {
    out = Optional.of(output);
    seconds = took;
  }

  /** Tells it. */
  void print(Console console, MessageOptions messages, boolean quiet) throws IOException {
    if (!quiet) {
      PrintStream people = messages.json() ? console.err() : console.out();
      if (out.isPresent() || !messages.json()) {
        printText(people, messages.verbose());
      }
      for (String warning : warnings) {
        console.warn(warning);
      }
    } else if (out.isEmpty() && !messages.json()) {
      printText(console.out(), messages.verbose());
    }
    if (messages.json()) {
      Json.print(console.out(), json());
    }
  }

  private long writtenBytes() throws IOException {
    return out.isPresent() ? out.get().bytes() : plan.fileBytes();
  }

  /** Tells people. */
  void printText(PrintStream people, boolean verbose) throws IOException {
    String now = "now " + Text.size(before.bytes()) + ", " + Text.count(before.parameters()) + " parameters";
    String then = Text.size(writtenBytes()) + ", " + Text.count(after.parameters()) + " parameters";
    people.println(
      out.isPresent()
        ? Text.escape(out.get().path().toString()) +
          ": " +
          then +
          " (" +
          now.replaceFirst("now", "from") +
          ") in " +
          Text.seconds(seconds)
        : "would take " + then + "; " + now
    );
    people.println("  " + after.types());
    people.println("  " + removed());
    found().forEach(line -> people.println("  " + line));
    people.println("  " + predicted.line());
    measured.ifPresent(speed ->
      people.println(
        "  measured speed: prompt " + speed.prompt().text() + ", generation " + speed.generation().text() + " times"
      )
    );
    if (verbose && result.isPresent()) {
      layers(result.get()).print(people);
    }
  }

  /** What was removed, and why it is not what was asked for if it is not. */
  private String removed() {
    Ladder.Step step = choice.step;
    boolean single = choice.options.structure() == Structure.LAYERS;
    String what =
      (out.isPresent() ? "removed " : "would remove ") +
      step.units() +
      " of " +
      of() +
      " " +
      units() +
      (single ? numbers() : choice.options.nonUniform() ? " of all layers" + spread() : " of each layer");
    String asked = choice.asked.text();
    String ratio = Text.percent(step.ratio());
    if (asked.equals(ratio)) {
      return what + " (" + ratio + ", as asked for)";
    }
    String why = choice.nearer.isPresent()
      ? ": widths stay multiples of " +
        choice.options.multiple() +
        ", --multiple-of " +
        choice.nearer.get() +
        " comes nearer"
      : "";
    return what + " (" + ratio + "; asked for " + asked + why + ")";
  }

  private String units() {
    return switch (choice.options.structure()) {
      case FFN -> "neurons";
      case HEADS -> "groups of heads";
      case LAYERS -> "layers";
    };
  }

  /** How many units there are that the step counts. */
  private long of() {
    return Math.round(choice.step.units() / choice.step.ratio());
  }

  /** Which layers are gone, if that is known. */
  private String numbers() {
    if (result.isEmpty()) {
      return "";
    }
    int[] left = result.get().cut().numbers();
    return (
      ", " +
      IntStream.range(0, choice.anatomy.layers().size())
        .filter(layer -> Arrays.stream(left).noneMatch(number -> number == layer))
        .mapToObj(Integer::toString)
        .collect(Collectors.joining(" and "))
    );
  }

  /** How many units layers keep, if that is known. */
  private String spread() {
    if (result.isEmpty()) {
      return "";
    }
    IntSummaryStatistics left = result
      .get()
      .cut()
      .layers()
      .stream()
      .mapToInt(layer -> (choice.options.structure() == Structure.FFN ? layer.neurons() : layer.groups()).length)
      .summaryStatistics();
    return ", layers keep " + left.getMin() + " to " + left.getMax();
  }

  /** What was found out, in lines. */
  private List<String> found() {
    List<String> lines = new ArrayList<>();
    if (result.isEmpty()) {
      return lines;
    }
    StructureResult found = result.get();
    double error = mean(StructureResult.LayerReport::error);
    double refitted = mean(StructureResult.LayerReport::refitError);
    if (!Double.isNaN(error)) {
      lines.add(
        "error of the outputs of " +
          (choice.options.structure() == Structure.FFN ? "ffn_down" : "attn_output") +
          " on the calibration text: " +
          Text.number(error, 3) +
          (Double.isNaN(refitted) ? "" : ", after the refit " + Text.number(refitted, 3)) +
          " of their mean square (mean of the layers), " +
          Text.plural(found.tokens(), "token")
      );
    }
    divergence(found).ifPresent(divergence ->
      lines.add("KL divergence from the whole model on the calibration text: " + Text.number(divergence, 3))
    );
    found
      .widths()
      .ifPresent(widths ->
        lines.add(
          (widths.differ() ? "layers differ in width" : "layers do not differ, since it does not pay") +
            ": KL divergence on the calibration text " +
            Text.number(widths.chosen(), 3) +
            " with chosen widths, " +
            Text.number(widths.even(), 3) +
            " with equal ones"
        )
      );
    return lines;
  }

  /** That of the model without all of the layers that are removed; empty if none are. */
  private static Optional<Double> divergence(StructureResult found) {
    return found
      .layers()
      .stream()
      .filter(layer -> layer.step() > 0)
      .max(Comparator.comparingInt(StructureResult.LayerReport::step))
      .map(StructureResult.LayerReport::divergence);
  }

  private double mean(ToDoubleFunction<StructureResult.LayerReport> value) {
    return result
      .orElseThrow()
      .layers()
      .stream()
      .mapToDouble(value)
      .filter(x -> !Double.isNaN(x))
      .average()
      .orElse(Double.NaN);
  }

  private Table layers(StructureResult found) {
    Table.Align right = Table.Align.RIGHT;
    Table table = new Table(right, right, right, right, right, right, right, right);
    boolean single = choice.options.structure() == Structure.LAYERS;
    table.row(
      "layer",
      "neurons",
      "head groups",
      "influence",
      single ? "" : "error",
      single || !choice.options.refit() ? "" : "after the refit",
      single ? "removed as" : "",
      single ? "KL divergence then" : ""
    );
    Map<Integer, Cut.Layer> left = left(found);
    for (StructureResult.LayerReport layer : found.layers()) {
      Anatomy.Part part = choice.anatomy.layers().get(layer.number());
      Cut.Layer kept = left.get(layer.number());
      table.row(
        Integer.toString(layer.number()),
        kept == null ? "none" : kept.neurons().length + " of " + part.neurons(),
        kept == null ? "none" : kept.groups().length + " of " + part.groups(),
        cell(layer.influence()),
        cell(layer.error()),
        cell(layer.refitError()),
        layer.step() == 0 ? "" : Integer.toString(layer.step()),
        cell(layer.divergence())
      );
    }
    return table;
  }

  private static Map<Integer, Cut.Layer> left(StructureResult found) {
    return found.cut().layers().stream().collect(Collectors.toMap(Cut.Layer::number, layer -> layer));
  }

  private static String cell(double value) {
    return Double.isNaN(value) ? "" : Text.number(value, 3);
  }

  /** For programs. */
  Map<String, Object> json() throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("model", choice.model.toString());
    json.put("structure", word(choice.options.structure()));
    if (out.isPresent()) {
      json.put("output", out.get().path().toString());
      json.put("format", out.get().isFolder() ? "huggingface" : "gguf");
      json.put("seconds", seconds);
    }
    json.put("asked", choice.asked.json());
    Map<String, Object> removed = new LinkedHashMap<>();
    removed.put("units", choice.step.units());
    removed.put("of", of());
    removed.put("ratio", choice.step.ratio());
    removed.put("non_uniform", choice.options.nonUniform());
    json.put("removed", removed);
    json.put("parameters_before", before.parameters());
    json.put("parameters", after.parameters());
    json.put("bytes_before", before.bytes());
    json.put("bytes", after.bytes());
    json.put("file_bytes", writtenBytes());
    Map<String, Object> types = new LinkedHashMap<>();
    after.byType().forEach((type, total) -> types.put(type.toString(), total));
    json.put("types", types);
    json.put("predicted_speed", predicted.json());
    measured.ifPresent(times -> json.put("measured_speed", times.json()));
    result.ifPresent(found -> {
      json.put("tokens", found.tokens());
      json.put("sequential", found.sequential());
      divergence(found).ifPresent(divergence -> json.put("kl_divergence", divergence));
      found
        .widths()
        .ifPresent(widths -> {
          Map<String, Object> differing = new LinkedHashMap<>();
          differing.put("differ", widths.differ());
          differing.put("kl_divergence", widths.chosen());
          differing.put("kl_divergence_even", widths.even());
          json.put("widths", differing);
        });
      json.put("layers", layersJson(found));
    });
    json.put("warnings", warnings);
    return json;
  }

  private List<Map<String, Object>> layersJson(StructureResult found) {
    Map<Integer, Cut.Layer> left = left(found);
    List<Map<String, Object>> layers = new ArrayList<>();
    for (StructureResult.LayerReport report : found.layers()) {
      Map<String, Object> layer = new LinkedHashMap<>();
      Cut.Layer kept = left.get(report.number());
      layer.put("number", report.number());
      layer.put("neurons", kept == null ? 0 : kept.neurons().length);
      layer.put("head_groups", kept == null ? 0 : kept.groups().length);
      putKnown(layer, "influence", report.influence());
      putKnown(layer, "error", report.error());
      putKnown(layer, "refit_error", report.refitError());
      if (report.step() > 0) {
        layer.put("removed_as", report.step());
        putKnown(layer, "kl_divergence", report.divergence());
      }
      layers.add(layer);
    }
    return layers;
  }

  private static void putKnown(Map<String, Object> json, String key, double value) {
    if (!Double.isNaN(value)) {
      json.put(key, value);
    }
  }
}
