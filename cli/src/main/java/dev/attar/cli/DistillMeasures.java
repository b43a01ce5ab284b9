package dev.attar.cli;

import dev.attar.bench.report.TrainingReport.Curve;
import dev.attar.bench.report.TrainingReport.Level;
import dev.attar.bench.report.TrainingReport.Point;
import dev.attar.distill.DistillListener.Step;
import dev.attar.distill.DistillListener.Validation;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillResult;
import dev.attar.formats.MetadataValue;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.ToDoubleFunction;
import java.util.function.ToIntFunction;

/**
 * What training did to a student, on the windows that are held out.
 *
 * @param result of the training
 * @param windows how many are held out
 * @param options of the training
 * @param teacher the teacher's own perplexity there; empty if it is not known
 */
record DistillMeasures(DistillResult result, int windows, DistillOptions options, OptionalDouble teacher) {
  /** As {@code DistillListener} calls the validation before training. */
  static final String START = "start";

  /** As it calls its phases. */
  static final String RECONSTRUCTION = "reconstruction";

  /**
   * A stage.
   *
   * @param name for people
   * @param key for programs
   */
  record Stage(String name, String key, Validation validation) {
    double perplexity() {
      return Math.exp(validation.crossEntropy());
    }
  }

  /** The student as it began, after reconstruction if there was one, and what is written. */
  List<Stage> stages() {
    List<Stage> stages = new ArrayList<>();
    first(START).ifPresent(start -> stages.add(new Stage("Student as it began", START, start)));
    first(RECONSTRUCTION).ifPresent(after ->
      stages.add(new Stage("After block reconstruction", RECONSTRUCTION, after))
    );
    boolean distilled = !best().phase().equals(START) && !best().phase().equals(RECONSTRUCTION);
    stages.add(new Stage(distilled ? "After distillation" : "What is written", "distillation", best()));
    return stages;
  }

  private Optional<Validation> first(String phase) {
    return result
      .validations()
      .stream()
      .filter(validation -> validation.phase().equals(phase))
      .findFirst();
  }

  /** That of the weights that were kept. */
  Validation best() {
    return result
      .validations()
      .stream()
      .filter(Validation::best)
      .reduce((_, later) -> later)
      .orElseThrow();
  }

  /** Where the weights were best. */
  String bestPlace() {
    Validation best = best();
    return switch (best.phase()) {
      case START -> "the beginning";
      case RECONSTRUCTION -> "the end of block reconstruction";
      default -> "step " + best.step();
    };
  }

  /** Steps of distillation. */
  long steps() {
    return result
      .steps()
      .stream()
      .filter(step -> !step.phase().equals(RECONSTRUCTION))
      .count();
  }

  /** How many tokens a second were trained on in distillation, in the last run; 0 if there was no step. */
  double tokensPerSecond() {
    return result.steps().isEmpty() ? 0 : result.steps().getLast().tokensPerSecond();
  }

  /** The part of the difference in perplexity between the student as it began and the teacher that is gone; empty if it is not known. */
  OptionalDouble closed() {
    List<Stage> stages = stages();
    double start = stages.getFirst().perplexity();
    if (teacher.isEmpty() || !(start > teacher.getAsDouble())) {
      return OptionalDouble.empty();
    }
    return OptionalDouble.of((start - stages.getLast().perplexity()) / (start - teacher.getAsDouble()));
  }

  /** How it went. */
  List<Curve> curves() {
    List<Step> fit = result
      .steps()
      .stream()
      .filter(step -> step.phase().equals(RECONSTRUCTION))
      .toList();
    List<Step> whole = result
      .steps()
      .stream()
      .filter(step -> !step.phase().equals(RECONSTRUCTION))
      .toList();
    // The student as distillation begins is at its step 0.
    List<Validation> validations = new ArrayList<>();
    List<Stage> stages = stages();
    Validation begin = stages.get(stages.size() - 2).validation();
    validations.add(new Validation(begin.phase(), 0, begin.loss(), begin.divergence(), begin.crossEntropy(), false));
    result
      .validations()
      .stream()
      .filter(validation -> !validation.phase().equals(START) && !validation.phase().equals(RECONSTRUCTION))
      .forEach(validations::add);
    return List.of(
      new Curve(
        "Perplexity",
        "of the text",
        "perplexity",
        points(whole, Step::number, step -> Math.exp(step.crossEntropy())),
        points(validations, Validation::step, validation -> Math.exp(validation.crossEntropy())),
        teacher.isPresent() ? Optional.of(new Level("teacher", teacher.getAsDouble())) : Optional.empty()
      ),
      new Curve(
        "Loss",
        "what is minimized, nats per token",
        "loss",
        points(whole, Step::number, Step::loss),
        points(validations, Validation::step, Validation::loss),
        Optional.empty()
      ),
      new Curve(
        "Block reconstruction",
        "error, as a part of what the teacher's blocks change",
        "loss",
        points(fit, Step::number, Step::loss),
        List.of(),
        Optional.empty()
      )
    );
  }

  private static <T> List<Point> points(List<T> from, ToIntFunction<T> step, ToDoubleFunction<T> value) {
    return from
      .stream()
      .map(one -> new Point(step.applyAsInt(one), value.applyAsDouble(one)))
      .toList();
  }

  /** What the result says of itself. */
  Map<String, MetadataValue> marks(String prefix) {
    Map<String, MetadataValue> marks = new LinkedHashMap<>();
    marks.put(prefix + "steps", MetadataValue.uint32((int) steps()));
    marks.put(prefix + "best_step", MetadataValue.uint32(best().step()));
    marks.put(prefix + "tokens", MetadataValue.uint64(result.tokens()));
    List<Stage> stages = stages();
    put(marks, prefix + "perplexity_before", stages.getFirst().perplexity());
    put(marks, prefix + "perplexity", stages.getLast().perplexity());
    put(marks, prefix + "divergence_before", stages.getFirst().validation().divergence());
    put(marks, prefix + "divergence", stages.getLast().validation().divergence());
    return marks;
  }

  private static void put(Map<String, MetadataValue> marks, String key, double value) {
    if (Double.isFinite(value)) {
      marks.put(key, MetadataValue.float32((float) value));
    }
  }
}
