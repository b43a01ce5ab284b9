package dev.attar.bench;

import dev.attar.bench.accuracy.DivergenceStatistics;
import dev.attar.bench.accuracy.PerplexityStatistics;
import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.worker.LogitBuffer;
import dev.attar.llama.SharedFile;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongConsumer;

/**
 * Evaluates a text with a base and its variants, step by step: the base decodes a step, then each variant does, while the scores of
 * those that are done are computed in the background. So the base's logits of two steps are all that is kept.
 */
final class Lockstep {

  private final Windows windows;
  private final Entrant base;
  private final List<Entrant> variants;
  private final Map<Entrant, PerplexityStatistics> perplexities = new HashMap<>();
  private final Map<Entrant, DivergenceStatistics> divergences = new HashMap<>();

  Lockstep(Windows windows, Entrant base, List<Entrant> variants) {
    this.windows = windows;
    this.base = base;
    this.variants = List.copyOf(variants);
    perplexities.put(base, new PerplexityStatistics());
    for (Entrant variant : variants) {
      perplexities.put(variant, new PerplexityStatistics());
      divergences.put(variant, new DivergenceStatistics());
    }
  }

  /**
   * Evaluates the text and keeps the results.
   *
   * @param vocabulary number of tokens that the models know
   * @param threads number of threads that decode
   * @param done hears the number of windows done
   */
  void evaluate(int vocabulary, int threads, LongConsumer done) throws IOException {
    int context = windows.context();
    Optional<Path> shared = variants.isEmpty()
      ? Optional.empty()
      : Optional.of(LogitBuffer.create(Windows.rowsPerStep(context, vocabulary), vocabulary));
    try {
      for (Entrant model : models()) {
        model.attempt("evaluating", () -> model.worker.openEvaluation(context, threads, shared, model.isBase()));
      }
      if (shared.isPresent()) {
        SharedFile.discard(shared.get());
      }
      for (int step = 0; step < windows.steps(); step++) {
        int number = step;
        // Before its slot is used again, everybody must be done with what was there.
        collect(step - LogitBuffer.SLOTS);
        for (Entrant model : models()) {
          model.attempt("evaluating", () -> model.worker.evaluate(number % LogitBuffer.SLOTS, windows.step(number)));
        }
        done.accept(windows.windowsAfter(step + 1));
      }
      for (int step = Math.max(0, windows.steps() - LogitBuffer.SLOTS); step < windows.steps(); step++) {
        collect(step);
      }
    } finally {
      if (shared.isPresent()) {
        Files.deleteIfExists(shared.get());
      }
    }
    for (Entrant model : models()) {
      if (!model.hasFailed()) {
        model.perplexity = Optional.of(perplexities.get(model).result(windows.count(), context));
      }
    }
    for (Entrant variant : variants) {
      if (!variant.hasFailed()) {
        variant.divergence = Optional.of(divergences.get(variant).result());
      }
    }
  }

  private List<Entrant> models() {
    List<Entrant> models = new ArrayList<>();
    models.add(base);
    models.addAll(variants);
    return models;
  }

  /** Takes the scores of a step; none before the first. */
  private void collect(int step) throws IOException {
    if (step < 0) {
      return;
    }
    base.attempt("evaluating", () -> {
      TokenScores scores = base.worker.scores();
      check(base, step, scores.firstInvalid());
      perplexities.get(base).add(scores);
    });
    for (Entrant variant : variants) {
      variant.attempt("evaluating", () -> {
        TokenComparison scores = variant.worker.comparison();
        check(variant, step, scores.firstInvalid());
        perplexities.get(variant).add(scores);
        divergences.get(variant).add(scores);
      });
    }
  }

  private void check(Entrant model, int step, int firstInvalid) throws IOException {
    if (firstInvalid >= 0) {
      throw new IOException(
        model.subject().file() +
          ": its logits are not finite numbers, first in window " +
          (windows.windowsAfter(step) + 1) +
          " of the text"
      );
    }
  }
}
