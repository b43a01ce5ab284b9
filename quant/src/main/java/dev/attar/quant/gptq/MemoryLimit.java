package dev.attar.quant.gptq;

import dev.attar.calibration.GramPlan;
import dev.attar.calibration.linear.BandReader;
import dev.attar.compute.Device;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.TensorRole;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;

/**
 * How much memory a run may use, and what it needs at least.
 *
 * @param most bytes that parent and worker may use together, beyond mapped files
 * @param forMatrices bytes of these that are left for matrices
 * @param sequential whether statistics are sequential
 * @param context tokens in a window
 * @param tile rows and columns of the tiles that Gram matrices are collected in
 * @param device the device whose own memory is the limit for matrices; empty if it is not
 */
record MemoryLimit(long most, long forMatrices, boolean sequential, int context, int tile, Optional<String> device) {
  /** What parent and worker need besides weights and matrices: two JVMs, llama.cpp's buffers, bands of rows. */
  static final long BASE = 900L << 20;

  static MemoryLimit of(Model model, GptqOptions options, boolean sequential) {
    // Weights that are replaced are no longer the file's.
    long weights = model
      .tensors()
      .stream()
      .mapToLong(tensor -> tensor.info().bytes())
      .sum();
    long left = options.maxMemory() - BASE - (sequential ? weights : 0);
    return new MemoryLimit(options.maxMemory(), left, sequential, options.context(), GramPlan.TILE, Optional.empty());
  }

  /**
   * The same for matrices that are in a device's memory too: they must fit there as well. An eighth of what is free there is left for
   * what the device's libraries take.
   */
  MemoryLimit within(Device computes) {
    long free = computes.freeMemory();
    long room = free - free / 8;
    int theirs = GramPlan.tile(computes);
    return room >= forMatrices
      ? new MemoryLimit(most, forMatrices, sequential, context, theirs, device)
      : new MemoryLimit(most, room, sequential, context, theirs, Optional.of(computes.name()));
  }

  /** What measuring a weight's drift takes. */
  long driftBytes(TensorInfo weight) {
    int columns = Math.toIntExact(weight.rowLength());
    return GramPlan.driftBytes(Math.toIntExact(weight.rows()), columns, context);
  }

  /**
   * Checks, before time is spent, that there is memory for what the shapes of the tensors ask for.
   *
   * @param expected the plan, or one that works on no fewer tensors
   * @param isWorkedOn whether a tensor is worked on with a Gram matrix
   */
  void requireFor(QuantizationPlan expected, Predicate<TensorPlan> isWorkedOn) throws QuantizationException {
    int widest = 0;
    Map<String, Long> drifts = new HashMap<>();
    for (TensorPlan step : expected.tensors()) {
      TensorInfo info = step.source();
      if (isWorkedOn.test(step)) {
        widest = Math.max(widest, Math.toIntExact(info.rowLength()));
        if (info.rows() == info.dimension(1)) {
          drifts.merge(likelyInput(info.name()), driftBytes(info), Long::sum);
        }
      }
    }
    if (widest > 0) {
      requireForGptq(widest, drifts.values().stream().mapToLong(Long::longValue).max().orElse(0));
    }
  }

  /** A name for what enters a weight: the same for those that meet one input in all usual architectures. */
  private static String likelyInput(String weight) {
    return weight.replaceFirst("attn_[qkv]\\.", "attn_qkv.").replaceFirst("ffn_gate\\.", "ffn_up.");
  }

  /**
   * Checks that there is memory for GPTQ.
   *
   * @param widest columns of the widest matrix
   * @param drifts what measuring the drifts of an input takes at most
   */
  void requireForGptq(int widest, long drifts) throws QuantizationException {
    // Gram matrix and factor; if it is sequential, the matrix's root too, which is in double precision while it is computed.
    long factoring = (sequential ? 20L : 8L) * widest * widest;
    long matrices = Math.max(factoring, GramPlan.leastBytes(widest, tile));
    long bands = BandReader.BYTES_PER_VALUE * Math.max(BandReader.SMALLEST_BAND, (long) BandReader.ROWS * widest);
    require(
      "GPTQ of rows of " + widest,
      Math.max(matrices + (sequential ? drifts : 0), factoring + (device.isPresent() ? bands : 0))
    );
  }

  /**
   * Checks that there is memory for what the choice of types measures.
   *
   * @param tensors those that a type is chosen for
   */
  void requireForChoosing(List<TensorInfo> tensors) throws QuantizationException {
    long widest = tensors
      .stream()
      .filter(info -> info.rank() > 1 && TensorRole.of(info.name()) != TensorRole.TOKEN_EMBEDDING)
      .mapToLong(TensorInfo::rowLength)
      .max()
      .orElse(0);
    requireForChoosing(Math.toIntExact(widest));
  }

  /** Checks it for matrices of so many columns: one is collected at least, and later there in full. */
  void requireForChoosing(int columns) throws QuantizationException {
    long full = (long) Float.BYTES * columns * columns;
    require("choosing types for rows of " + columns, Math.max(GramPlan.leastBytes(columns, tile), full));
  }

  private void require(String what, long bytes) throws QuantizationException {
    if (forMatrices >= bytes) {
      return;
    }
    if (device.isPresent()) {
      throw new QuantizationException(
        what +
          " needs " +
          Math.ceilDiv(bytes, 1L << 20) +
          " MiB of memory, " +
          device.get() +
          " has " +
          (forMatrices >> 20) +
          " MiB free for that: use --device cpu"
      );
    } else {
      throw new QuantizationException(
        what +
          " needs " +
          Math.ceilDiv(most - forMatrices + bytes, 1L << 20) +
          " MiB of memory, --max-memory allows " +
          (most >> 20) +
          " MiB"
      );
    }
  }
}
