package dev.attar.cli;

import dev.attar.compute.Device;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.formats.MappedFile;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.prune.DirectPruning;
import dev.attar.prune.WeightPruner;
import dev.attar.prune.structure.Cut;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import dev.attar.quant.gptq.GptqRun;
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
import java.util.stream.Collectors;

/**
 * Removes single weights of a model for the user, with progress: by magnitude and by Wanda matrix after matrix; by SparseGPT, and where
 * what is left is quantized, in GPTQ's run over the layers.
 *
 * @param model the model
 * @param pruner which weights
 * @param quantize the types that tensors get; empty for those of the model
 * @param calibration the text; {@code null} without one
 * @param tuning how layers are measured; {@code null} where that is not needed
 */
record SparsePruning(
  Console console,
  WriteOptions writing,
  GptqTuning devices,
  Model model,
  WeightPruner pruner,
  Optional<QuantizeOptions> quantize,
  Calibration calibration,
  GptqOptions tuning
) {
  /** Values that are looked at together to count zeros. */
  private static final int COUNTED = 1 << 20;

  /** What was written, and how many tokens were measured for it. */
  private record Written(QuantizationPlan plan, long tokens, Optional<GptqSummary> gptq, List<String> warnings) {}

  /**
   * Checks, before long work, that the weights can be removed, and stay so in their types.
   *
   * @throws IOException if not; the message names a tensor
   */
  void check(ModelOutput out) throws IOException {
    QuantizationPlan plan = QuantizationPlan.quantize(model, types(out));
    GptqRun.requirePrunable(plan, pruner);
    if (!quantizes()) {
      plan.requireNoProblems();
    }
  }

  /** Whether what is left is quantized. */
  private boolean quantizes() {
    return quantize.isPresent() && quantize.get().fileType().defaultType().isQuantized();
  }

  /** Whether the model is quantized already. */
  boolean isEncoded() {
    return model
      .tensors()
      .stream()
      .map(Tensor::info)
      .anyMatch(info -> info.type().isQuantized());
  }

  /** The types of what is written as a GGUF file. A folder keeps those of its source. */
  QuantizeOptions types(ModelOutput out) {
    boolean encoded = isEncoded();
    if (quantize.isPresent()) {
      return quantize.get().withAllowRequantize(encoded);
    }
    FileType own = switch (ModelTypes.of(model, Optional.empty()).own()) {
      case F32 -> FileType.F32;
      case BF16 -> FileType.BF16;
      default -> FileType.F16;
    };
    return QuantizeOptions.of(out.isFolder() ? FileType.COPY : own).withAllowRequantize(encoded);
  }

  /**
   * Removes the weights and writes what is left.
   *
   * @param check looks at the output before it gets its name
   */
  SparseReport run(ModelOutput out, OutputCheck check) throws IOException, InterruptedException {
    if (!out.isFolder()) {
      Written written = write(out.path(), types(out), check);
      return report(written, out.path());
    }
    QuantizationPlan expected = QuantizationPlan.quantize(model, types(out));
    try (TemporaryFolder folder = TemporaryFolder.create(expected.fileBytes())) {
      Path file = folder.path().resolve("pruned.gguf");
      Written written = write(file, types(out), OutputCheck.NONE);
      try (
        GgufModel pruned = GgufModel.open(file);
        PhaseProgress progress = new PhaseProgress(console, writing.quiet())
      ) {
        HuggingFaceWriter.write(
          pruned,
          ModelOutput.checkpoint(model),
          layers(),
          out.path(),
          writing.overwrite(),
          (done, total, _) -> progress.at("writing", done, total, "bytes"),
          check
        );
      }
      return report(written, file);
    }
  }

  private int[] layers() {
    Metadata metadata = model.metadata();
    return Cut.all((int) metadata.integer(metadata.architecture() + ".block_count").orElseThrow());
  }

  private Written write(Path out, QuantizeOptions types, OutputCheck check) throws IOException, InterruptedException {
    Written written = pruner.method().solves() || quantizes()
      ? writeByLayers(out, types, check)
      : writeDirectly(out, types, check);
    if (isEncoded()) {
      written.warnings.add(
        quantize.isPresent()
          ? "the model is quantized already, to quantize it again costs accuracy: better prune the original"
          : "the model is quantized already and is written in F16, which is larger and slower, unless a type is given (-t): " +
            "better prune the original"
      );
    }
    return written;
  }

  private Written writeByLayers(Path out, QuantizeOptions types, OutputCheck check)
    throws IOException, InterruptedException {
    GptqOptions options = tuning.withPruning(pruner);
    GptqTask task = new GptqTask(console, writing.quiet(), "");
    task.setCheck(check);
    Path kept = GptqRun.workFolder(out);
    if (options.resume() && Files.notExists(kept) && !writing.quiet()) {
      console.warn(kept + ": no such folder, so there is nothing to resume: starting anew");
    }
    try {
      GptqResult result = task.run(model, types, Optional.empty(), options, out);
      Optional<GptqSummary> summary = Optional.of(new GptqSummary(result, options));
      return new Written(result.plan(), result.tokens(), summary, new ArrayList<>(task.warnings()));
    } catch (IOException | InterruptedException e) {
      // In a temporary folder nothing is kept.
      if (task.hasBegun() && Files.exists(kept) && check != OutputCheck.NONE) {
        throw new ResumableException(kept, e);
      }
      throw e;
    }
  }

  private Written writeDirectly(Path out, QuantizeOptions types, OutputCheck check)
    throws IOException, InterruptedException {
    QuantizationPlan plan = withSettings(QuantizationPlan.quantize(model, types));
    long bytes = plan
      .tensors()
      .stream()
      .filter(step -> pruner.prunes(step.source()))
      .mapToLong(TensorPlan::bytesAfter)
      .sum();
    try (TemporaryFolder folder = TemporaryFolder.create(bytes)) {
      List<String> warnings = new ArrayList<>();
      long tokens = 0;
      Path importance = null;
      if (pruner.method().needsText()) {
        importance = folder.path().resolve("imatrix.gguf");
        ImportanceRun measuring = new ImportanceRun(console, writing.quiet());
        ImportanceRun.Measured measured = measuring.measure(model, importance, calibration, false);
        warnings.addAll(measured.warnings());
        tokens = measured.tokens();
      }
      Map<String, Path> files = remove(plan, importance, folder.path());
      write(plan, files, out, check);
      return new Written(plan, tokens, Optional.empty(), warnings);
    }
  }

  /** Removes weights; gives the files of the tensors that they were removed of. */
  private Map<String, Path> remove(QuantizationPlan plan, Path importanceFile, Path folder)
    throws IOException, InterruptedException {
    Map<String, TensorType> targets = plan
      .tensors()
      .stream()
      .collect(Collectors.toMap(TensorPlan::name, TensorPlan::target));
    try (
      PhaseProgress progress = new PhaseProgress(console, writing.quiet());
      Devices.Opened opened = Devices.open(devices.device(), writing.computeThreads());
      ImportanceMatrix importance = importanceFile == null ? null : ImportanceMatrix.open(importanceFile)
    ) {
      Device device = opened.device();
      return DirectPruning.run(
        model,
        pruner,
        importance,
        info -> targets.get(info.name()),
        device,
        writing.threads(),
        folder,
        (done, total) -> progress.at("pruning", done, total, "weights")
      );
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    }
  }

  private void write(QuantizationPlan plan, Map<String, Path> files, Path out, OutputCheck check)
    throws IOException, InterruptedException {
    Map<String, MemorySegment> encoded = new HashMap<>();
    List<MappedFile> mapped = new ArrayList<>();
    try (PhaseProgress progress = new PhaseProgress(console, writing.quiet())) {
      for (Map.Entry<String, Path> file : files.entrySet()) {
        MappedFile tensor = MappedFile.open(file.getValue());
        mapped.add(tensor);
        encoded.put(file.getKey(), tensor.bytes());
      }
      QuantizationRun.run(model, plan, encoded, out, writing.overwrite(), writing.threads(), check, (done, total, _) ->
        progress.at("writing", done, total, "values")
      );
    } finally {
      mapped.forEach(MappedFile::close);
    }
  }

  private QuantizationPlan withSettings(QuantizationPlan plan) {
    Map<String, MetadataValue> entries = new LinkedHashMap<>(plan.metadata().values());
    entries.remove("attar.quantize.type");
    entries.put("attar.method", MetadataValue.string("prune"));
    pruner.settings().forEach((name, value) -> entries.put("attar.prune." + name, MetadataValue.string(value)));
    return plan.withMetadata(Metadata.of(entries));
  }

  private SparseReport report(Written written, Path gguf) throws IOException {
    int matrices = 0;
    long weights = 0;
    long zeros = 0;
    try (GgufModel pruned = GgufModel.open(gguf)) {
      for (Tensor tensor : pruned.tensors()) {
        if (pruner.prunes(tensor.info())) {
          matrices++;
          weights += tensor.info().elements();
          zeros += zeros(tensor);
        }
      }
    }
    SparseReport report = new SparseReport(
      model,
      written.plan,
      new SparseReport.Removed(pruner.method(), pruner.amount(), matrices, weights, zeros, written.tokens)
    );
    written.gptq.ifPresent(report::setGptq);
    written.warnings.forEach(report::addWarning);
    return report;
  }

  private static long zeros(Tensor tensor) throws IOException {
    TensorInfo info = tensor.info();
    int rows = (int) Math.clamp(COUNTED / info.rowLength(), 1, info.rows());
    float[] values = new float[Math.toIntExact(rows * info.rowLength())];
    long zeros = 0;
    for (long row = 0; row < info.rows(); row += rows) {
      int count = (int) Math.min(rows, info.rows() - row);
      tensor.decodeRows(row, count, values, 0);
      for (int i = 0; i < count * info.rowLength(); i++) {
        zeros += values[i] == 0 ? 1 : 0;
      }
    }
    return zeros;
  }
}
