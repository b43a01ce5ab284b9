package dev.attar.cli;

import dev.attar.bench.Subject;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.lowrank.heads.HeadOptions;
import dev.attar.lowrank.heads.HeadResult;
import dev.attar.lowrank.heads.HeadSize;
import dev.attar.lowrank.heads.SmallerHeads;
import dev.attar.prune.structure.Ladder;
import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureOptions;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A model with smaller inner dimensions: heads of fewer values, then feed-forward networks of fewer neurons, with what is left fitted
 * anew.
 *
 * @param job what is to be made
 * @param types the types that it is written in
 */
record ShrinkLowRank(LowRankJob job, ModelTypes types) implements LowRankMaker {
  /** Values in a block of the types that most can be quantized to later, for heads whose size is not given. */
  private static final int BLOCK = 32;

  ShrinkLowRank(LowRankJob job) {
    this(job, ModelTypes.of(job.model(), job.quantize()));
  }

  @Override
  public List<Path> outputs(Path out) {
    return List.of(out);
  }

  @Override
  public void check() throws IOException {
    types.plan(job.model()).requireNoProblems();
    if (job.wishes().hasHeads()) {
      HeadSize.require(job.model(), headSize());
    }
    if (job.wishes().neurons().isPresent()) {
      requireNeurons();
    }
  }

  /** Checks that so many neurons can be kept. */
  private void requireNeurons() throws IOException {
    try {
      Ladder.Step _ = pruning(job.model(), Map.of()).step();
    } catch (IOException e) {
      String kept = Text.plain(job.wishes().neurons().orElseThrow());
      throw new IOException(e.getMessage() + " (--ratio " + kept + " is what is kept, the rest is removed)", e);
    }
  }

  /** The size that heads get. */
  private int headSize() throws IOException {
    if (job.wishes().headSize().isPresent()) {
      return job.wishes().headSize().getAsInt();
    }
    int before = HeadSize.of(job.model());
    int wanted = Math.max(2, (int) Math.round(job.wishes().headRatio().orElseThrow() * before));
    int block = Math.max(
      BLOCK,
      job
        .quantize()
        .map(options -> options.fileType().defaultType().blockLength())
        .orElse(1)
    );
    return HeadSize.goodSizes(job.model(), wanted, block)
      .stream()
      .min(Comparator.comparingInt(size -> Math.abs(size - wanted)))
      .orElse(wanted - (wanted % 2));
  }

  private HeadOptions headOptions() throws IOException {
    Calibration calibration = job.calibration();
    return new HeadOptions(
      headSize(),
      job.tuning().damping(),
      calibration.texts(),
      calibration.tokens(),
      calibration.context(),
      calibration.threads(),
      job.tuning().device(),
      job.tuning().maxMemory(),
      calibration.patience()
    );
  }

  /** The removal of neurons from what heads have left. */
  private StructurePruning pruning(Model left, Map<String, MetadataValue> marks) throws IOException {
    BigDecimal kept = BigDecimal.valueOf(job.wishes().neurons().orElseThrow());
    Calibration calibration = job.calibration();
    StructureOptions options = new StructureOptions(
      Structure.FFN,
      new Ladder.Step(0, 0), // chosen later
      false,
      job.wishes().multiple(),
      true,
      job.tuning().damping(),
      calibration.texts(),
      calibration.tokens(),
      calibration.context(),
      calibration.threads(),
      job.tuning().device(),
      job.tuning().maxMemory(),
      calibration.patience()
    );
    return new StructurePruning(
      job.console(),
      job.writing().quiet(),
      job.model(),
      left,
      new CutTarget.Ratio(BigDecimal.ONE.subtract(kept).doubleValue()),
      options,
      calibration,
      types,
      marks
    );
  }

  @Override
  public LowRankReport dryRun() throws IOException {
    if (!job.wishes().hasHeads()) {
      return report(false, pruning(job.model(), job.marks(true, 0)).dryRun(), Optional.empty());
    }
    int before = HeadSize.of(job.model());
    HeadSummary heads = new HeadSummary(before, headSize(), job.wishes().headRatio(), Optional.empty());
    try (Model left = new HeadShapes(job.model(), before, heads.size())) {
      if (job.wishes().neurons().isPresent()) {
        return report(false, pruning(left, job.marks(true, 0)).dryRun(), Optional.of(heads));
      }
      QuantizationPlan plan = plan(left, 0);
      plan.requireNoProblems();
      return report(false, plan, heads, "would take " + sizes(plan));
    }
  }

  @Override
  public Result run(Path out) throws IOException, InterruptedException {
    if (!job.wishes().hasHeads()) {
      LowRankReport report = report(true, prune(job.model(), out, 0), Optional.empty());
      return new Result(report, made(out));
    }
    long started = System.nanoTime();
    try (
      TemporaryFolder folder = TemporaryFolder.create(job.convertedBytes());
      LowRankTask task = new LowRankTask(job.console(), job.writing().quiet())
    ) {
      Path work = Files.createDirectory(folder.path().resolve("heads"));
      HeadResult result = HeadSize.run(job.model(), job.runnable(folder.path(), task), headOptions(), work, task);
      HeadSummary heads = new HeadSummary(
        result.before(),
        result.size(),
        job.wishes().headRatio(),
        Optional.of(result)
      );
      task.pause();
      LowRankReport report;
      try (Model left = SmallerHeads.of(job.model(), result)) {
        report = job.wishes().neurons().isPresent()
          ? report(true, prune(left, out, result.tokens()), Optional.of(heads))
          : write(left, heads, out, started, task);
      }
      task.warnings().forEach(report::addWarning);
      return new Result(report, made(out));
    }
  }

  private StructureReport prune(Model left, Path out, long tokens) throws IOException, InterruptedException {
    StructurePruning pruning = pruning(left, job.marks(true, tokens));
    if (left != job.model()) {
      pruning.omitDevice();
    }
    return pruning.run(ModelOutput.of(out), job.writing().overwrite());
  }

  private QuantizationPlan plan(Model left, long tokens) {
    QuantizationPlan plan = types.plan(left);
    Map<String, MetadataValue> values = new LinkedHashMap<>(plan.metadata().values());
    values.putAll(job.marks(true, tokens));
    return plan.withMetadata(Metadata.of(values));
  }

  private LowRankReport write(Model left, HeadSummary heads, Path out, long started, LowRankTask task)
    throws IOException, InterruptedException {
    QuantizationPlan plan = plan(left, heads.result().orElseThrow().tokens());
    LoadCheck check = new LoadCheck(out, job.threads(), job.patience());
    QuantizationRun.run(
      left,
      plan,
      Map.of(),
      out,
      job.writing().overwrite(),
      job.writing().threads(),
      file -> {
        task.at("loading the result in llama.cpp", 0, 1, "models");
        check.check(file);
      },
      (done, total, _) -> task.at("writing", done, total, "values")
    );
    double seconds = (System.nanoTime() - started) / 1e9;
    String done = Text.escape(out.toString()) + ": " + sizes(plan) + " in " + Text.seconds(seconds);
    LowRankReport report = report(true, plan, heads, done);
    report.put("output", out.toString());
    report.put("seconds", seconds);
    return report;
  }

  /** Of heads alone. */
  private LowRankReport report(boolean written, QuantizationPlan plan, HeadSummary heads, String first) {
    QuantizationPlan whole = types.plan(job.model());
    SpeedPrediction speed = SpeedPrediction.of(
      SpeedPrediction.Work.of(whole.metadata(), whole.infos()),
      SpeedPrediction.Work.of(plan.metadata(), plan.infos())
    );
    LowRankReport report = new LowRankReport(job, written, plan);
    report.addLine(first);
    report.addLine(ModelSummary.of(plan.infos()).types());
    heads.lines().forEach(report::addLine);
    heads.warning().ifPresent(report::addWarning);
    report.addLine(speed.line());
    report.put("file_bytes", plan.fileBytes());
    report.put("heads", heads.json());
    report.put("predicted_speed", speed.json());
    types.warning(Optional.of("what changes"), "take the original").ifPresent(report::addWarning);
    PlanReport.warnings(plan, false).forEach(report::addWarning);
    addUnused(report, plan);
    return report;
  }

  /** Of neurons, and perhaps heads. */
  private LowRankReport report(boolean written, StructureReport structure, Optional<HeadSummary> heads)
    throws IOException {
    LowRankReport report = new LowRankReport(job, written, structure.plan());
    report.setStructure(structure);
    report.put("file_bytes", structure.plan().fileBytes());
    structure.output().ifPresent(out -> report.put("output", out.toString()));
    if (heads.isPresent()) {
      heads.get().lines().forEach(report::addLine);
      heads.get().warning().ifPresent(report::addWarning);
      report.put("heads", heads.get().json());
    }
    addUnused(report, structure.plan());
    return report;
  }

  private void addUnused(LowRankReport report, QuantizationPlan plan) {
    if (types.quantize().isPresent()) {
      job.typing().withoutEffect(plan).forEach(report::addWarning);
    }
  }

  private String sizes(QuantizationPlan plan) {
    ModelSummary before = ModelSummary.of(job.model());
    ModelSummary after = ModelSummary.of(plan.infos());
    return (
      Text.size(plan.fileBytes()) +
      ", " +
      Text.count(after.parameters()) +
      " parameters (from " +
      Text.size(before.bytes()) +
      ", " +
      Text.count(before.parameters()) +
      ")"
    );
  }

  private EqualBytes.Made made(Path out) throws IOException {
    String name =
      "shrunk" +
      job
        .quantize()
        .map(options -> " (" + options.fileType().name() + ")")
        .orElse("");
    return new EqualBytes.Made(Files.size(out), name, List.of(Subject.of(name, out)));
  }
}
