package dev.attar.quant.gptq;

import dev.attar.calibration.linear.Pruning;
import dev.attar.compute.DeviceChoice;
import dev.attar.quant.TensorPlan;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;

/**
 * How GPTQ works.
 *
 * @param texts calibration texts, at least one
 * @param tokens how many of their tokens to use
 * @param context tokens in a window
 * @param roundOnly whether tensors are only rounded, with the importance that was measured, instead of by GPTQ
 * @param effort how much work to spend on each matrix
 * @param damping what is added to the diagonal of a Gram matrix, as a part of its mean; above 0
 * @param sequential whether each layer's statistics are measured with the layers before it already quantized; empty to do so if the
 *     model is small enough: see {@link GptqRun#SEQUENTIAL_WORK}
 * @param maxMemory how many bytes parent and worker may use together, beyond mapped files
 * @param threads how many compute
 * @param device what does the algebra. The result is the same but for the order of its sums, so an interrupted run may be resumed on
 *     another
 * @param resume whether to go on with what an interrupted run has left
 * @param overwrite whether to replace an output and what an interrupted run has left
 * @param patience how long the worker may show no sign of life
 * @param pruning what removes weights before what is left is quantized, in the same walk; tensors that are not to be quantized are only
 *     pruned then
 */
public record GptqOptions(
  List<Path> texts,
  long tokens,
  int context,
  boolean roundOnly,
  Effort effort,
  double damping,
  Optional<Boolean> sequential,
  long maxMemory,
  int threads,
  DeviceChoice device,
  boolean resume,
  boolean overwrite,
  Duration patience,
  Optional<Pruning> pruning
) {
  /** The damping that GPTQ's authors use. */
  public static final double DEFAULT_DAMPING = 0.01;

  public GptqOptions {
    texts = List.copyOf(texts);
    if (!(damping > 0 && damping <= 1)) {
      throw new IllegalArgumentException("damping " + damping + ", expected above 0 and at most 1");
    }
  }

  /** Without pruning. */
  public GptqOptions(
    List<Path> texts,
    long tokens,
    int context,
    boolean roundOnly,
    Effort effort,
    double damping,
    Optional<Boolean> sequential,
    long maxMemory,
    int threads,
    DeviceChoice device,
    boolean resume,
    boolean overwrite,
    Duration patience
  ) {
    this(
      texts,
      tokens,
      context,
      roundOnly,
      effort,
      damping,
      sequential,
      maxMemory,
      threads,
      device,
      resume,
      overwrite,
      patience,
      Optional.empty()
    );
  }

  /** The same with pruning. */
  public GptqOptions withPruning(Pruning with) {
    return new GptqOptions(
      texts,
      tokens,
      context,
      roundOnly,
      effort,
      damping,
      sequential,
      maxMemory,
      threads,
      device,
      resume,
      overwrite,
      patience,
      Optional.of(with)
    );
  }

  /** Whether a tensor is one that is worked on with the statistics of its layer, if the text passes through it. */
  boolean isWorkedOn(TensorPlan step) {
    return GptqRun.quantizes(step) || prunes(step);
  }

  /** Whether weights of a tensor are removed. */
  boolean prunes(TensorPlan step) {
    return pruning.isPresent() && pruning.get().prunes(step.source());
  }
}
