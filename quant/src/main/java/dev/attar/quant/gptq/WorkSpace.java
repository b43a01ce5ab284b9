package dev.attar.quant.gptq;

import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.TensorPlan;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * How much the disk must hold, as far as shapes tell before the model has been run: never more than it comes to, so that no run is
 * refused that would succeed.
 */
final class WorkSpace {

  /** What lies outside the layers may be looked up only. */
  private static final Pattern LAYER = Pattern.compile("(blk\\.\\d+)\\..*|output\\.weight");

  private WorkSpace() {}

  /** Bytes that a work folder still needs for the model as a file that llama.cpp can run. */
  static long forModel(Model model, Path converted) {
    boolean needed = RunnableModel.needsConversion(model) && !Files.exists(converted);
    return needed ? QuantizationPlan.convert(model, OutputType.AUTO.resolve(model)).fileBytes() : 0;
  }

  /** Bytes of the tensors that are worked on and that are not in a work folder yet. */
  static long forTensors(QuantizationPlan plan, Predicate<TensorPlan> isWorkedOn, WorkFolder work) {
    return missing(plan, isWorkedOn, work).stream().mapToLong(TensorPlan::bytesAfter).sum();
  }

  /** The tensors that are worked on and that are not in a work folder yet. */
  static List<TensorPlan> missing(QuantizationPlan plan, Predicate<TensorPlan> isWorkedOn, WorkFolder work) {
    return plan
      .tensors()
      .stream()
      .filter(step -> isWorkedOn.test(step) && experts(step.source()) > 0)
      .filter(step -> !Files.exists(work.tensorFile(step.name())))
      .toList();
  }

  /**
   * Bytes of the Gram matrices of some weights. Which of them share an input is not known yet; those of a layer that have the same
   * length do not share it with those of others, so one matrix for each length of a layer is the least.
   *
   * @param most whether they are there one after the other, with a drift, so that the largest counts
   */
  static long forGrams(List<TensorInfo> weights, boolean most) {
    Map<String, Long> grams = new HashMap<>();
    for (TensorInfo weight : weights) {
      long experts = experts(weight);
      if (experts > 0) {
        long columns = weight.rowLength();
        long matrices = experts == 1 ? 1 : experts + 1;
        long bytes = matrices * ((columns * (columns + 1)) / 2) * Float.BYTES;
        long drift = most && experts == 1 ? weight.elements() * Float.BYTES : 0;
        grams.merge(layer(weight) + " " + columns, bytes + drift, Math::max);
      }
    }
    Stream<Long> all = grams.values().stream();
    return most ? all.reduce(0L, Math::max) : all.reduce(0L, Long::sum);
  }

  private static String layer(TensorInfo weight) {
    Matcher matcher = LAYER.matcher(weight.name());
    return matcher.matches() && matcher.group(1) != null ? matcher.group(1) : weight.name();
  }

  /** How many experts a weight is of; 0 if text may not pass through it at all, or not as through a matrix. */
  private static long experts(TensorInfo weight) {
    String name = weight.name();
    if (weight.rank() < 2 || !LAYER.matcher(name).matches() || name.contains(".nextn.")) {
      return 0;
    }
    long experts = weight.rows() / weight.dimension(1);
    return experts > 1 && !name.contains("_exps.") ? 0 : experts;
  }

  /** Bytes in the files of a folder, which need not exist. */
  static long held(Path folder) throws IOException {
    long bytes = 0;
    if (Files.isDirectory(folder)) {
      try (Stream<Path> files = Files.list(folder)) {
        for (Path file : files.toList()) {
          bytes += Files.size(file);
        }
      }
    }
    return bytes;
  }
}
