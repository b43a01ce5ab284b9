package dev.attar.prune.structure;

import dev.attar.compute.DeviceChoice;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/**
 * What is removed of a model, and how.
 *
 * @param structure what is removed
 * @param step how much
 * @param nonUniform whether layers may come to differ: the same number of all layers together goes from where it harms least
 * @param multiple what widths of feed-forward networks stay multiples of
 * @param refit whether the weights that meet what is left are fitted anew
 * @param damping what is added to the diagonal of a Gram matrix, as a part of its mean; above 0
 * @param texts calibration texts, at least one
 * @param tokens how many of their tokens to use
 * @param context tokens in a window
 * @param threads how many compute
 * @param device what does the algebra
 * @param maxMemory how many bytes parent and worker may use together, beyond mapped files
 * @param patience how long the worker may show no sign of life
 */
public record StructureOptions(
  Structure structure,
  Ladder.Step step,
  boolean nonUniform,
  int multiple,
  boolean refit,
  double damping,
  List<Path> texts,
  long tokens,
  int context,
  int threads,
  DeviceChoice device,
  long maxMemory,
  Duration patience
) {
  /** What widths are multiples of unless said otherwise: rows of {@code ffn_down} are whole super-blocks of k-quants then. */
  public static final int DEFAULT_MULTIPLE = 256;

  public StructureOptions {
    texts = List.copyOf(texts);
    if (!(damping > 0 && damping <= 1)) {
      throw new IllegalArgumentException("damping " + damping + ", expected above 0 and at most 1");
    }
  }
}
