package dev.attar.bench;

import dev.attar.bench.latency.LatencyTest;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * What to measure and how.
 *
 * @param text UTF-8 file for perplexity and KL divergence; empty to leave them out
 * @param context tokens per window, at least 4
 * @param windows the most windows to evaluate; empty for all of the text
 * @param latency what to time; empty to leave it out
 * @param repetitions how often each test is timed, after one run that does not count
 * @param threads number of threads that evaluate the text
 * @param gpuLayers layers to put on a GPU, where llama.cpp has one; empty for its default
 * @param tensorErrors whether to compare the tensors with the base's
 * @param importance importance matrix that weighs the tensors' errors
 * @param patience how long a worker may show no sign of life before it is ended
 */
public record Settings(
  Optional<Path> text,
  int context,
  OptionalInt windows,
  List<LatencyTest> latency,
  int repetitions,
  int threads,
  OptionalInt gpuLayers,
  boolean tensorErrors,
  Optional<Path> importance,
  Duration patience
) {
  public Settings {
    latency = List.copyOf(latency);
    if (context < 4 || repetitions < 1 || threads < 1 || windows.orElse(1) < 1) {
      throw new IllegalArgumentException(
        context + " tokens per window, " + repetitions + " repetitions, " + threads + " threads, " + windows
      );
    }
  }
}
