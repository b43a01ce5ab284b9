package dev.attar.lowrank.heads;

import dev.attar.compute.DeviceChoice;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/**
 * How heads are made smaller.
 *
 * @param size the new size of a head, in values: even, at least 2, below the old one
 * @param damping what is added to the diagonal of a Gram matrix, as a part of its mean; above 0 and at most 1
 * @param texts calibration texts, at least one
 * @param tokens how many of their tokens to use
 * @param context tokens in a window
 * @param threads how many compute
 * @param device what does the algebra
 * @param maxMemory how many bytes parent and worker may use together, beyond mapped files
 * @param patience how long the worker may show no sign of life
 */
public record HeadOptions(
  int size,
  double damping,
  List<Path> texts,
  long tokens,
  int context,
  int threads,
  DeviceChoice device,
  long maxMemory,
  Duration patience
) {
  public HeadOptions {
    texts = List.copyOf(texts);
    if (!(damping > 0 && damping <= 1)) {
      throw new IllegalArgumentException("damping " + damping + ", expected above 0 and at most 1");
    }
    if (texts.isEmpty()) {
      throw new IllegalArgumentException("no texts");
    }
  }
}
