package dev.attar.cli;

import dev.attar.bench.Environment;
import dev.attar.bench.report.TrainingReport;
import dev.attar.compute.DistributionLoss.Divergence;
import dev.attar.distill.DistillListener.Validation;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillRun;
import dev.attar.formats.Model;
import dev.attar.llama.LlamaLibrary;
import dev.attar.quant.QuantizationPlan;
import java.io.IOException;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/** Tells what a student has become, or what training would take. */
final class DistillReport {

  private final Model teacher;
  private final Student student;
  private final DistillOptions options;
  private final QuantizationPlan plan;
  private final ModelSummary before;
  private final ModelSummary after;
  private final SpeedPrediction predicted;
  private final List<String> warnings = new ArrayList<>();
  private Optional<DistillRun.Need> need = Optional.empty();
  private boolean rounded;
  private Optional<DistillMeasures> measures = Optional.empty();
  private Optional<ModelOutput> out = Optional.empty();
  private double seconds;

  /**
   * @param teacher what it learns from
   * @param student what it begins with
   * @param options how it is trained
   * @param plan what becomes of it as a GGUF file
   */
  DistillReport(Model teacher, Student student, DistillOptions options, QuantizationPlan plan) {
    this.teacher = teacher;
    this.student = student;
    this.options = options;
    this.plan = plan;
    before = ModelSummary.of(teacher);
    after = ModelSummary.of(plan.infos());
    predicted = SpeedPrediction.of(
      SpeedPrediction.Work.of(
        teacher.metadata(),
        teacher
          .tensors()
          .stream()
          .map(tensor -> tensor.info())
          .toList()
      ),
      SpeedPrediction.Work.of(plan.metadata(), plan.infos())
    );
  }

  /** Warns of something, one line. */
  void addWarning(String warning) {
    if (!warnings.contains(warning)) {
      warnings.add(warning);
    }
  }

  /** Says what training would take. */
  void setNeed(DistillRun.Need value) {
    need = Optional.of(value);
  }

  /** Says that the weights are quantized after the training. */
  void setRounded() {
    rounded = true;
  }

  /** Says what training did. */
  void setMeasures(DistillMeasures value) {
    measures = Optional.of(value);
  }

  /** Says what was written. */
  void setWritten(ModelOutput output, double time) {
    out = Optional.of(output);
    seconds = time;
  }

  /**
   * The report of a training that was done.
   *
   * @param commandLine as the user gave it
   */
  TrainingReport training(String commandLine) throws IOException {
    DistillMeasures found = measures.orElseThrow();
    List<String> findings = new ArrayList<>();
    found
      .closed()
      .ifPresent(part ->
        findings.add(
          Text.percent(part) +
            " of the gap in perplexity between the student as it began and the teacher is closed: from " +
            Text.number(found.stages().getFirst().perplexity(), 4) +
            " to " +
            Text.number(found.stages().getLast().perplexity(), 4) +
            ", the teacher has " +
            Text.number(found.teacher().orElseThrow(), 4) +
            "."
        )
      );
    findings.add(
      "The student has " +
        Text.percent((double) after.parameters() / before.parameters()) +
        " of the teacher's parameters and should generate " +
        Text.number(predicted.generation(), 3) +
        " times as fast."
    );
    found
      .result()
      .ended()
      .ifPresent(why -> findings.add("Training ended early: " + why + "."));
    List<List<String>> table = new ArrayList<>();
    String divergence = divergenceName().replace("divergence", "Divergence from the teacher");
    table.add(List.of("", "Perplexity", divergence, "Step"));
    found.teacher().ifPresent(value -> table.add(List.of("Teacher", Text.number(value, 4), "", "")));
    for (DistillMeasures.Stage stage : found.stages()) {
      table.add(
        List.of(
          stage.name(),
          Text.number(stage.perplexity(), 4),
          divergence(stage.validation()),
          stage.validation().phase().equals(DistillMeasures.START) ? "" : Integer.toString(stage.validation().step())
        )
      );
    }
    return new TrainingReport(
      out.orElseThrow().path().getFileName() + ", taught by " + ModelArgument.name(teacher.source()),
      List.of(
        student.origin(),
        Text.count(found.result().tokens()) + " tokens",
        Text.plural(found.steps(), "step"),
        Text.seconds(found.result().seconds())
      ),
      findings,
      table,
      found.curves(),
      settings(found),
      Environment.of(LlamaLibrary.VERSION, List.of(), commandLine)
    );
  }

  private static String divergence(Validation validation) {
    return Double.isNaN(validation.divergence()) ? "" : Text.number(validation.divergence(), 4);
  }

  /** What kind of divergence is measured: figures of different kinds are not comparable. */
  private String divergenceName() {
    DistillOptions.Loss loss = options.loss();
    StringBuilder name = new StringBuilder("divergence");
    if (loss.divergence() != Divergence.FORWARD) {
      name.append(" (").append(word(loss.divergence())).append(')');
    }
    loss.top().ifPresent(k -> name.append(" of the top ").append(k));
    if (loss.temperature() != 1) {
      name.append(" at temperature ").append(loss.temperature());
    }
    return name.toString();
  }

  private static String word(Divergence divergence) {
    return switch (divergence) {
      case FORWARD -> "kl";
      case REVERSE -> "reverse-kl";
      case JENSEN_SHANNON -> "js";
    };
  }

  private List<List<String>> settings(DistillMeasures found) {
    DistillOptions.Loss loss = options.loss();
    List<List<String>> rows = new ArrayList<>();
    if (loss.divergenceWeight() > 0) {
      rows.add(
        List.of(
          "Divergence",
          word(loss.divergence()) + ", weight " + loss.divergenceWeight() + ", temperature " + loss.temperature()
        )
      );
      loss.top().ifPresent(k -> rows.add(List.of("Tokens compared", "the " + k + " likeliest and the rest")));
    }
    rows.add(List.of("Weight of the text", Float.toString(loss.crossEntropyWeight())));
    if (loss.comparesStates()) {
      rows.add(
        List.of(
          "States",
          loss.states().size() + ", " + (loss.cosine() ? "cosine" : "mse") + ", weight " + loss.statesWeight()
        )
      );
    }
    options
      .reconstruction()
      .ifPresent(first -> rows.add(List.of("Block reconstruction", Text.plural(first.steps(), "step"))));
    rows.add(List.of("Batch", options.batch() + " windows of " + options.context() + " tokens"));
    rows.add(
      List.of(
        "Learning rate",
        Float.toString(options.schedule().rate()) +
          ", " +
          Text.plural(options.schedule().warmup(), "step") +
          " of warm-up"
      )
    );
    rows.add(List.of("Seed", Long.toString(options.seed())));
    rows.add(List.of("Threads", Integer.toString(options.threads())));
    rows.add(List.of("Speed", String.format(Locale.ROOT, "%,.0f tokens/s", found.tokensPerSecond())));
    rows.add(List.of("Held out", Text.plural(found.windows(), "window")));
    return rows;
  }

  /** Prints it. */
  void print(Console console, MessageOptions messages, boolean quiet) throws IOException {
    boolean result = out.isEmpty() && !messages.json(); // what a dry run is for
    if (!quiet || result) {
      if (out.isPresent() || !messages.json()) {
        printText(messages.json() ? console.err() : console.out());
      }
    }
    if (!quiet) {
      warnings.forEach(console::warn);
    }
    if (messages.json()) {
      Json.print(console.out(), json());
    }
  }

  private void printText(PrintStream people) throws IOException {
    String sizes =
      Text.count(after.parameters()) +
      " parameters, " +
      Text.size(bytes()) +
      " (the teacher: " +
      Text.count(before.parameters()) +
      ", " +
      Text.size(before.bytes()) +
      ")";
    people.println(
      out.isPresent()
        ? Text.escape(out.get().path().toString()) + ": " + sizes + " in " + Text.seconds(seconds)
        : "would train " + sizes
    );
    people.println("  student: " + Text.escape(student.origin()));
    if (!student.ofTeacher()) {
      people.println("  " + Text.escape(student.map().origin()));
    }
    student
      .map()
      .obstacle()
      .ifPresent(why -> people.println("  no block reconstruction: " + Text.escape(why)));
    if (measures.isPresent()) {
      printMeasures(measures.get(), people);
    } else {
      printPlanned(people);
    }
    people.println("  " + after.types());
    people.println(
      String.format(
        Locale.ROOT,
        "  predicted speed: prompt %.2f times, generation %.2f times the teacher's",
        predicted.prompt(),
        predicted.generation()
      )
    );
  }

  private long bytes() throws IOException {
    return out.isPresent() ? out.get().bytes() : plan.fileBytes();
  }

  private void printPlanned(PrintStream people) {
    options
      .reconstruction()
      .ifPresent(first -> people.println("  " + Text.plural(first.steps(), "step") + " of block reconstruction first"));
    people.println(
      "  " +
        (options.schedule().steps().isPresent()
          ? Text.plural(options.schedule().steps().getAsInt(), "step")
          : options.schedule().maxTime().isPresent()
            ? "as many steps as there is time for"
            : "as many steps as read the text once") +
        " of " +
        options.batch() +
        " windows of " +
        options.context() +
        " tokens"
    );
    need.ifPresent(memory ->
      people.println(
        "  memory: " +
          Text.size(memory.bytes()) +
          ", " +
          Text.plural(memory.micro(), "window") +
          " at a time" +
          (memory.recompute() ? ", activations computed anew" : "") +
          "; the teacher runs beside it"
      )
    );
  }

  private void printMeasures(DistillMeasures found, PrintStream people) {
    people.println(
      "  on " +
        Text.plural(found.windows(), "window") +
        " that were held out, all tokens but the first of each" +
        (rounded ? ", before the weights are quantized:" : ":")
    );
    Table.Align right = Table.Align.RIGHT;
    Table table = new Table(Table.Align.LEFT, right, right);
    boolean diverges = found
      .stages()
      .stream()
      .anyMatch(stage -> !Double.isNaN(stage.validation().divergence()));
    table.row("", "perplexity", diverges ? divergenceName() : "");
    if (found.teacher().isPresent()) {
      table.row("  Teacher", Text.number(found.teacher().getAsDouble(), 4), "");
    }
    for (DistillMeasures.Stage stage : found.stages()) {
      table.row("  " + stage.name(), Text.number(stage.perplexity(), 4), divergence(stage.validation()));
    }
    table.print(people);
    found
      .closed()
      .ifPresent(part ->
        people.println(
          part < 0
            ? "  the gap to the teacher's perplexity has become wider"
            : "  " + Text.percent(part) + " of the gap to the teacher's perplexity is closed"
        )
      );
    people.println(
      "  trained " +
        Text.plural(found.steps(), "step") +
        (found.best().step() == found.steps() ? "" : ", the best weights are those of " + found.bestPlace()) +
        ": " +
        Text.count(found.result().tokens()) +
        " tokens, " +
        String.format(Locale.ROOT, "%,.0f tokens/s", found.tokensPerSecond()) +
        ", " +
        Text.seconds(found.result().seconds())
    );
    found
      .result()
      .ended()
      .ifPresent(why -> people.println("  ended early: " + Text.escape(why)));
  }

  private Map<String, Object> json() throws IOException {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("teacher", teacher.source().toString());
    json.put("student", student.origin());
    if (out.isPresent()) {
      json.put("output", out.get().path().toString());
      json.put("format", out.get().isFolder() ? "huggingface" : "gguf");
      json.put("seconds", seconds);
    }
    if (student.ofTeacher()) {
      json.put("layers", student.numbers());
    }
    json.put("last_teacher_blocks", student.map().ends());
    json.put("tokens_shared", student.shared().tokens());
    json.put("parameters_teacher", before.parameters());
    json.put("parameters", after.parameters());
    json.put("bytes_teacher", before.bytes());
    json.put("bytes", after.bytes());
    json.put("file_bytes", bytes());
    Map<String, Object> types = new LinkedHashMap<>();
    after.byType().forEach((type, total) -> types.put(type.toString(), total));
    json.put("types", types);
    json.put("predicted_speed", predicted.json());
    options.reconstruction().ifPresent(first -> json.put("reconstruct_steps", first.steps()));
    options
      .schedule()
      .steps()
      .ifPresent(steps -> json.put("planned_steps", steps));
    json.put("batch", options.batch());
    json.put("context", options.context());
    need.ifPresent(memory -> {
      json.put("memory_bytes", memory.bytes());
      json.put("micro_batch", memory.micro());
      json.put("recompute", memory.recompute());
    });
    measures.ifPresent(found -> json.putAll(json(found)));
    json.put("warnings", warnings);
    return json;
  }

  private static Map<String, Object> json(DistillMeasures found) {
    Map<String, Object> json = new LinkedHashMap<>();
    json.put("steps", found.steps());
    json.put("tokens", found.result().tokens());
    json.put("tokens_per_second", found.tokensPerSecond());
    json.put("training_seconds", found.result().seconds());
    Map<String, Object> held = new LinkedHashMap<>();
    held.put("windows", found.windows());
    found.teacher().ifPresent(value -> held.put("teacher", Map.of("perplexity", value)));
    for (DistillMeasures.Stage stage : found.stages()) {
      Map<String, Object> measured = new LinkedHashMap<>();
      measured.put("perplexity", stage.perplexity());
      if (!Double.isNaN(stage.validation().divergence())) {
        measured.put("divergence", stage.validation().divergence());
      }
      measured.put("phase", stage.validation().phase());
      measured.put("step", stage.validation().step());
      held.put(stage.key(), measured);
    }
    json.put("held_out", held);
    found.closed().ifPresent(part -> json.put("gap_closed", part));
    found
      .result()
      .ended()
      .ifPresent(why -> json.put("ended", why));
    return json;
  }
}
