package dev.attar.bench;

import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyStatistics;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.worker.ModelWorker;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.SequencedSet;

/**
 * Times models in turn, A B C A B C, so that a machine whose speed drifts is the same to all. The first round of each test does not
 * count.
 */
final class LatencyRounds {

  /** One way to run a model; a prompt's run serves two tests. */
  private record Run(boolean generation, int tokens, int threads) {
    static Run of(LatencyTest test) {
      return new Run(test.kind() == LatencyTest.Kind.GENERATION, test.tokens(), test.threads());
    }
  }

  private final List<LatencyTest> tests;
  private final int repetitions;
  private final SequencedSet<Run> runs = new LinkedHashSet<>();

  LatencyRounds(Settings settings) {
    tests = settings.latency();
    repetitions = settings.repetitions();
    for (LatencyTest test : tests) {
      runs.add(Run.of(test));
    }
  }

  /** Number of timings for so many models. */
  long size(int models) {
    return (long) runs.size() * (repetitions + 1) * models;
  }

  /**
   * Times the models, the base first, and keeps their results.
   *
   * @param done is run after each timing
   */
  void measure(List<Entrant> models, Runnable done) throws IOException {
    int longest = runs.stream().mapToInt(Run::tokens).max().orElse(1);
    for (Entrant model : models) {
      model.attempt("timing", () -> model.worker.openTiming(longest, runs.getFirst().threads));
    }
    Map<Entrant, Map<Run, List<ModelWorker.Timing>>> timings = new HashMap<>();
    for (Run run : runs) {
      for (int repetition = -1; repetition < repetitions; repetition++) {
        boolean counts = repetition >= 0;
        long seed = repetition;
        for (Entrant model : models) {
          model.attempt("timing", () -> {
            ModelWorker.Timing timing = model.worker.time(run.generation, run.tokens, run.threads, seed);
            if (counts) {
              timings
                .computeIfAbsent(model, _ -> new HashMap<>())
                .computeIfAbsent(run, _ -> new ArrayList<>())
                .add(timing);
            }
          });
          done.run();
        }
      }
    }
    Entrant base = models.getFirst();
    for (Entrant model : models) {
      if (!model.hasFailed()) {
        model.latency = results(timings.get(model), model == base ? Optional.empty() : Optional.of(timings.get(base)));
      }
    }
  }

  private List<LatencyResult> results(
    Map<Run, List<ModelWorker.Timing>> model,
    Optional<Map<Run, List<ModelWorker.Timing>>> base
  ) {
    return tests
      .stream()
      .map(test ->
        LatencyStatistics.result(
          test,
          samples(test, model.get(Run.of(test))),
          base.map(timings -> samples(test, timings.get(Run.of(test))))
        )
      )
      .toList();
  }

  private static double[] samples(LatencyTest test, List<ModelWorker.Timing> timings) {
    return timings
      .stream()
      .mapToDouble(timing ->
        switch (test.kind()) {
          case PROMPT, GENERATION -> test.tokens() / timing.seconds();
          case FIRST_TOKEN -> timing.firstTokenSeconds();
        }
      )
      .toArray();
  }
}
