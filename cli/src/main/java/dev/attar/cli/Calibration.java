package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import dev.attar.compute.DeviceChoice;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;

/**
 * How to measure what enters a model's layers.
 *
 * @param texts what the model reads, at least one
 * @param tokens how many of their tokens to use
 * @param context tokens in a window
 * @param threads how many compute
 * @param patience how long the model may show no sign of life
 */
record Calibration(List<Path> texts, long tokens, int context, int threads, Duration patience) {
  Calibration {
    texts = List.copyOf(texts);
  }

  /** Checks, before long work, that the texts can be read. */
  void check() throws IOException {
    for (Path text : texts) {
      Calibrator.checkText(text);
    }
  }

  /** The same for the calibrator, which leaves the weights as they are and measures importance alone: no matrices. */
  Calibrator.Settings settings(boolean output) {
    return new Calibrator.Settings(texts, tokens, context, threads, DeviceChoice.CPU, output, false, patience);
  }

  /** What results call it: the first text. */
  String name() {
    return texts.getFirst().getFileName().toString();
  }
}
