package dev.attar.cli;

import dev.attar.formats.MappedFile;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.prune.structure.Anatomy;
import dev.attar.prune.structure.Cut;
import dev.attar.prune.structure.CutModel;
import dev.attar.prune.structure.Ladder;
import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureListener;
import dev.attar.prune.structure.StructureOptions;
import dev.attar.prune.structure.StructureResult;
import dev.attar.prune.structure.StructureRun;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/** Removes neurons, heads or layers of a model for the user, with progress. To be used once. */
final class StructurePruning implements StructureListener {

  /** How often a model is made for a speed. */
  private static final int MOST_TRIES = 3;

  private static final String KEYS = "attar.prune.";

  /** What a file may take beyond its example where layers differ: each tensor is padded. */
  private static final int PADDING = 32;

  private final Console console;
  private final boolean quiet;
  private final Model original;
  private final Model model;
  private final CutTarget target;
  private final StructureOptions options; // but for the step
  private final Calibration calibration;
  private final ModelTypes types;
  private final Map<String, MetadataValue> marks;
  private final Anatomy anatomy;
  private final Ladder ladder;
  private final QuantizationPlan whole;
  private final SpeedPrediction.Work wholeWork;
  private final List<String> warnings = new ArrayList<>();
  private PhaseProgress progress;
  private boolean announced;

  /**
   * Finds out what can be removed.
   *
   * @param console where to show how it goes
   * @param quiet whether not to show it
   * @param original what the result is compared with: the model, or what that was made of
   * @param model the model
   * @param target how much is removed
   * @param options what is removed, and how; its step does not count
   * @param calibration the text, and how models run
   * @param types what types tensors get
   * @param marks what the result says of itself beside what this has removed
   * @throws IOException if nothing can be removed; the message says why
   */
  StructurePruning(
    Console console,
    boolean quiet,
    Model original,
    Model model,
    CutTarget target,
    StructureOptions options,
    Calibration calibration,
    ModelTypes types,
    Map<String, MetadataValue> marks
  ) throws IOException {
    this.console = console;
    this.quiet = quiet;
    this.original = original;
    this.model = model;
    this.target = target;
    this.options = options;
    this.calibration = calibration;
    this.types = types;
    this.marks = Map.copyOf(marks);
    anatomy = Anatomy.of(model);
    anatomy.require(options.structure(), options.nonUniform());
    ladder = ladder(options.multiple());
    whole = types.plan(original);
    whole.requireNoProblems();
    wholeWork = SpeedPrediction.Work.of(whole.metadata(), whole.infos());
    // Whole layers go without a look at their weights. Of others columns are chosen, which blocks do not allow.
    Optional<String> changed = Optional.of("what loses columns or is fitted anew").filter(
      _ -> options.structure() != Structure.LAYERS
    );
    types.warning(changed, "prune the original").ifPresent(warnings::add);
  }

  /** Does not say which device computes: the user knows by now. */
  void omitDevice() {
    announced = true;
  }

  private Ladder ladder(int multiple) {
    return Ladder.of(anatomy, options.structure(), options.nonUniform(), multiple);
  }

  /** How much is going to be removed: the least that does, or what is nearest to a ratio. */
  Ladder.Step step() throws IOException {
    return switch (target) {
      case CutTarget.Ratio(double ratio) -> nearest(ratio);
      case CutTarget.FileSize(ByteSize size) -> fitting(size.bytes());
      case CutTarget.Speed(double times) -> {
        Optional<Ladder.Step> least = faster(times, 0);
        if (least.isEmpty()) {
          throw tooSlow(times);
        }
        yield least.get();
      }
    };
  }

  private Ladder.Step nearest(double ratio) throws IOException {
    try {
      return ladder.nearest(ratio);
    } catch (IllegalArgumentException e) {
      throw new IOException(model.source() + ": " + e.getMessage(), e);
    }
  }

  private Ladder.Step fitting(long bytes) throws IOException {
    if (whole.fileBytes() <= bytes) {
      throw new IOException(
        model.source() + ": fits without pruning: it takes " + whole.fileBytes() + " bytes, the target is " + bytes
      );
    }
    long room = bytes - (options.nonUniform() ? (long) PADDING * whole.tensors().size() : 0);
    Optional<Ladder.Step> least = first(0, step -> example(step).fileBytes() <= room);
    if (least.isEmpty()) {
      long smallest = ladder.steps().isEmpty() ? whole.fileBytes() : example(ladder.steps().getLast()).fileBytes();
      throw new IOException(
        model.source() +
          ": cannot become smaller than " +
          smallest +
          " bytes by --structure " +
          word() +
          ", the target is " +
          bytes +
          " bytes"
      );
    }
    return least.get();
  }

  /** The first step from a number on that should be so many times as fast. */
  private Optional<Ladder.Step> faster(double times, int from) throws IOException {
    return first(from, step -> prediction(example(step)).generation() >= times);
  }

  private IOException tooSlow(double times) throws IOException {
    double most = ladder.steps().isEmpty() ? 1 : prediction(example(ladder.steps().getLast())).generation();
    return new IOException(
      model.source() +
        ": cannot become faster than about " +
        Text.number(most, 3) +
        " times by --structure " +
        word() +
        ", the target is " +
        Text.plain(times)
    );
  }

  /** Something that is asked of a step. */
  @FunctionalInterface
  private interface Question {
    boolean test(Ladder.Step step) throws IOException;
  }

  /** The first step from a number on that does: each step is smaller and faster than those before it. */
  private Optional<Ladder.Step> first(int from, Question question) throws IOException {
    int low = from;
    int high = ladder.steps().size();
    while (low < high) {
      int middle = (low + high) >>> 1;
      if (question.test(ladder.steps().get(middle))) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low == ladder.steps().size() ? Optional.empty() : Optional.of(ladder.steps().get(low));
  }

  private String word() {
    return StructureReport.word(options.structure());
  }

  /** What a step leaves, as it is written: its sizes are right, whatever is removed. */
  private QuantizationPlan example(Ladder.Step step) throws IOException {
    try (Model cut = CutModel.of(model, ladder.example(anatomy, step), Map.of())) {
      return plan(cut, step, 0, options.nonUniform());
    }
  }

  private SpeedPrediction prediction(QuantizationPlan plan) {
    return SpeedPrediction.of(wholeWork, SpeedPrediction.Work.of(plan.metadata(), plan.infos()));
  }

  /** What becomes of a cut model, with what is said of how it was made. */
  private QuantizationPlan plan(Model cut, Ladder.Step step, long tokens, boolean differs) {
    QuantizationPlan plan = types.plan(cut);
    Map<String, MetadataValue> values = new LinkedHashMap<>(plan.metadata().values());
    // Of what an earlier run did, too. Which neurons and heads are left is said already.
    List.of("multiple_of", "non_uniform", "refit", "damping").forEach(key -> values.remove(KEYS + key));
    values.put(KEYS + "structure", MetadataValue.string(word()));
    values.put(KEYS + "ratio", MetadataValue.float32((float) step.ratio()));
    values.put(KEYS + "removed", MetadataValue.uint32(step.units()));
    if (options.structure() == Structure.FFN) {
      values.put(KEYS + "multiple_of", MetadataValue.uint32(options.multiple()));
    }
    if (options.structure() != Structure.LAYERS) {
      values.put(KEYS + "non_uniform", MetadataValue.bool(differs));
      values.put(KEYS + "refit", MetadataValue.bool(options.refit()));
      values.put(KEYS + "damping", MetadataValue.float32((float) options.damping()));
    }
    values.put(KEYS + "calibration", MetadataValue.string(calibration.name()));
    values.put(KEYS + "tokens", MetadataValue.uint64(tokens));
    values.put(KEYS + "context", MetadataValue.uint32(options.context()));
    values.putAll(marks);
    return plan.withMetadata(Metadata.of(values));
  }

  private QuantizationPlan plan(Model cut, Ladder.Step step, StructureResult result) {
    boolean differs = result.widths().map(StructureResult.Widths::differ).orElse(false);
    return plan(cut, step, result.tokens(), differs);
  }

  /** Tells what would be left after a step, and how large it would be. */
  StructureReport dryRun() throws IOException {
    Ladder.Step step = step();
    QuantizationPlan plan = example(step);
    plan.requireNoProblems();
    return report(step, plan);
  }

  private StructureReport report(Ladder.Step step, QuantizationPlan plan) {
    StructureReport report = new StructureReport(
      new StructureReport.Choice(model.source(), options, anatomy, target, step, nearer(step)),
      ModelSummary.of(original),
      plan,
      prediction(plan)
    );
    warnings.forEach(report::addWarning);
    PlanReport.warnings(plan, false).forEach(report::addWarning);
    return report;
  }

  /** A smaller multiple of widths by which a step comes much nearer to the ratio that was asked for. */
  private Optional<Integer> nearer(Ladder.Step step) {
    if (!(target instanceof CutTarget.Ratio(double ratio)) || options.structure() != Structure.FFN) {
      return Optional.empty();
    }
    double off = Math.abs(step.ratio() - ratio);
    for (int multiple = options.multiple() / 2; off > 0.01 && multiple >= 1; multiple /= 2) {
      double there = ladder(multiple)
        .steps()
        .stream()
        .mapToDouble(other -> Math.abs(other.ratio() - ratio))
        .min()
        .orElse(1);
      if (there < off / 2) {
        return Optional.of(multiple);
      }
    }
    return Optional.empty();
  }

  /**
   * Chooses, removes and writes.
   *
   * @param out what is written
   * @param overwrite whether it may replace what is there
   */
  StructureReport run(ModelOutput out, boolean overwrite) throws IOException, InterruptedException {
    long started = System.nanoTime();
    Ladder.Step step = step();
    requirePossible(step, out);
    long room = RunnableModel.needsConversion(model) ? types.asTheyAre().plan(model).fileBytes() : 0;
    try (
      TemporaryFolder folder = TemporaryFolder.create(room);
      PhaseProgress shown = new PhaseProgress(console, quiet)
    ) {
      progress = shown;
      Path runnable = RunnableModel.of(
        model,
        folder.path().resolve("model.gguf"),
        calibration.threads(),
        (done, total, _) -> at("converting", done, total, "values")
      );
      for (int tried = 1; ; tried++) {
        Path work = Files.createDirectory(folder.path().resolve("run-" + tried));
        Attempt attempt = new Attempt(step, runnable, work);
        Optional<Ladder.Step> next = attempt.make(tried < MOST_TRIES);
        if (next.isPresent()) {
          step = next.get();
          continue;
        }
        attempt.write(out, overwrite);
        StructureReport report = attempt.report();
        report.setWritten(out, (System.nanoTime() - started) / 1e9);
        return report;
      }
    }
  }

  /** Checks, before time is spent, that what is left can be written. */
  private void requirePossible(Ladder.Step step, ModelOutput out) throws IOException {
    example(step).requireNoProblems();
    if (out.isFolder()) {
      Cut cut = ladder.example(anatomy, step);
      try (Model left = CutModel.of(model, cut, Map.of())) {
        long _ = HuggingFaceWriter.check(left, ModelOutput.checkpoint(model), cut.numbers());
      }
    }
  }

  /** A model of which something is removed. */
  private final class Attempt {

    private final Ladder.Step step;
    private final Path runnable;
    private final Path work;
    private StructureResult result;
    private Optional<MeasuredSpeed> measured = Optional.empty();
    private QuantizationPlan written;

    Attempt(Ladder.Step step, Path runnable, Path work) {
      this.step = step;
      this.runnable = runnable;
      this.work = work;
    }

    /**
     * Chooses what is removed, and times what is left if a speed is wanted.
     *
     * @param again whether it may be tried again
     * @return the step to try next; empty if this one is good, or the best there is
     */
    Optional<Ladder.Step> make(boolean again) throws IOException, InterruptedException {
      result = StructureRun.run(
        model,
        runnable,
        withStep(step),
        work,
        new CutMeter(runnable, types.asTheyAre(), new TrialModels(calibration, progress)),
        StructurePruning.this
      );
      if (!(target instanceof CutTarget.Speed(double times))) {
        return Optional.empty();
      }
      MeasuredSpeed speed = measure();
      measured = Optional.of(speed);
      double median = speed.generation().median();
      if (median >= times) {
        return Optional.empty();
      }
      // As much more as this has missed it by, and one step at least.
      double wanted = (prediction(written).generation() * times) / median;
      int from = ladder.steps().indexOf(step) + 1;
      Optional<Ladder.Step> next = again ? faster(wanted, from) : Optional.empty();
      if (next.isEmpty() && again && from < ladder.steps().size()) {
        next = Optional.of(ladder.steps().getLast());
      }
      if (next.isEmpty()) {
        warn(
          "the target of " +
            target.text() +
            " is missed: measured " +
            speed.generation().text() +
            (again ? ", and no more can be removed" : " after " + MOST_TRIES + " tries")
        );
      }
      return next;
    }

    private MeasuredSpeed measure() throws IOException, InterruptedException {
      try (Made made = new Made(result)) {
        written = plan(made.cut, step, result);
        boolean asItIs = types.quantize().isEmpty();
        long room = written.fileBytes() + (asItIs ? 0 : whole.fileBytes());
        try (TemporaryFolder folder = TemporaryFolder.create(room)) {
          Path file = folder.path().resolve("pruned.gguf");
          write(made.cut, written, file, "writing trial model");
          Path base = asItIs ? runnable : folder.path().resolve("whole.gguf");
          if (!asItIs) {
            write(original, whole, base, "writing the whole model in the same types");
          }
          return MeasuredSpeed.of(base, file, calibration, progress);
        }
      }
    }

    private void write(Model from, QuantizationPlan plan, Path file, String task)
      throws IOException, InterruptedException {
      QuantizationRun.run(from, plan, file, false, calibration.threads(), (done, total, _) ->
        at(task, done, total, "values")
      );
    }

    void write(ModelOutput out, boolean overwrite) throws IOException, InterruptedException {
      LoadCheck load = new LoadCheck(out.path(), calibration.threads(), calibration.patience());
      OutputCheck check = file -> {
        at("loading the result in llama.cpp", 0, 1, "models");
        load.check(file);
      };
      try (Made made = new Made(result)) {
        written = plan(made.cut, step, result);
        if (out.isFolder()) {
          Path checkpoint = ModelOutput.checkpoint(model);
          HuggingFaceWriter.write(
            made.cut,
            checkpoint,
            result.cut().numbers(),
            out.path(),
            overwrite,
            (done, total, _) -> at("writing", done, total, "bytes"),
            check
          );
        } else {
          QuantizationRun.run(
            made.cut,
            written,
            Map.of(),
            out.path(),
            overwrite,
            calibration.threads(),
            check,
            (done, total, _) -> at("writing", done, total, "values")
          );
        }
      }
    }

    StructureReport report() {
      StructureReport report = StructurePruning.this.report(step, written);
      report.setResult(result);
      measured.ifPresent(report::setMeasured);
      return report;
    }
  }

  private StructureOptions withStep(Ladder.Step step) {
    return new StructureOptions(
      options.structure(),
      step,
      options.nonUniform(),
      options.multiple(),
      options.refit(),
      options.damping(),
      options.texts(),
      options.tokens(),
      options.context(),
      options.threads(),
      options.device(),
      options.maxMemory(),
      options.patience()
    );
  }

  /** What is left of the model, with the files of what was fitted anew. */
  private final class Made implements AutoCloseable {

    private final List<MappedFile> files = new ArrayList<>();
    private final Model cut;

    Made(StructureResult result) throws IOException {
      Map<String, MemorySegment> refitted = new HashMap<>();
      try {
        for (Map.Entry<String, Path> tensor : result.refitted().entrySet()) {
          MappedFile file = MappedFile.open(tensor.getValue());
          files.add(file);
          refitted.put(tensor.getKey(), file.bytes());
        }
        cut = CutModel.of(model, result.cut(), refitted);
      } catch (IOException | RuntimeException e) {
        files.forEach(MappedFile::close);
        throw e;
      }
    }

    @Override
    public void close() throws IOException {
      try (cut) {
        files.forEach(MappedFile::close);
      }
    }
  }

  @Override
  public void at(String phase, long done, long total, String unit) {
    progress.at(phase, done, total, unit);
  }

  @Override
  public void device(String line) {
    if (!quiet && !announced) {
      announced = true;
      console.err().println("attar: " + Text.escape(line));
    }
  }

  @Override
  public void warn(String message) {
    if (!warnings.contains(message)) {
      warnings.add(message);
    }
  }
}
