package dev.attar.cli;

import dev.attar.formats.TensorInfo;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.TensorRole;
import dev.attar.quant.gptq.GptqRun;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Tells what a plan will make of a model, or has made of it. */
final class PlanReport {

  private static final int NAMES_IN_WARNING = 3;

  private final Console console;
  private final boolean json;
  private final boolean quiet;
  private final List<String> addedWarnings = new ArrayList<>();
  private final QuantizationPlan plan;
  private final String type;
  private final ModelSummary before;
  private final ModelSummary after;
  private Method method = Method.RTN;
  private boolean measured;
  private GptqSummary gptq;
  private BudgetSummary budget;

  /**
   * @param console where to tell it
   * @param json whether the result is wanted as JSON
   * @param quiet whether the text for people is unwanted
   * @param plan the plan
   * @param type the name of the file type, or what stands for the size that types are chosen for
   */
  PlanReport(Console console, boolean json, boolean quiet, QuantizationPlan plan, String type) {
    this.console = console;
    this.json = json;
    this.quiet = quiet;
    this.plan = plan;
    this.type = type;
    this.before = ModelSummary.of(plan.tensors().stream().map(TensorPlan::source).toList());
    this.after = ModelSummary.of(plan.infos());
  }

  /** Says how the plan is to be carried out, unless by rounding. */
  void setMethod(Method method) {
    this.method = method;
  }

  /** Says whether the importance, if there is any, is measured by this command, not the user's. */
  void setMeasured(boolean value) {
    measured = value;
  }

  /** Says what GPTQ has done. */
  void setGptq(GptqSummary summary) {
    method = Method.GPTQ;
    gptq = summary;
  }

  /** Says how the types were chosen, unless by a file type. */
  void setBudget(BudgetSummary summary) {
    budget = summary;
  }

  /** Tells the plan: every tensor and the final size. */
  void dryRun() throws IOException {
    if (json) {
      Json.print(console.out(), json(null, 0));
    } else {
      tensors().print(console.out());
      console.out().println();
      console
        .out()
        .println(
          type +
            " would take " +
            fileSize() +
            ", " +
            weight(after) +
            " bits per weight; now " +
            Text.size(before.bytes()) +
            ", " +
            weight(before)
        );
      console.out().println("  " + after.types());
      predict(console.out());
    }
    warn();
  }

  /** Tells what was written. */
  void written(Path out, double seconds, boolean verbose) throws IOException {
    if (!quiet) {
      PrintStream people = json ? console.err() : console.out();
      people.println(
        Text.escape(out.toString()) +
          ": " +
          Text.size(plan.fileBytes()) +
          ", " +
          weight(after) +
          " bits per weight (from " +
          Text.size(before.bytes()) +
          ", " +
          weight(before) +
          ") in " +
          Text.seconds(seconds)
      );
      people.println("  " + after.types());
      predict(people);
      if (gptq != null) {
        people.println("  " + gptq.line());
        if (verbose) {
          gptq.printTensors(people);
        }
      }
    }
    warn();
    if (json) {
      Json.print(console.out(), json(out, seconds));
    }
  }

  private void predict(PrintStream people) {
    if (budget != null) {
      budget.line().ifPresent(line -> people.println("  " + line));
    }
  }

  private String fileSize() {
    // With GPTQ the metadata tells of the run too.
    return method == Method.GPTQ
      ? "about " + Text.size(plan.fileBytes())
      : Text.size(plan.fileBytes()) + " (" + plan.fileBytes() + " bytes)";
  }

  private static String weight(ModelSummary summary) {
    return Text.bitsPerWeight(summary.bytes(), summary.parameters());
  }

  private Table tensors() {
    Table.Align left = Table.Align.LEFT;
    Table.Align right = Table.Align.RIGHT;
    boolean hasLosses = budget != null && budget.divergence().isPresent();
    Table table = new Table(left, left, left, left, right, right, left);
    table.row("tensor", "shape", "from", "to", "bytes", hasLosses ? "KL divergence" : "", "");
    for (TensorPlan tensor : plan.tensors()) {
      TensorInfo source = tensor.source();
      table.row(
        Text.escape(tensor.name()),
        source.shapeText(),
        source.type().toString(),
        tensor.target().toString(),
        Long.toString(tensor.bytesAfter()),
        hasLosses ? budget.loss(tensor.name()) : "",
        Text.escape(note(tensor))
      );
    }
    return table;
  }

  private String note(TensorPlan tensor) {
    if (!tensor.note().isEmpty()) {
      return tensor.note();
    }
    if (isGptq(tensor)) {
      return "GPTQ";
    }
    return tensor.importance() ? "with importance" : "";
  }

  private boolean isGptq(TensorPlan tensor) {
    return gptq != null ? gptq.contains(tensor.name()) : method == Method.GPTQ && GptqRun.quantizes(tensor);
  }

  private void warn() {
    if (!quiet) {
      for (String warning : warnings()) {
        console.warn(warning);
      }
    }
  }

  /** Warns of something beside what the plan itself shows. */
  void addWarning(String warning) {
    addedWarnings.add(warning);
  }

  private List<String> warnings() {
    List<String> warnings = new ArrayList<>(addedWarnings);
    warnings.addAll(warnings(plan, measured));
    return warnings;
  }

  /**
   * What in a plan is not as one would think.
   *
   * @param measured whether the importance, if there is any, is measured by this command, not the user's
   */
  static List<String> warnings(QuantizationPlan plan, boolean measured) {
    List<String> warnings = new ArrayList<>();
    List<String> noted = plan
      .tensors()
      .stream()
      .filter(t -> !t.note().isEmpty())
      .map(t -> t.name() + " is " + t.target() + " (" + t.note() + ")")
      .toList();
    if (!noted.isEmpty()) {
      warnings.add(count(noted) + " another type than wanted: " + some(noted));
    }
    List<String> unweighted = plan.importance() == null
      ? List.of()
      : plan
          .tensors()
          .stream()
          .filter(t -> !t.copies() && t.target().isQuantized() && !t.importance())
          // A measurement never has any for the token embedding, whose rows are looked up.
          .filter(t -> !measured || TensorRole.of(t.name()) != TensorRole.TOKEN_EMBEDDING)
          .map(TensorPlan::name)
          .toList();
    if (!unweighted.isEmpty()) {
      String what = measured ? " no measured importance: " : " no importance in the matrix: ";
      warnings.add(count(unweighted) + what + some(unweighted));
    }
    return warnings;
  }

  private static String count(List<String> names) {
    return names.size() == 1 ? "1 tensor has" : names.size() + " tensors have";
  }

  private static String some(List<String> names) {
    int others = names.size() - NAMES_IN_WARNING;
    return others <= 0
      ? String.join(", ", names)
      : String.join(", ", names.subList(0, NAMES_IN_WARNING)) + " and " + others + " more";
  }

  private Map<String, Object> json(Path out, double seconds) {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("model", plan.source().toString());
    result.put("type", type);
    result.put("method", method.name().toLowerCase(Locale.ROOT));
    if (out != null) {
      result.put("output", out.toString());
      result.put("seconds", seconds);
    }
    result.put("parameters", after.parameters());
    result.put("bytes_before", before.bytes());
    result.put("bits_per_weight_before", before.bitsPerWeight());
    result.put("bytes", after.bytes());
    result.put("bits_per_weight", after.bitsPerWeight());
    result.put("file_bytes", plan.fileBytes());
    Map<String, Object> types = new LinkedHashMap<>();
    after.byType().forEach((tensorType, total) -> types.put(tensorType.toString(), total));
    result.put("types", types);
    result.put("tensors", plan.tensors().stream().map(this::json).toList());
    if (budget != null) {
      result.put("target", budget.json());
    }
    if (gptq != null) {
      result.put("gptq", gptq.json());
    }
    result.put("warnings", warnings());
    result.put("problems", plan.problems());
    return result;
  }

  private Map<String, Object> json(TensorPlan tensor) {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("name", tensor.name());
    result.put("shape", tensor.source().shape());
    result.put("from", tensor.source().type().toString());
    result.put("to", tensor.target().toString());
    result.put("bytes", tensor.bytesAfter());
    result.put("importance", tensor.importance());
    result.put("gptq", isGptq(tensor));
    result.put("note", tensor.note());
    return result;
  }
}
