package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.budget.BudgetPlan;
import dev.attar.quant.budget.BudgetPlanner;
import dev.attar.quant.budget.SizeTarget;
import dev.attar.quant.gptq.Budget;
import dev.attar.quant.gptq.ExpectedImportance;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import dev.attar.quant.gptq.GptqRun;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Quantizes a model. */
@Command(
  name = "quantize",
  description = "Write a model with fewer bits per weight.",
  footer = {
    "",
    "By --method rtn, rounding, every tensor's bytes are those that llama.cpp's llama-quantize writes",
    "for the same options. --method gptq keeps the errors of the layers' outputs on a calibration text",
    "small, in as many bytes; it quantizes to Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL and",
    "IQ4_XS, and rounds tensors of other types. What it has done is kept beside the output, in",
    "OUT.gguf.work, until the output is there.",
    "",
    "For a --target-size or --target-bpw, each tensor's type is chosen so that the model just fits and",
    "its predictions change least: a few models are made for a trial and measured on the calibration text.",
    "Types that --tensor-type and its like name are kept.",
    "",
    "Examples:",
    "  attar quantize checkpoint/ -t Q4_K_M",
    "  attar quantize checkpoint/ -t Q4_K_M --calibration calibration.txt",
    "  attar quantize checkpoint/ -t Q4_K_M --method gptq --calibration calibration.txt",
    "  attar quantize checkpoint/ --target-size 4.5G --method gptq --calibration calibration.txt"
  }
)
final class QuantizeCommand implements Callable<Integer> {

  private static final String LIST = "list";

  /** Stands where types are chosen: with it, types that the user names take effect, and none needs importance. */
  private static final FileType ANY = FileType.Q8_0;

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Mixin
  private TargetOptions targets;

  @Mixin
  private TypeOptions typing;

  @Mixin
  private CalibrationOptions calibrating;

  @Mixin
  private GptqTuning tuning;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = { "-o", "--output" },
    paramLabel = "OUT.gguf",
    description = "The file to write (default: the model's name with the type or size, in the current folder)."
  )
  private Path output;

  @Option(
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    description = "The file type, for instance Q4_K_M; 'list' shows all."
  )
  private String type;

  @Option(
    names = "--method",
    paramLabel = "METHOD",
    description = "How to quantize: rtn, rounding (the default), or gptq, which needs a --calibration text."
  )
  private Method method = Method.RTN;

  @Option(
    names = "--imatrix",
    paramLabel = "FILE",
    description = "Weigh columns by this importance matrix of attar imatrix or llama-imatrix (GGUF or .dat), instead of " +
      "by what is measured on the --calibration text."
  )
  private Path importanceFile;

  @Option(names = "--resume", description = "Go on with an interrupted run of GPTQ, or for a size.")
  private boolean resume;

  @Option(names = "--dry-run", description = "Show each tensor's type and the final size; write nothing.")
  private boolean dryRun;

  private String name; // of what the model becomes

  QuantizeCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (LIST.equalsIgnoreCase(type)) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    Optional<SizeTarget> target = requireSense();
    FileType fileType = target.isPresent() ? ANY : fileType();
    Path source = model.path();
    Calibration calibration = calibrating.texts().isEmpty() ? null : calibrating.calibration(writing.computeThreads());
    boolean isMeasured = method == Method.GPTQ || target.isPresent();
    GptqOptions gptq = isMeasured
      ? tuning.options(calibration, method != Method.GPTQ, resume, writing.overwrite())
      : null;
    tuning.requireDevice();
    name = target.isPresent() ? targets.name() : fileType.name();
    Path out = output != null ? output : ModelArgument.outputName(source, name.toLowerCase(Locale.ROOT));
    try (Model opened = Models.open(source); ImportanceMatrix importance = openImportance()) {
      if (calibration != null) {
        calibration.check();
      }
      QuantizeOptions options = typing
        .options(fileType)
        .withImportance(importance, importance == null ? null : importanceFile.toString());
      QuantizeOptions expected = expected(opened, options, calibration, isMeasured);
      if (target.isPresent()) {
        fit(opened, options, expected, target.get(), calibration, gptq, out);
        return Main.SUCCESS;
      }
      QuantizationPlan plan = QuantizationPlan.quantize(opened, expected);
      if (dryRun) {
        PlanReport report = report(plan);
        warnOfRounded(report, plan);
        report.dryRun();
        check(plan);
        return Main.SUCCESS;
      }
      checkOutput(opened, out);
      check(plan);
      if (gptq != null) {
        writeByGptq(opened, options, Optional.empty(), gptq, out, new GptqTask(console, writing.quiet(), ""));
      } else if (calibration != null) {
        writeMeasured(opened, options, calibration, out);
      } else {
        write(opened, plan, report(plan), out, System.nanoTime());
      }
    }
    return Main.SUCCESS;
  }

  private FileType fileType() {
    return FileType.byName(type).orElseThrow(() -> Usage.error(spec, FileTypes.unknown(type)));
  }

  private ImportanceMatrix openImportance() throws IOException {
    return importanceFile == null ? null : ImportanceMatrix.open(importanceFile);
  }

  /**
   * Checks that the options go together.
   *
   * @return the size that the model is to become; empty if there is a type
   */
  private Optional<SizeTarget> requireSense() {
    boolean hasText = !calibrating.texts().isEmpty();
    boolean hasTarget = requireTypeOrTarget(hasText);
    if (method == Method.GPTQ && !hasText) {
      throw Usage.error(spec, "--method gptq needs a text to calibrate on, expected --calibration TEXT");
    }
    if (method != Method.GPTQ) {
      forbid(tuning.givenForGptq(), "--method gptq");
    }
    if (method != Method.GPTQ && !hasTarget) {
      List<String> forMeasuring = new ArrayList<>(tuning.givenForMeasuring());
      if (resume) {
        forMeasuring.add("--resume");
      }
      forbid(forMeasuring, "--method gptq, --target-size or --target-bpw");
    }
    if (!hasText) {
      forbid(calibrating.dependent(), "a --calibration text");
    }
    if (method != Method.GPTQ && !hasTarget && hasText && importanceFile != null) {
      throw Usage.error(spec, "--imatrix and --calibration exclude each other, unless with --method gptq or a size");
    }
    if (resume && writing.overwrite()) {
      throw Usage.error(spec, "--resume and --overwrite exclude each other");
    }
    return targets.target();
  }

  /** Checks that there is one thing that says how small the model becomes; gives whether it is a size. */
  private boolean requireTypeOrTarget(boolean hasText) {
    List<String> given = new ArrayList<>(targets.given());
    boolean hasTarget = !given.isEmpty();
    if (type != null) {
      given.addFirst("--type");
    }
    if (given.isEmpty()) {
      throw Usage.error(spec, "no type given, expected --type TYPE, --target-size SIZE or --target-bpw X");
    }
    if (given.size() > 1) {
      throw Usage.error(spec, Usage.exclusive(given));
    }
    if (hasTarget && typing.given().contains("--pure")) {
      throw Usage.error(spec, Usage.exclusive(List.of(given.getFirst(), "--pure")));
    }
    if (hasTarget && !hasText) {
      throw Usage.error(spec, given.getFirst() + " needs a text to measure losses on, expected --calibration TEXT");
    }
    return hasTarget;
  }

  private void forbid(List<String> given, String needed) {
    if (!given.isEmpty()) {
      throw Usage.error(spec, Usage.needs(given, needed));
    }
  }

  /**
   * The options for the plan, with what stands for the importance that is still to be measured.
   *
   * @param output whether that of output.weight is measured too
   */
  private static QuantizeOptions expected(
    Model opened,
    QuantizeOptions options,
    Calibration calibration,
    boolean output
  ) {
    return calibration == null || options.importance() != null
      ? options
      : options.withImportance(
          ExpectedImportance.of(opened, calibration.texts().getFirst(), output),
          calibration.name()
        );
  }

  private void check(QuantizationPlan plan) throws IOException {
    plan.requireNoProblems();
    if (method == Method.GPTQ) {
      GptqTask.check(plan);
    }
  }

  private void checkOutput(Model opened, Path out) throws IOException {
    List<Path> inputs = Output.inputs(opened);
    inputs.addAll(calibrating.texts());
    if (importanceFile != null) {
      inputs.add(importanceFile);
    }
    Output.check(out, writing.overwrite(), inputs);
  }

  private PlanReport report(QuantizationPlan plan) {
    PlanReport report = new PlanReport(console, messages.json(), writing.quiet(), plan, name);
    report.setMethod(method);
    report.setMeasured(importanceFile == null);
    typing.withoutEffect(plan).forEach(report::addWarning);
    if (method != Method.GPTQ && targets.target().isEmpty()) {
      tuning.unusedDevice("the processor does the rounding").ifPresent(report::addWarning);
    }
    return report;
  }

  /** Adds what a run by GPTQ would warn of. */
  private void warnOfRounded(PlanReport report, QuantizationPlan plan) {
    if (method == Method.GPTQ) {
      GptqRun.warningsOfRounded(plan, GptqRun::quantizes).forEach(report::addWarning);
    }
  }

  private void write(Model opened, QuantizationPlan plan, PlanReport report, Path out, long started)
    throws IOException, InterruptedException {
    double _ = PlanRun.of(console, writing).write(opened, plan, out, "quantizing");
    report.written(out, (System.nanoTime() - started) / 1e9, messages.verbose());
  }

  /** Rounds with the importance that is measured first. */
  private void writeMeasured(Model opened, QuantizeOptions options, Calibration calibration, Path out)
    throws IOException, InterruptedException {
    long started = System.nanoTime();
    try (TemporaryFolder folder = TemporaryFolder.create(0)) {
      Path file = folder.path().resolve("imatrix.gguf");
      ImportanceRun.Measured measured = new ImportanceRun(console, writing.quiet()).measure(
        opened,
        file,
        calibration,
        false
      );
      try (ImportanceMatrix importance = ImportanceMatrix.open(file)) {
        QuantizationPlan plan = QuantizationPlan.quantize(
          opened,
          options.withImportance(importance, calibration.name())
        );
        PlanReport report = report(plan);
        measured.warnings().forEach(report::addWarning);
        write(opened, plan, report, out, started);
      }
    }
  }

  /** Chooses types for a size, and writes the model unless that is not wanted. */
  private void fit(
    Model opened,
    QuantizeOptions options,
    QuantizeOptions expected,
    SizeTarget target,
    Calibration calibration,
    GptqOptions gptq,
    Path out
  ) throws IOException, InterruptedException {
    GptqTask task = new GptqTask(console, writing.quiet(), "");
    Budget budget = new Budget(target, new ProbeMeter(opened, new TrialModels(calibration, task::at)));
    if (!dryRun) {
      checkOutput(opened, out);
    }
    BudgetPlanner _ = BudgetPlanner.of(opened, expected, target, BudgetPlanner.LADDER);
    if (!dryRun) {
      writeByGptq(opened, options, Optional.of(budget), gptq, out, task);
      return;
    }
    long converted = RunnableModel.needsConversion(opened)
      ? QuantizationPlan.convert(opened, OutputType.AUTO.resolve(opened)).fileBytes()
      : 0;
    BudgetPlan choice;
    try (TemporaryFolder folder = TemporaryFolder.create(converted)) {
      choice = task.choose(opened, options, budget, gptq, folder.path());
    }
    PlanReport report = report(choice.plan());
    report.setBudget(BudgetSummary.of(choice));
    task.warnings().forEach(report::addWarning);
    warnOfRounded(report, choice.plan());
    report.dryRun();
  }

  private void writeByGptq(
    Model opened,
    QuantizeOptions options,
    Optional<Budget> budget,
    GptqOptions gptq,
    Path out,
    GptqTask task
  ) throws IOException, InterruptedException {
    long started = System.nanoTime();
    Path kept = GptqRun.workFolder(out);
    if (resume && Files.notExists(kept) && !writing.quiet()) {
      console.warn(kept + ": no such folder, so there is nothing to resume: starting anew");
    }
    GptqResult result;
    try {
      result = task.run(opened, options, budget, gptq, out);
    } catch (IOException | InterruptedException e) {
      if (task.hasBegun() && Files.exists(kept)) {
        throw new ResumableException(kept, e);
      }
      throw e;
    }
    PlanReport report = report(result.plan());
    budget.ifPresent(b -> report.setBudget(new BudgetSummary(b.target(), result.divergence(), List.of())));
    if (method == Method.GPTQ && !result.tensors().isEmpty()) {
      report.setGptq(new GptqSummary(result, gptq));
    }
    task.warnings().forEach(report::addWarning);
    report.written(out, (System.nanoTime() - started) / 1e9, messages.verbose());
  }
}
