package dev.attar.bench;

import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.tensors.TensorError;
import dev.attar.bench.worker.ModelWorker;
import dev.attar.llama.NativeFailure;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/** A model while it is measured: its process, and the results so far. */
final class Entrant implements AutoCloseable {

  /** Something that is measured. */
  @FunctionalInterface
  interface Measurement {
    void run() throws IOException;
  }

  private final Subject subject;
  private final boolean isBase;

  /** There while the model runs. */
  ModelWorker worker;
  Optional<ModelFacts> facts = Optional.empty();
  OptionalDouble loadSeconds = OptionalDouble.empty();
  OptionalLong peakRssBytes = OptionalLong.empty();
  Optional<Perplexity> perplexity = Optional.empty();
  Optional<Divergence> divergence = Optional.empty();
  List<LatencyResult> latency = List.of();
  List<TensorError> tensorErrors = List.of();

  private Optional<Failure> failure;

  Entrant(Subject subject, boolean isBase) {
    this.subject = subject;
    this.isBase = isBase;
    failure = subject.problem().map(problem -> new Failure("opening", problem, List.of()));
  }

  Subject subject() {
    return subject;
  }

  boolean isBase() {
    return isBase;
  }

  boolean hasFailed() {
    return failure.isPresent();
  }

  /**
   * Runs a measurement. If it fails, so has the model, and its process is ended.
   *
   * @throws IOException if the model is the base, without which there is nothing to compare, or if the thread was interrupted
   */
  void attempt(String phase, Measurement measurement) throws IOException {
    if (hasFailed()) {
      return;
    }
    try {
      measurement.run();
    } catch (InterruptedIOException | ClosedByInterruptException e) {
      throw e;
    } catch (IOException e) {
      close();
      if (isBase) {
        throw named(e);
      }
      List<String> log = e instanceof NativeFailure ended ? ended.log() : List.of();
      failure = Optional.of(new Failure(phase, e.getMessage(), log));
    }
  }

  /** llama.cpp's last words do not always say which model they are about. */
  private IOException named(IOException e) {
    String file = subject.file().toString();
    return String.valueOf(e.getMessage()).contains(file) ? e : new IOException(file + ": " + e.getMessage(), e);
  }

  @Override
  public void close() {
    if (worker != null) {
      worker.close();
      worker = null;
    }
  }

  ModelResult result() {
    return new ModelResult(
      subject,
      facts,
      loadSeconds,
      peakRssBytes,
      perplexity,
      divergence,
      latency,
      tensorErrors,
      failure
    );
  }
}
