package dev.attar.bench;

import dev.attar.bench.accuracy.Step;
import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.worker.ModelWorker;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.Tokens;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.OptionalInt;
import java.util.SplittableRandom;

/**
 * Times the evaluation of two models in lockstep against llama.cpp's bare decoding of the same windows, as {@code
 * bench/eval-speed.sh} prints it. The bare loop does what llama-perplexity does, without any statistics: batches of 2048 tokens, the
 * logits of the second half of each window.
 */
public final class EvalSpeed {

  private static final int CONTEXT = 512;
  private static final int BATCH = 2048;

  private EvalSpeed() {}

  /** Arguments: name of the row, base, variant, number of windows, threads, number of pairs. */
  public static void main(String[] args) throws IOException {
    String name = args[0];
    Path base = Path.of(args[1]);
    Path variant = Path.of(args[2]);
    int count = Integer.parseInt(args[3]);
    int threads = Integer.parseInt(args[4]);
    int pairs = Integer.parseInt(args[5]);
    try (Bare bare = new Bare(base, variant, threads); Paired paired = new Paired(base, variant, threads)) {
      int[] tokens = new SplittableRandom(1).ints((long) count * CONTEXT, 0, bare.vocabulary()).toArray();
      Windows windows = new Windows(tokens, CONTEXT, OptionalInt.empty(), bare.vocabulary());
      Windows batches = new Windows(tokens, CONTEXT, OptionalInt.empty(), 1); // as many at a time as llama.cpp takes
      double[] bareSeconds = new double[pairs];
      double[] pairedSeconds = new double[pairs];
      double[] ratios = new double[pairs];
      for (int i = -1; i < pairs; i++) {
        double theirs = bare.seconds(batches);
        double ours = paired.seconds(windows, bare.vocabulary());
        if (i >= 0) {
          // the first pair warms up
          bareSeconds[i] = theirs;
          pairedSeconds[i] = ours;
          ratios[i] = ours / theirs;
        }
      }
      Arrays.sort(ratios);
      System.out.printf(
        Locale.ROOT,
        "%-24s lockstep %7.2f s   bare decode %7.2f s   ratio %.3f (%.3f to %.3f, %d pairs)   goal at most 1.15%n",
        name,
        median(pairedSeconds),
        median(bareSeconds),
        median(ratios),
        ratios[0],
        ratios[pairs - 1],
        pairs
      );
    }
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int n = sorted.length;
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  }

  /** Attar's way: two worker processes, statistics included. */
  private static final class Paired implements AutoCloseable {

    private final Entrant base;
    private final Entrant variant;
    private final int threads;

    Paired(Path base, Path variant, int threads) throws IOException {
      this.base = start(base, true);
      this.variant = start(variant, false);
      this.threads = threads;
    }

    private static Entrant start(Path file, boolean isBase) throws IOException {
      Entrant entrant = new Entrant(Subject.of(file.toString(), file), isBase);
      entrant.worker = ModelWorker.start(Duration.ofMinutes(10));
      entrant.worker.load(file.toAbsolutePath(), List.of(), OptionalInt.empty());
      return entrant;
    }

    double seconds(Windows windows, int vocabulary) throws IOException {
      long start = System.nanoTime();
      new Lockstep(windows, base, List.of(variant)).evaluate(vocabulary, threads, _ -> {});
      double seconds = (System.nanoTime() - start) / 1e9;
      if (variant.divergence.isEmpty()) {
        throw new IOException("the variant failed: " + variant.result().failure());
      }
      return seconds;
    }

    @Override
    public void close() {
      base.close();
      variant.close();
    }
  }

  /** llama.cpp's way, in this process, one model after the other. */
  private static final class Bare implements AutoCloseable {

    private final LlamaModel base;
    private final LlamaModel variant;
    private final int threads;

    Bare(Path base, Path variant, int threads) throws IOException {
      this.base = LlamaModel.open(base, LlamaModel.Options.defaults());
      this.variant = LlamaModel.open(variant, LlamaModel.Options.defaults());
      this.threads = threads;
    }

    int vocabulary() {
      return base.tokens().size();
    }

    double seconds(Windows windows) throws IOException {
      long start = System.nanoTime();
      decode(base, windows);
      decode(variant, windows);
      return (System.nanoTime() - start) / 1e9;
    }

    private void decode(LlamaModel model, Windows windows) throws IOException {
      Tokens tokens = model.tokens();
      boolean addsBos = tokens.addsBos() && tokens.bos().isPresent();
      LlamaContext.Options options = new LlamaContext.Options(BATCH, BATCH, 512, BATCH / CONTEXT, threads);
      try (LlamaContext context = model.context(options); Batch batch = new Batch(BATCH)) {
        for (int number = 0; number < windows.steps(); number++) {
          Step step = windows.step(number);
          context.clear();
          batch.clear();
          for (int i = 0; i < step.tokens().length; i++) {
            int position = step.positions()[i];
            int token = position == 0 && addsBos ? tokens.bos().getAsInt() : step.tokens()[i];
            batch.add(token, position, step.sequences()[i], position >= CONTEXT / 2);
          }
          context.decode(batch);
          context.logits();
        }
      }
    }

    @Override
    public void close() {
      base.close();
      variant.close();
    }
  }
}
