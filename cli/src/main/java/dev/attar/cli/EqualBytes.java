package dev.attar.cli;

import dev.attar.bench.Benchmark;
import dev.attar.bench.Comparison;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Subject;
import dev.attar.bench.report.HtmlReport;
import dev.attar.bench.report.JsonResults;
import dev.attar.formats.Model;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.budget.BudgetPlanner;
import dev.attar.quant.budget.SizeTarget;
import dev.attar.quant.gptq.Budget;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import picocli.CommandLine.Model.CommandSpec;

/**
 * Compares what was made of a model with the plain quantization of it that takes at most as many bytes: types are chosen for that size,
 * and tensors rounded, or quantized by GPTQ if what was made was too. Types that the user names hold for both.
 *
 * @param command the command that the user gave
 * @param options on what to compare
 * @param job what was made
 */
record EqualBytes(CommandSpec command, ComparisonOptions options, LowRankJob job) {
  /** How plain quantization is called in results. */
  static final String PLAIN = "plain, same bytes";

  /** Stands where types are chosen. */
  private static final FileType ANY = FileType.Q8_0;

  /**
   * What was made.
   *
   * @param bytes how many it takes
   * @param name how it is called in the verdict
   * @param subjects its files; the last one is compared
   */
  record Made(long bytes, String name, List<Subject> subjects) {
    Made {
      subjects = List.copyOf(subjects);
    }
  }

  /** What was measured. */
  record Result(Comparison comparison, Verdict verdict) {
    /** For people: the table, and the verdict. */
    void print(PrintStream people) {
      people.println();
      ResultText.printSummary(comparison, people);
      people.println();
      people.println(Text.escape(verdict.line()));
    }

    /** For programs. */
    Map<String, Object> json() {
      Map<String, Object> json = new LinkedHashMap<>(verdict.json());
      json.put("results", JsonResults.of(comparison));
      return json;
    }

    /** Writes the report. */
    void write(Path report, boolean overwrite) throws IOException {
      HtmlReport.write(comparison, List.of(verdict.line()), report, overwrite);
    }

    /** Why a model could not be measured; empty if all were. */
    Optional<String> failure() {
      return comparison
        .variants()
        .stream()
        .filter(variant -> variant.failure().isPresent())
        .map(variant -> variant.subject().name() + " failed: " + variant.failure().get().message())
        .findFirst();
    }
  }

  /** Makes the plain quantization and measures all. */
  Result run(Made made) throws IOException, InterruptedException {
    Model model = job.model();
    QuantizationPlan whole = QuantizationPlan.convert(model, OutputType.AUTO.resolve(model));
    boolean converts = RunnableModel.needsConversion(model);
    Optional<String> obstacle = obstacle(
      model,
      plain(),
      made.bytes,
      converts ? whole.fileBytes() : ModelSummary.of(model).bytes()
    );
    // GPTQ's run converts the model once more.
    long room = (converts ? 2 * whole.fileBytes() : 0) + made.bytes;
    try (TemporaryFolder folder = TemporaryFolder.create(room)) {
      List<Subject> subjects = new ArrayList<>();
      if (obstacle.isEmpty()) {
        Path plain = folder.path().resolve("plain.gguf");
        quantize(made.bytes, plain);
        subjects.add(Subject.of(PLAIN, plain));
      }
      subjects.addAll(made.subjects);
      Comparison comparison;
      try (PhaseProgress progress = new PhaseProgress(job.console(), job.writing().quiet())) {
        Path original = RunnableModel.of(model, folder.path().resolve("model.gguf"), job.threads(), (done, total, _) ->
          progress.at("converting", done, total, "values")
        );
        String type = converts ? " (" + OutputType.AUTO.resolve(model) + ")" : "";
        comparison = Benchmark.run(
          new Subject(ModelArgument.name(model.source()) + type, original, model.source(), List.of(), Optional.empty()),
          subjects,
          options.settings(job.calibration()),
          Measurement.words(command),
          progress
        );
      }
      return new Result(comparison, verdict(made, comparison, obstacle));
    }
  }

  /**
   * Why plain quantization cannot take so many bytes; empty if it can.
   *
   * @param options the user's wishes for types
   * @param original what the model itself takes
   */
  static Optional<String> obstacle(Model model, QuantizeOptions options, long bytes, long original) throws IOException {
    if (bytes >= original) {
      return Optional.of("no smaller than the model itself, which takes " + Text.size(original));
    }
    SizeTarget all = new SizeTarget.FileSize(Long.MAX_VALUE);
    long least = BudgetPlanner.of(model, options, all, BudgetPlanner.LADDER).smallest().fileBytes();
    return bytes < least
      ? Optional.of("plain quantization cannot become so small, it takes " + Text.size(least) + " at least")
      : Optional.empty();
  }

  private QuantizeOptions plain() {
    return job.typing().options(ANY).withPure(false);
  }

  private void quantize(long bytes, Path out) throws IOException, InterruptedException {
    boolean rounds = job.wishes().baseMethod() != Method.GPTQ;
    GptqOptions gptq = job.tuning().options(job.calibration(), rounds, false, false);
    GptqTask task = new GptqTask(job.console(), job.writing().quiet(), PLAIN);
    task.omitDevice();
    TrialModels trials = new TrialModels(job.calibration(), task::at);
    Budget budget = new Budget(new SizeTarget.FileSize(bytes), new ProbeMeter(job.model(), trials));
    GptqResult _ = task.run(job.model(), plain(), Optional.of(budget), gptq, out);
  }

  private static Verdict verdict(Made made, Comparison comparison, Optional<String> obstacle) {
    OptionalDouble plain = obstacle.isPresent() ? OptionalDouble.empty() : divergence(comparison.variants().getFirst());
    OptionalDouble divergence = divergence(comparison.variants().getLast());
    return new Verdict(made.bytes, made.name, divergence, plain, obstacle);
  }

  private static OptionalDouble divergence(ModelResult model) {
    return model.failure().isPresent() || model.divergence().isEmpty()
      ? OptionalDouble.empty()
      : OptionalDouble.of(model.divergence().get().mean().value());
  }
}
