package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.lowrank.FactorOptions;
import dev.attar.lowrank.FactorRun;
import dev.attar.lowrank.Factorization;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * What is to be made of a model.
 *
 * @param console where to show how it goes
 * @param writing how to write
 * @param tuning how layers are measured
 * @param model the model
 * @param wishes the form and how much is kept
 * @param typing which tensor gets which type
 * @param quantize the types of the result, of an adapter's base; empty for those of the model
 * @param calibration the text; {@code null} without one
 */
record LowRankJob(
  Console console,
  WriteOptions writing,
  GptqTuning tuning,
  Model model,
  LowRankOptions wishes,
  TypeOptions typing,
  Optional<QuantizeOptions> quantize,
  Calibration calibration
) {
  private static final String KEYS = "attar.lowrank.";

  /** How many threads compute. */
  int threads() {
    return writing.computeThreads();
  }

  /** How long a model may show no sign of life. */
  Duration patience() {
    return calibration == null ? Duration.ofSeconds(MeasureOptions.DEFAULT_TIMEOUT) : calibration.patience();
  }

  /** The texts that are read; none without a calibration. */
  List<Path> texts() {
    return calibration == null ? List.of() : calibration.texts();
  }

  /** The bytes that {@link #runnable} writes. */
  long convertedBytes() {
    return RunnableModel.needsConversion(model) ? ModelTypes.of(model, Optional.empty()).plan(model).fileBytes() : 0;
  }

  /** The model as a file that llama.cpp can run, in this folder if it is none yet. */
  Path runnable(Path folder, LowRankTask task) throws IOException, InterruptedException {
    return RunnableModel.of(model, folder.resolve("model.gguf"), threads(), (done, total, _) ->
      task.at("converting", done, total, "values")
    );
  }

  /**
   * Factorizes the model, or the error of a base.
   *
   * @param runnable the model as a file that llama.cpp can run
   * @param folder where to make a folder for the factors
   * @param meter measures what errors do to predictions, for ranks that share a size; empty if they count alike
   */
  Factorization factorize(
    Optional<Model> base,
    Path runnable,
    Path folder,
    Optional<DivergenceMeter> meter,
    LowRankTask task
  ) throws IOException, InterruptedException {
    FactorOptions options = new FactorOptions(
      wishes.metric(),
      wishes.ranks(),
      wishes.rounds(),
      tuning.damping(),
      texts(),
      calibration == null ? Calibrator.DEFAULT_TOKENS : calibration.tokens(),
      calibration == null ? Calibrator.DEFAULT_CONTEXT : calibration.context(),
      threads(),
      tuning.device(),
      tuning.maxMemory(),
      patience()
    );
    Path factors = Files.createDirectory(folder.resolve("factors"));
    return FactorRun.run(model, base, runnable, options, factors, meter, task);
  }

  /**
   * What a file says of how it was made.
   *
   * @param measured whether the text was looked at
   * @param tokens how many of its tokens; 0 if that is not known
   */
  Map<String, MetadataValue> marks(boolean measured, long tokens) {
    Map<String, MetadataValue> marks = new LinkedHashMap<>();
    marks.put("attar.method", MetadataValue.string("lowrank"));
    marks.put(KEYS + "form", MetadataValue.string(word(wishes.form())));
    if (wishes.form() != LowRankForm.SHRINK) {
      marks.put(KEYS + "metric", MetadataValue.string(wishes.metric().word()));
    }
    wishes
      .asked()
      .forEach((key, value) -> {
        MetadataValue number = key.equals("rank")
          ? MetadataValue.uint32(value.intValue())
          : MetadataValue.float32(value.floatValue());
        // Of heads, their pairs say it; under this name is the size that they had.
        if (!key.equals("head_size")) {
          marks.put(KEYS + key, number);
        }
      });
    if (wishes.form() == LowRankForm.ADAPTER) {
      marks.put(KEYS + "base_type", MetadataValue.string(quantize.orElseThrow().fileType().name()));
      marks.put(KEYS + "base_method", MetadataValue.string(word(wishes.baseMethod())));
      marks.put(KEYS + "rounds", MetadataValue.uint32(wishes.rounds()));
    }
    if (measured) {
      marks.put(KEYS + "damping", MetadataValue.float32((float) tuning.damping()));
      marks.put(KEYS + "calibration", MetadataValue.string(calibration.name()));
      if (tokens > 0) {
        marks.put(KEYS + "tokens", MetadataValue.uint64(tokens));
      }
      marks.put(KEYS + "context", MetadataValue.uint32(calibration.context()));
    }
    return marks;
  }

  /** As the user types it. */
  static String word(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }
}
