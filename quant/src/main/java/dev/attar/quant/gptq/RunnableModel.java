package dev.attar.quant.gptq;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** A model as a file that llama.cpp can run. */
public final class RunnableModel {

  private RunnableModel() {}

  /** Whether a model has to be converted for llama.cpp. */
  public static boolean needsConversion(Model model) {
    return !(model instanceof GgufModel);
  }

  /**
   * The file of a GGUF model; any other one is converted, its weights as they are.
   *
   * @param converted where to; a file that is there is taken for the result of an earlier call, unless it is damaged
   * @param threads how many convert
   * @return the file that llama.cpp can load
   */
  public static Path of(Model model, Path converted, int threads, QuantizationRun.Progress progress)
    throws IOException, InterruptedException {
    if (!needsConversion(model)) {
      return model.source();
    }
    if (!isThere(converted)) {
      QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.AUTO.resolve(model));
      QuantizationRun.run(model, plan, converted, true, threads, progress);
    }
    return converted;
  }

  private static boolean isThere(Path converted) throws IOException {
    if (!Files.exists(converted)) {
      return false;
    }
    try (GgufModel _ = GgufModel.open(converted)) {
      return true;
    } catch (FormatException _) {
      return false;
    }
  }
}
