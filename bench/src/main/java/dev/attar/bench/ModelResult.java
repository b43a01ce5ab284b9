package dev.attar.bench;

import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.tensors.TensorError;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/**
 * What was measured of one model. What was not asked for, or could not be measured, is empty.
 *
 * @param subject the model
 * @param facts what its file says; empty if the file could not be read
 * @param loadSeconds time that llama.cpp took to load it, on whatever part of the file was in memory already
 * @param peakRssBytes highest resident memory of the process that ran it, which includes about 100 MB of the JVM and mapped parts of
 *     the model's file
 * @param perplexity on the text
 * @param divergence from the base; empty for the base
 * @param latency in the order of the tests
 * @param tensorErrors in the order of the base's tensors; empty for the base
 * @param failure why it could not be measured to the end
 */
public record ModelResult(
  Subject subject,
  Optional<ModelFacts> facts,
  OptionalDouble loadSeconds,
  OptionalLong peakRssBytes,
  Optional<Perplexity> perplexity,
  Optional<Divergence> divergence,
  List<LatencyResult> latency,
  List<TensorError> tensorErrors,
  Optional<Failure> failure
) {
  public ModelResult {
    latency = List.copyOf(latency);
    tensorErrors = List.copyOf(tensorErrors);
  }
}
