package dev.attar.cli;

import dev.attar.bench.Benchmark;
import dev.attar.bench.ModelResult;
import dev.attar.bench.ProgressListener;
import dev.attar.bench.Settings;
import dev.attar.bench.Subject;
import dev.attar.calibration.Calibrator;
import dev.attar.formats.Model;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * Measures how far models are from a base on the beginning of the calibration text: a few at a time are written into a temporary
 * folder and run beside the base.
 *
 * @param calibration the text, and how models run
 * @param listener hears of progress
 */
record TrialModels(Calibration calibration, ProgressListener listener) {
  /** The mean over so many windows is within some percent of that over a long text. */
  private static final int MOST_WINDOWS = 8;

  private static final int MOST_CONTEXT = 512;
  private static final int LEAST_CONTEXT = 4;

  /** More than any text has. */
  private static final int BYTES_PER_TOKEN = 64;

  /** Models that are there, and run, at the same time. */
  private static final int MOST_AT_A_TIME = 4;

  /**
   * A model to try.
   *
   * @param name what messages call it: {@code with coarse ffn_down}, {@code without layer 3}
   * @param model what it is made of
   * @param plan what it becomes
   */
  record Trial(String name, Model model, QuantizationPlan plan) {}

  /**
   * Runs the trials.
   *
   * @param base a file that llama.cpp can run
   * @return for each trial the mean KL divergence of its predictions from the base's, in nats, at least 0
   * @throws IOException if one cannot be written or run
   */
  double[] divergences(Path base, List<Trial> trials) throws IOException, InterruptedException {
    long largest = 0;
    for (Trial trial : trials) {
      trial.plan.requireNoProblems();
      largest = Math.max(largest, trial.plan.fileBytes());
    }
    int atATime = (int) Math.clamp(TemporaryFolder.room() / Math.max(1, largest), 1, MOST_AT_A_TIME);
    double[] divergences = new double[trials.size()];
    for (int from = 0; from < divergences.length; from += atATime) {
      int to = Math.min(divergences.length, from + atATime);
      try (TemporaryFolder folder = TemporaryFolder.create((to - from) * largest)) {
        List<Subject> subjects = new ArrayList<>();
        for (int i = from; i < to; i++) {
          String task = "writing trial model " + (i + 1) + " of " + trials.size();
          subjects.add(Subject.of(trials.get(i).name, write(trials.get(i), folder.path().resolve(i + ".gguf"), task)));
        }
        String which = "trial models " + (from + 1) + " to " + to + " of " + trials.size();
        List<ModelResult> results = run(Subject.of("base", base), subjects, folder, which);
        for (int i = from; i < to; i++) {
          divergences[i] = divergence(results.get(i - from));
        }
      }
    }
    return divergences;
  }

  private Path write(Trial trial, Path file, String task) throws IOException, InterruptedException {
    QuantizationRun.run(trial.model, trial.plan, file, false, calibration.threads(), (done, total, _) ->
      listener.at(task, done, total, "weights")
    );
    return file;
  }

  private List<ModelResult> run(Subject base, List<Subject> subjects, TemporaryFolder folder, String which)
    throws IOException, InterruptedException {
    int context = Math.clamp(calibration.context(), LEAST_CONTEXT, MOST_CONTEXT);
    int windows = (int) Math.clamp(calibration.tokens() / context, 1, MOST_WINDOWS);
    Path text = folder.path().resolve("text");
    Files.write(text, Calibrator.beginning(calibration.texts(), windows * context * BYTES_PER_TOKEN));
    Settings settings = new Settings(
      Optional.of(text),
      context,
      OptionalInt.of(windows),
      List.of(),
      1,
      calibration.threads(),
      OptionalInt.empty(),
      false,
      Optional.empty(),
      calibration.patience()
    );
    return Benchmark.run(base, subjects, settings, "", (phase, done, total, unit) ->
      listener.at(phase + " " + which, done, total, unit)
    ).variants();
  }

  private static double divergence(ModelResult result) throws IOException {
    String name = "trial model " + result.subject().name();
    if (result.failure().isPresent()) {
      throw new IOException(name + ": " + result.failure().get().message());
    }
    double mean = result.divergence().orElseThrow().mean().value();
    if (!Double.isFinite(mean)) {
      throw new IOException(name + ": a KL divergence of " + mean);
    }
    // That of models that are almost equal may be rounded to less than nothing.
    return Math.max(0, mean);
  }
}
