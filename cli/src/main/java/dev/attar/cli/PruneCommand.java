package dev.attar.cli;

import dev.attar.bench.ProgressListener;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.prune.Amount;
import dev.attar.prune.PruneMethod;
import dev.attar.prune.WeightPruner;
import dev.attar.prune.structure.Ladder;
import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureOptions;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Removes weights of a model: one by one, or neurons, heads and layers as a whole. */
@Command(
  name = "prune",
  description = "Write a model with fewer weights: smaller and faster by --structure, with zeros by --method.",
  footer = {
    "",
    "--structure removes neurons, attention heads or layers as a whole. The model becomes smaller and faster,",
    "and the weights that meet what is left are fitted to the calibration text anew. With -t the result is",
    "rounded to that type; 'attar quantize --method gptq' on the result does better.",
    "",
    "--method makes single weights zero. ggml has no sparse kernels, so the model is as large and as fast as",
    "before; a compressed download is smaller. With -t, weights are removed and quantized by GPTQ in one walk.",
    "",
    "Each result is loaded once in llama.cpp before it gets its name.",
    "",
    "Examples:",
    "  attar prune checkpoint/ --structure ffn --ratio 0.25 --calibration calibration.txt -o smaller.gguf",
    "  attar prune checkpoint/ --structure layers --ratio 0.25 --calibration calibration.txt -o student/",
    "  attar prune checkpoint/ --structure ffn --target-size 4G -t Q4_K_M --calibration calibration.txt",
    "  attar prune checkpoint/ --method sparsegpt --sparsity 2:4 --calibration calibration.txt"
  }
)
final class PruneCommand implements Callable<Integer> {

  private static final String LIST = "list";

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Mixin
  private CutOptions cuts;

  @Mixin
  private SparsityOptions sparse;

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
    paramLabel = "OUT",
    description = "What to write: a GGUF file if it ends in .gguf, otherwise a Hugging Face folder, which can be trained further " +
      "(default: a GGUF with the model's name and what was removed, in the current folder)."
  )
  private Path output;

  @Option(
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    description = "Quantize too: the file type, for instance Q4_K_M; 'list' shows all (default: the types of the model)."
  )
  private String type;

  @Option(
    names = "--resume",
    description = "Go on with an interrupted run of --method sparsegpt, or of --method with --type, to a GGUF file."
  )
  private boolean resume;

  @Option(names = "--dry-run", description = "With --structure: show what would be left; measure and write nothing.")
  private boolean dryRun;

  private Path source;
  private Optional<FileType> fileType = Optional.empty();
  private ModelOutput out;
  private Calibration calibration; // null without a text

  PruneCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (LIST.equalsIgnoreCase(type)) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    Optional<CutTarget> target = requireSense();
    fileType = type == null ? Optional.empty() : Optional.of(fileType());
    source = model.path();
    calibration = calibrating.texts().isEmpty() ? null : calibrating.calibration(writing.computeThreads());
    tuning.requireDevice();
    String name = target.isPresent()
      ? StructureReport.word(cuts.structure()) + "-" + target.get().name()
      : sparse.method().word() + "-" + sparse.sparsity().name();
    String typed = name + fileType.map(given -> "-" + given.name()).orElse("");
    out = ModelOutput.of(output != null ? output : ModelArgument.outputName(source, typed.toLowerCase(Locale.ROOT)));
    requireFittingOutput();
    try (Model opened = Models.open(source)) {
      out.requireSource(spec, opened);
      if (calibration != null) {
        calibration.check();
      }
      if (target.isPresent()) {
        cut(opened, target.get());
      } else {
        makeSparse(opened);
      }
    }
    return Main.SUCCESS;
  }

  private FileType fileType() {
    return FileTypes.withoutImportance(spec, type, "prune");
  }

  /**
   * Checks that the options go together.
   *
   * @return how much is removed as a whole; empty if weights are removed one by one
   */
  private Optional<CutTarget> requireSense() {
    if (sparse.method() == null && cuts.structure() == null) {
      throw Usage.error(
        spec,
        "nothing to remove, expected --structure ffn, heads or layers, or --method magnitude, wanda or sparsegpt"
      );
    }
    if (sparse.method() != null && cuts.structure() != null) {
      throw Usage.error(spec, Usage.exclusive(List.of("--structure", "--method")));
    }
    boolean hasText = !calibrating.texts().isEmpty();
    if (!hasText) {
      forbid(calibrating.dependent(), "a --calibration text");
    }
    if (type == null) {
      forbid(typing.given(), "--type");
    } else {
      typing.forbidRequantize(spec);
    }
    if (cuts.structure() != null) {
      return Optional.of(requireSenseOfStructure(hasText));
    }
    requireSenseOfMethod(hasText);
    return Optional.empty();
  }

  private CutTarget requireSenseOfStructure(boolean hasText) {
    forbid(sparse.given(), "--method");
    List<String> ofMethod = new ArrayList<>(tuning.givenForGptq());
    ofMethod.remove("--damping");
    if (resume) {
      ofMethod.add("--resume");
    }
    forbid(ofMethod, "--method");
    CutTarget target = cuts.requireSense();
    if (!hasText) {
      throw Usage.error(spec, "--structure needs a text to calibrate on, expected --calibration TEXT");
    }
    double _ = tuning.damping();
    long _ = tuning.maxMemory();
    return target;
  }

  private void requireSenseOfMethod(boolean hasText) {
    forbid(cuts.given(), "--structure");
    PruneMethod method = sparse.method();
    if (sparse.sparsity() == null) {
      throw Usage.error(spec, "--method needs how much to remove, expected --sparsity 0.5 or 2:4");
    }
    if (method != PruneMethod.MAGNITUDE && sparse.hasScope()) {
      throw Usage.error(spec, "--per needs --method magnitude");
    }
    if (sparse.hasScope() && sparse.sparsity() instanceof Amount.PerGroup) {
      throw Usage.error(spec, "--per and a pattern, --sparsity " + sparse.sparsity() + ", exclude each other");
    }
    boolean quantizes = type != null && fileType().defaultType().isQuantized();
    if (method.needsText() && !hasText) {
      throw Usage.error(spec, "--method " + method.word() + " needs a text, expected --calibration TEXT");
    }
    if (quantizes && !hasText) {
      throw Usage.error(spec, "--type " + type + " is done by GPTQ, which needs a text, expected --calibration TEXT");
    }
    if (!quantizes) {
      List<String> ofGptq = new ArrayList<>(tuning.givenForGptq());
      ofGptq.remove("--damping");
      if (method.solves()) {
        ofGptq.removeIf(option -> option.endsWith("sequential"));
      } else if (tuning.givenForGptq().contains("--damping")) {
        ofGptq.add("--damping");
      }
      forbid(ofGptq, method.solves() ? "--type" : "--method sparsegpt or --type");
    }
    if (!method.needsText() && !quantizes) {
      List<String> measuring = new ArrayList<>(tuning.givenForMeasuring());
      if (resume) {
        measuring.add("--resume");
      }
      forbid(measuring, "--method wanda or sparsegpt, or --type");
    }
    if (resume && !method.solves() && !quantizes) {
      throw Usage.error(spec, Usage.needs(List.of("--resume"), "--method sparsegpt or --type"));
    }
    if (resume && writing.overwrite()) {
      throw Usage.error(spec, "--resume and --overwrite exclude each other");
    }
    if (dryRun) {
      throw Usage.error(spec, "--dry-run needs --structure: by --method the model stays as large as it is");
    }
  }

  private void forbid(List<String> given, String needed) {
    if (!given.isEmpty()) {
      throw Usage.error(spec, Usage.needs(given, needed));
    }
  }

  /** A folder holds what can be trained further: plain weights, in layers that are all alike. */
  private void requireFittingOutput() {
    if (!out.isFolder()) {
      return;
    }
    String given = type != null ? "--type" : cuts.nonUniform() ? "--non-uniform" : resume ? "--resume" : null;
    if (given != null) {
      throw out.noFolder(spec, given);
    }
  }

  private List<Path> inputs(Model opened) throws IOException {
    List<Path> inputs = Output.inputs(opened);
    inputs.addAll(calibrating.texts());
    return inputs;
  }

  private Optional<QuantizeOptions> quantize() {
    return fileType.map(typing::options);
  }

  private void cut(Model opened, CutTarget target) throws IOException, InterruptedException {
    ModelTypes types = ModelTypes.of(opened, quantize());
    StructurePruning pruning = new StructurePruning(
      console,
      writing.quiet(),
      opened,
      opened,
      target,
      structureOptions(),
      calibration,
      types,
      Map.of()
    );
    if (!dryRun) {
      out.check(opened, writing.overwrite(), inputs(opened));
    }
    StructureReport report = dryRun ? pruning.dryRun() : pruning.run(out, writing.overwrite());
    quantize().ifPresent(_ -> typing.withoutEffect(report.plan()).forEach(report::addWarning));
    report.print(console, messages, writing.quiet());
  }

  private StructureOptions structureOptions() {
    return new StructureOptions(
      cuts.structure(),
      new Ladder.Step(0, 0), // chosen later
      cuts.nonUniform(),
      cuts.multiple(),
      cuts.refit() && cuts.structure() != Structure.LAYERS,
      tuning.damping(),
      calibration.texts(),
      calibration.tokens(),
      calibration.context(),
      calibration.threads(),
      tuning.device(),
      tuning.maxMemory(),
      calibration.patience()
    );
  }

  /** Removes single weights. */
  private void makeSparse(Model opened) throws IOException, InterruptedException {
    long started = System.nanoTime();
    out.check(opened, writing.overwrite(), inputs(opened));
    Duration patience = calibration == null
      ? Duration.ofSeconds(MeasureOptions.DEFAULT_TIMEOUT)
      : calibration.patience();
    LoadCheck check = new LoadCheck(out.path(), writing.computeThreads(), patience);
    boolean quantizes = fileType.isPresent() && fileType.get().defaultType().isQuantized();
    boolean measures = sparse.method().needsText() || quantizes;
    SparsePruning pruning = new SparsePruning(
      console,
      writing,
      tuning,
      opened,
      new WeightPruner(sparse.method(), sparse.sparsity(), sparse.acrossRows()),
      quantize(),
      calibration,
      measures ? tuning.options(calibration, false, resume, writing.overwrite()) : null
    );
    pruning.check(out);
    SparseReport report = pruning.run(out, check);
    report.setWritten(out, (System.nanoTime() - started) / 1e9);
    quantize().ifPresent(_ -> typing.withoutEffect(report.plan()).forEach(report::addWarning));
    if (!measures && calibration != null) {
      report.addWarning("--method magnitude does not look at the text, --calibration changes nothing");
    }
    compress(opened, pruning, report);
    report.print(console, messages, writing.quiet());
  }

  /** Finds out what a download takes: that is a figure in the report, for which the output is not given up. */
  private void compress(Model opened, SparsePruning pruning, SparseReport report)
    throws IOException, InterruptedException {
    if (writing.quiet() && !messages.json()) {
      return;
    }
    try (PhaseProgress progress = new PhaseProgress(console, writing.quiet())) {
      long bytes = compressed(outputFiles(), "compressing the output", progress);
      report.setCompressed(bytes, compressedBase(opened, pruning, progress));
    } catch (InterruptedIOException | ClosedByInterruptException e) {
      throw e;
    } catch (IOException e) {
      report.addWarning("the size of a compressed download is not known: " + ErrorReport.message(e));
    }
  }

  private long compressed(List<Path> files, String task, ProgressListener progress)
    throws IOException, InterruptedException {
    return CompressedSize.of(files, writing.threads(), task, progress);
  }

  private List<Path> outputFiles() throws IOException {
    if (!out.isFolder()) {
      return List.of(out.path());
    }
    try (var files = Files.list(out.path())) {
      return files.filter(file -> file.toString().endsWith(".safetensors")).toList();
    }
  }

  /** The same for all of the weights, in the types of the output. */
  private long compressedBase(Model opened, SparsePruning pruning, ProgressListener progress)
    throws IOException, InterruptedException {
    String task = "compressing the whole model";
    if (fileType.isEmpty() && !pruning.isEncoded()) {
      return compressed(opened.files(), task, progress);
    }
    QuantizationPlan whole = QuantizationPlan.quantize(opened, pruning.types(out));
    whole.requireNoProblems();
    try (TemporaryFolder folder = TemporaryFolder.create(whole.fileBytes())) {
      Path file = folder.path().resolve("whole.gguf");
      QuantizationRun.run(opened, whole, file, false, writing.threads(), (done, total, _) ->
        progress.at("quantizing the whole model", done, total, "weights")
      );
      return compressed(List.of(file), task, progress);
    }
  }
}
