package dev.attar.cli;

import dev.attar.bench.Subject;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.lowrank.FactorRun;
import dev.attar.lowrank.FactoredModel;
import dev.attar.lowrank.FactoredTensor;
import dev.attar.lowrank.Factorization;
import dev.attar.lowrank.Metric;
import dev.attar.lowrank.RankChoice;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.TensorPlan;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Products in the place of weights, multiplied back: as large as before, to measure what ranks cost.
 *
 * @param job what is to be made
 * @param types the types that it is written in
 */
record DenseLowRank(LowRankJob job, ModelTypes types) implements LowRankMaker {
  DenseLowRank(LowRankJob job) {
    this(job, ModelTypes.of(job.model(), job.quantize()));
  }

  private List<TensorInfo> tensors() {
    return FactorRun.tensors(job.model(), Optional.empty());
  }

  @Override
  public List<Path> outputs(Path out) {
    return List.of(out);
  }

  @Override
  public void check() throws IOException {
    types.plan(job.model()).requireNoProblems();
    if (job.wishes().ranks() instanceof RankChoice.Same(int rank)) {
      FactorRun.requireRank(job.model().source(), tensors(), rank);
    }
  }

  /** Whether a text is looked at. */
  private boolean measures() {
    return job.wishes().metric() == Metric.ACTIVATION || weighs();
  }

  /** Whether it is measured, for ranks that share a size, what errors do to predictions. */
  private boolean weighs() {
    return job.calibration() != null && job.wishes().ranks() instanceof RankChoice.Size;
  }

  private QuantizationPlan marked(QuantizationPlan plan, long tokens) {
    Map<String, MetadataValue> values = new LinkedHashMap<>(plan.metadata().values());
    values.putAll(job.marks(measures(), tokens));
    return plan.withMetadata(Metadata.of(values));
  }

  @Override
  public LowRankReport dryRun() throws IOException {
    QuantizationPlan plan = marked(types.plan(job.model()), 0);
    Set<String> factored = tensors().stream().map(TensorInfo::name).collect(Collectors.toSet());
    boolean decodes = types.encoded() && types.quantize().isEmpty();
    List<TensorInfo> infos = plan
      .infos()
      .stream()
      .map(info ->
        decodes && info.type().isQuantized() && factored.contains(info.name()) ? info.withType(TensorType.F16) : info
      )
      .toList();
    long bytes = GgufLayout.of(plan.metadata(), infos).fileBytes();
    LowRankReport report = new LowRankReport(job, false, plan);
    report.addLine(
      "would take " + Text.size(bytes) + "; now " + Text.size(ModelSummary.of(job.model()).bytes()) + sizeNote()
    );
    report.addLine(ModelSummary.of(infos).types());
    report.put("file_bytes", bytes);
    long before = tensors().stream().mapToLong(TensorInfo::elements).sum();
    report.addLine(
      switch (job.wishes().ranks()) {
        case RankChoice.Same(int rank) -> "factors of rank " + rank + " would have " + part(factors(rank), before);
        case RankChoice.Size(double kept) -> "factors would have " + part(Math.round(kept * before), before);
        case RankChoice.Energy(double kept) -> "ranks that keep " +
        Text.percent(kept) +
        " of the energy are not known before the matrices are factorized";
      }
    );
    addWarnings(report, plan);
    return report;
  }

  private static String part(long numbers, long before) {
    return Text.percent((double) numbers / before) + " of the " + Text.count(before) + " numbers in the matrices";
  }

  private long factors(int rank) {
    return tensors()
      .stream()
      .mapToLong(info -> (info.rows() / info.dimension(1)) * rank * (info.rowLength() + info.dimension(1)))
      .sum();
  }

  private static String sizeNote() {
    return " (products are multiplied back, so that llama.cpp runs them: this is for measuring)";
  }

  private void addWarnings(LowRankReport report, QuantizationPlan plan) {
    types.warning(Optional.of("what changes"), "take the original").ifPresent(report::addWarning);
    PlanReport.warnings(plan, false).forEach(report::addWarning);
    if (types.quantize().isPresent()) {
      job.typing().withoutEffect(plan).forEach(report::addWarning);
    }
  }

  @Override
  public Result run(Path out) throws IOException, InterruptedException {
    long started = System.nanoTime();
    long numbers = job.wishes().ranks() instanceof RankChoice.Same(int rank)
      ? factors(rank)
      : tensors().stream().mapToLong(TensorInfo::elements).sum();
    long room = numbers * Float.BYTES + (measures() ? job.convertedBytes() : 0);
    LoadCheck check = new LoadCheck(out, job.threads(), job.patience());
    try (
      TemporaryFolder folder = TemporaryFolder.create(room);
      LowRankTask task = new LowRankTask(job.console(), job.writing().quiet())
    ) {
      Path runnable = measures() ? job.runnable(folder.path(), task) : job.model().source();
      Optional<DivergenceMeter> meter = weighs()
        ? Optional.of(new CutMeter(runnable, types.asTheyAre(), new TrialModels(job.calibration(), task::at)))
        : Optional.empty();
      Factorization factors = job.factorize(Optional.empty(), runnable, folder.path(), meter, task);
      QuantizationPlan plan;
      try (Model factored = FactoredModel.of(job.model(), factors)) {
        plan = marked(types.plan(factored), factors.tokens());
        QuantizationRun.run(
          factored,
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
      }
      LowRankReport report = report(plan, factors, out, (System.nanoTime() - started) / 1e9);
      task.warnings().forEach(report::addWarning);
      return new Result(report, made(plan, factors, out));
    }
  }

  /** What the file would take with factors in the place of their products, in the same types. */
  private static long asFactors(QuantizationPlan plan, Factorization factors) {
    Map<String, TensorPlan> steps = plan.tensors().stream().collect(Collectors.toMap(TensorPlan::name, step -> step));
    double bytes = plan.fileBytes();
    for (FactoredTensor tensor : factors.tensors()) {
      TensorPlan step = steps.get(tensor.source().name());
      bytes += (tensor.numbers() * step.target().bitsPerWeight()) / 8 - step.bytesAfter();
    }
    return Math.round(bytes);
  }

  private LowRankReport report(QuantizationPlan plan, Factorization factors, Path out, double seconds) {
    RankSummary ranks = new RankSummary(factors, job.wishes().metric(), false, job.tuning().damping());
    LowRankReport report = new LowRankReport(job, true, plan);
    report.addLine(
      Text.escape(out.toString()) +
        ": " +
        Text.size(plan.fileBytes()) +
        " (from " +
        Text.size(ModelSummary.of(job.model()).bytes()) +
        ") in " +
        Text.seconds(seconds) +
        sizeNote()
    );
    report.addLine(ModelSummary.of(plan.infos()).types());
    ranks.lines().forEach(report::addLine);
    report.addLine(
      "as factors, which llama.cpp does not run, it would take " +
        Text.size(asFactors(plan, factors)) +
        ": " +
        part(factors.numbersAfter(), factors.numbersBefore())
    );
    report.put("output", out.toString());
    report.put("seconds", seconds);
    report.put("file_bytes", plan.fileBytes());
    report.put("factor_bytes", asFactors(plan, factors));
    report.put("ranks", ranks.json());
    report.setDetails(ranks.table());
    ranks.warning().ifPresent(report::addWarning);
    addWarnings(report, plan);
    return report;
  }

  private EqualBytes.Made made(QuantizationPlan plan, Factorization factors, Path out) {
    String name =
      "low rank" +
      job
        .quantize()
        .map(options -> " (" + options.fileType().name() + ")")
        .orElse("");
    return new EqualBytes.Made(asFactors(plan, factors), name, List.of(Subject.of(name, out)));
  }
}
