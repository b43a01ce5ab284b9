package dev.attar.cli;

import dev.attar.bench.Subject;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.lowrank.AdapterFile;
import dev.attar.lowrank.FactorRun;
import dev.attar.lowrank.FactoredModel;
import dev.attar.lowrank.Factorization;
import dev.attar.lowrank.Metric;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.gptq.ExpectedImportance;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Collectors;

/**
 * A quantized base, as {@code attar quantize} writes it, and a LoRA adapter with the best correction of its error.
 *
 * @param job what is to be made; its types are the base's
 */
record AdapterLowRank(LowRankJob job) implements LowRankMaker {
  private static final Pattern ENDING = Pattern.compile("(?i)\\.gguf$");

  /** What the base became, and what is to be said of it. */
  private record Base(QuantizationPlan plan, Optional<GptqSummary> gptq, List<String> warnings) {}

  /** The name of the adapter to a base: {@code x.adapter.gguf} for {@code x.gguf}. */
  static Path adapter(Path base) {
    return base.resolveSibling(ENDING.matcher(base.getFileName().toString()).replaceFirst("") + ".adapter.gguf");
  }

  private QuantizeOptions base() {
    return job.quantize().orElseThrow();
  }

  private boolean byGptq() {
    return job.wishes().baseMethod() == Method.GPTQ;
  }

  /** The plan of the base, with what stands for the importance that is still to be measured. */
  private QuantizationPlan expected() {
    return QuantizationPlan.quantize(
      job.model(),
      job.calibration() == null
        ? base()
        : base().withImportance(
            ExpectedImportance.of(job.model(), job.calibration().texts().getFirst(), byGptq()),
            job.calibration().name()
          )
    );
  }

  /** The tensors that are corrected. */
  private List<TensorInfo> tensors(QuantizationPlan plan) {
    Set<String> quantized = plan
      .tensors()
      .stream()
      .filter(step -> step.target().isQuantized() && step.target() != step.source().type())
      .map(TensorPlan::name)
      .collect(Collectors.toSet());
    return FactorRun.tensors(job.model(), Optional.empty())
      .stream()
      .filter(info -> quantized.contains(info.name()))
      .toList();
  }

  @Override
  public List<Path> outputs(Path out) {
    return List.of(out, adapter(out));
  }

  @Override
  public void check() throws IOException {
    QuantizationPlan plan = expected();
    plan.requireNoProblems();
    if (byGptq()) {
      GptqTask.check(plan);
    }
    if (tensors(plan).isEmpty()) {
      throw new IOException(
        job.model().source() + ": its matrices have the base's types already, there would be no error to correct"
      );
    }
    FactorRun.requireRank(job.model().source(), tensors(plan), job.wishes().rank());
  }

  private String architecture() {
    return job.model().metadata().architecture();
  }

  private Metadata metadata(long tokens) {
    Map<String, MetadataValue> values = new LinkedHashMap<>();
    job
      .model()
      .metadata()
      .get("general.name")
      .ifPresent(name -> values.put("general.name", name));
    values.putAll(job.marks(job.wishes().metric() == Metric.ACTIVATION, tokens));
    return Metadata.of(values);
  }

  @Override
  public LowRankReport dryRun() throws IOException {
    QuantizationPlan plan = expected();
    LowRankOptions wishes = job.wishes();
    List<TensorInfo> tensors = tensors(plan);
    long bytes = AdapterFile.bytes(tensors, wishes.rank(), wishes.adapterType(), architecture(), metadata(0));
    LowRankReport report = new LowRankReport(job, false, plan);
    report.addLine(
      "would take " +
        (job.calibration() != null ? "about " : "") + // what is measured is told of in the metadata too
        Text.size(plan.fileBytes() + bytes) +
        ": base " +
        Text.size(plan.fileBytes()) +
        ", adapter " +
        Text.size(bytes) +
        "; now " +
        Text.size(ModelSummary.of(job.model()).bytes())
    );
    report.addLine("base: " + ModelSummary.of(plan.infos()).types());
    report.addLine(ofAdapter(tensors.size()));
    putSizes(report, plan.fileBytes(), bytes);
    addWarnings(report, plan);
    return report;
  }

  private String ofAdapter(int tensors) {
    LowRankOptions wishes = job.wishes();
    return "adapter: " + wishes.adapterType() + ", rank " + wishes.rank() + ", for " + Text.plural(tensors, "tensor");
  }

  private static void putSizes(LowRankReport report, long base, long adapter) {
    report.put("file_bytes", base + adapter);
    report.put("base_bytes", base);
    report.put("adapter_bytes", adapter);
  }

  private void addWarnings(LowRankReport report, QuantizationPlan plan) {
    PlanReport.warnings(plan, true).forEach(report::addWarning);
    job.typing().withoutEffect(plan).forEach(report::addWarning);
  }

  @Override
  public Result run(Path out) throws IOException, InterruptedException {
    long started = System.nanoTime();
    boolean measures = job.calibration() != null;
    long numbers = tensors(expected())
      .stream()
      .mapToLong(
        info -> (info.rows() / info.dimension(1)) * job.wishes().rank() * (info.rowLength() + info.dimension(1))
      )
      .sum();
    boolean again = job.wishes().rounds() > 1;
    long bases = again ? 2 * expected().fileBytes() : 0;
    long room = numbers * Float.BYTES + bases + (measures ? job.convertedBytes() : 0);
    Path adapterOut = adapter(out);
    try (
      TemporaryFolder folder = TemporaryFolder.create(room);
      LowRankTask task = new LowRankTask(job.console(), job.writing().quiet());
      StagedOutputs staged = new StagedOutputs(out, job.writing().overwrite())
    ) {
      Path baseFile = staged.stage(out);
      Path adapterFile = staged.stage(adapterOut);
      try {
        Path runnable = measures ? job.runnable(folder.path(), task) : job.model().source();
        task.pause();
        Path first = again ? folder.path().resolve("base.gguf") : baseFile;
        Base base = writeBase(runnable, folder.path(), first);
        if (base.gptq.isPresent()) {
          task.omitDevice();
        }
        Factorization factors;
        try (GgufModel opened = GgufModel.open(first)) {
          factors = job.factorize(Optional.of(opened), runnable, folder.path(), Optional.empty(), task);
          if (again) {
            writeAgain(opened, factors, baseFile, task);
          }
        }
        task.at("loading base and adapter in llama.cpp", 0, 1, "models");
        LoadCheck check = new LoadCheck(adapterOut, job.threads(), job.patience());
        AdapterFile.write(
          factors,
          architecture(),
          job.wishes().adapterType(),
          metadata(factors.tokens()),
          adapterFile,
          false,
          check.onBase(baseFile)
        );
        staged.commit();
        LowRankReport report = report(base, factors, out, started);
        task.warnings().forEach(report::addWarning);
        return new Result(report, made(out));
      } catch (IOException e) {
        throw staged.named(e);
      }
    }
  }

  private Base writeBase(Path runnable, Path folder, Path file) throws IOException, InterruptedException {
    if (byGptq()) {
      GptqOptions options = job.tuning().options(job.calibration(), false, false, false);
      GptqTask task = new GptqTask(job.console(), job.writing().quiet(), "");
      GptqResult result = task.run(job.model(), base(), Optional.empty(), options, file);
      return new Base(result.plan(), Optional.of(new GptqSummary(result, options)), task.warnings());
    }
    if (job.calibration() == null) {
      return round(QuantizationPlan.quantize(job.model(), base()), file, List.of());
    }
    Path measured = folder.resolve("imatrix.gguf");
    ImportanceRun run = new ImportanceRun(job.console(), job.writing().quiet());
    List<String> warnings = run.measure(runnable, measured, job.calibration(), false).warnings();
    try (ImportanceMatrix importance = ImportanceMatrix.open(measured)) {
      QuantizeOptions options = base().withImportance(importance, job.calibration().name());
      return round(QuantizationPlan.quantize(job.model(), options), file, warnings);
    }
  }

  /** Writes the base with the tensors that were rounded anew, and says so in it. */
  private void writeAgain(Model first, Factorization factors, Path file, LowRankTask task)
    throws IOException, InterruptedException {
    try (Model base = FactoredModel.base(first, factors)) {
      QuantizationPlan plan = ModelTypes.of(base, Optional.empty()).plan(base);
      Map<String, MetadataValue> values = new LinkedHashMap<>(plan.metadata().values());
      values.put("attar.lowrank.rounds", MetadataValue.uint32(job.wishes().rounds()));
      QuantizationRun.run(
        base,
        plan.withMetadata(Metadata.of(values)),
        file,
        false,
        job.writing().threads(),
        (done, total, _) -> task.at("writing the base", done, total, "values")
      );
    }
  }

  private Base round(QuantizationPlan plan, Path file, List<String> warnings) throws IOException, InterruptedException {
    double _ = PlanRun.of(job.console(), job.writing()).write(job.model(), plan, file, "quantizing");
    return new Base(plan, Optional.empty(), warnings);
  }

  private LowRankReport report(Base base, Factorization factors, Path out, long started) throws IOException {
    RankSummary ranks = new RankSummary(factors, job.wishes().metric(), true, job.tuning().damping());
    Path adapter = adapter(out);
    double seconds = (System.nanoTime() - started) / 1e9;
    LowRankReport report = new LowRankReport(job, true, base.plan);
    report.addLine(
      Text.escape(out.toString()) +
        ": " +
        Text.size(Files.size(out)) +
        ", and " +
        Text.escape(adapter.toString()) +
        ": " +
        Text.size(Files.size(adapter)) +
        " (from " +
        Text.size(ModelSummary.of(job.model()).bytes()) +
        ") in " +
        Text.seconds(seconds)
    );
    report.addLine("base: " + ModelSummary.of(base.plan.infos()).types());
    base.gptq.ifPresent(summary -> report.addLine(summary.line()));
    report.addLine(ofAdapter(factors.tensors().size()));
    ranks.lines().forEach(report::addLine);
    report.put("output", out.toString());
    report.put("adapter", adapter.toString());
    report.put("seconds", seconds);
    putSizes(report, Files.size(out), Files.size(adapter));
    report.put("base_type", base().fileType().name());
    report.put("base_method", LowRankJob.word(job.wishes().baseMethod()));
    report.put("adapter_type", job.wishes().adapterType().toString());
    report.put("ranks", ranks.json());
    base.gptq.ifPresent(summary -> report.put("gptq", summary.json()));
    report.setDetails(ranks.table());
    base.warnings.forEach(report::addWarning);
    ranks.warning().ifPresent(report::addWarning);
    addWarnings(report, base.plan);
    return report;
  }

  private EqualBytes.Made made(Path out) throws IOException {
    Path adapter = adapter(out);
    String type = base().fileType().name() + (byGptq() ? " (gptq)" : "");
    List<Subject> subjects = new ArrayList<>();
    subjects.add(Subject.of(type + (job.wishes().rounds() > 1 ? " without its adapter" : ""), out));
    String name = type + " + adapter";
    subjects.add(new Subject(name, out, out, List.of(adapter), Optional.empty()));
    return new EqualBytes.Made(Files.size(out) + Files.size(adapter), name, subjects);
  }
}
