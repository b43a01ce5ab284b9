package dev.attar.bench.worker;

import dev.attar.bench.accuracy.Step;
import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.llama.WorkerProcess;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Queue;

/**
 * A model in a process of its own. Every method throws an {@link IOException} if the model cannot do what is asked, and a {@link
 * dev.attar.llama.NativeFailure} with llama.cpp's last words if its process ended; the worker is of no use then. For one thread.
 */
public final class ModelWorker implements AutoCloseable {

  // Decoding needs little of Java's memory; a long text and its tokens some.
  private static final List<String> JVM = List.of("-Xms32m", "-Xmx2g", "--add-modules", "jdk.incubator.vector");

  /**
   * A model that is there.
   *
   * @param seconds how long llama.cpp took to load it
   * @param vocabulary number of tokens it knows
   * @param llama version of llama.cpp
   * @param devices what llama.cpp computes on
   */
  public record Loaded(double seconds, int vocabulary, String llama, List<String> devices) {}

  /**
   * A text as a model sees it.
   *
   * @param tokens its tokens, the first of them if not all were wanted
   * @param vocabulary number of tokens that the model knows
   */
  public record Tokenized(int[] tokens, int vocabulary) {}

  /**
   * Time of a run.
   *
   * @param seconds until the last token was computed
   * @param firstTokenSeconds until the likeliest token after them was known
   */
  public record Timing(double seconds, double firstTokenSeconds) {}

  private final WorkerProcess process;
  private final Queue<Reply> scores = new ArrayDeque<>();

  private ModelWorker(WorkerProcess process) {
    this.process = process;
  }

  /**
   * Starts a process.
   *
   * @param patience how long it may show no sign of life
   */
  public static ModelWorker start(Duration patience) throws IOException {
    return new ModelWorker(
      WorkerProcess.start(ModelWorkerMain.class, List.of(), new WorkerProcess.Options(JVM, patience))
    );
  }

  /**
   * Loads the model; comes first.
   *
   * @param file a GGUF
   * @param adapters LoRA adapters, applied with scale 1
   * @param gpuLayers layers to put on a GPU; empty for llama.cpp's default
   */
  public Loaded load(Path file, List<Path> adapters, OptionalInt gpuLayers) throws IOException {
    Reply.Loaded loaded = ask(new Request.Load(file, adapters, gpuLayers, false), Reply.Loaded.class);
    return new Loaded(loaded.seconds(), loaded.vocabulary(), loaded.llama(), loaded.devices());
  }

  /**
   * The tokens of a file of UTF-8 text, as a model's own rules make them, with BOS where the model wants one. Done in a process of
   * its own: it takes many times the text's size in memory, which is not to be counted as the model's.
   *
   * @param model a GGUF, of which only the vocabulary is loaded
   * @param most the most tokens wanted
   * @param patience how long it may take
   */
  public static Tokenized tokenize(Path model, Path text, int most, Duration patience) throws IOException {
    try (ModelWorker worker = start(patience)) {
      Request load = new Request.Load(model, List.of(), OptionalInt.empty(), true);
      int vocabulary = worker.ask(load, Reply.Loaded.class).vocabulary();
      return new Tokenized(worker.ask(new Request.Tokenize(text, most), Reply.Tokenized.class).tokens(), vocabulary);
    }
  }

  /**
   * Makes ready to evaluate the steps of windows.
   *
   * @param context tokens per window
   * @param threads number of threads that decode
   * @param shared file for the base's logits that {@link LogitBuffer#create} made; empty if there is nothing to compare
   * @param isBase whether this model fills it or is compared with it
   */
  public void openEvaluation(int context, int threads, Optional<Path> shared, boolean isBase) throws IOException {
    ask(new Request.OpenEvaluation(context, threads, shared, isBase), Reply.Done.class);
  }

  /**
   * Decodes a step. When this returns, the next model may decode it; the scores follow. The slot's earlier scores must have been
   * taken, those of the variants too.
   */
  public void evaluate(int slot, Step step) throws IOException {
    ask(new Request.Evaluate(slot, step), Reply.Done.class);
  }

  /** The scores of the earliest step that has not been asked for; of the base, or of the only model. */
  public TokenScores scores() throws IOException {
    return next(Reply.Scored.class).scores();
  }

  /** The scores of the earliest step that has not been asked for; of a variant. */
  public TokenComparison comparison() throws IOException {
    return next(Reply.Compared.class).scores();
  }

  /** Makes ready to time runs of at most so many tokens. */
  public void openTiming(int tokens, int threads) throws IOException {
    ask(new Request.OpenTiming(tokens, threads), Reply.Done.class);
  }

  /**
   * Times a run with random tokens.
   *
   * @param generation whether the tokens go one by one, or all at once as a prompt
   * @param tokens how many
   * @param threads number of threads that compute
   * @param seed chooses the tokens
   */
  public Timing time(boolean generation, int tokens, int threads, long seed) throws IOException {
    LatencyTest.Kind kind = generation ? LatencyTest.Kind.GENERATION : LatencyTest.Kind.PROMPT;
    Reply.Timed timed = ask(new Request.Time(kind, tokens, threads, seed), Reply.Timed.class);
    return new Timing(timed.seconds(), timed.firstTokenSeconds());
  }

  /** The most resident memory that the process has had so far, in bytes; empty where the system does not say. */
  public OptionalLong peakResidentBytes() throws IOException {
    return ask(new Request.MeasureMemory(), Reply.Memory.class).peakResident();
  }

  private <R extends Reply> R ask(Request request, Class<R> type) throws IOException {
    process.send(Request.toFrame(request));
    while (true) {
      Reply reply = Reply.of(process.receive());
      if (type.isInstance(reply)) {
        return type.cast(reply);
      }
      keepScores(reply);
    }
  }

  private <R extends Reply> R next(Class<R> type) throws IOException {
    while (scores.isEmpty()) {
      keepScores(Reply.of(process.receive()));
    }
    return type.cast(scores.remove());
  }

  /** Scores come when they are ready, maybe between other replies. */
  private void keepScores(Reply reply) throws IOException {
    switch (reply) {
      case Reply.Scored _, Reply.Compared _ -> scores.add(reply);
      default -> throw new IOException("the worker gave an answer to no question: " + reply);
    }
  }

  /** Ends the process. */
  @Override
  public void close() {
    process.close();
  }
}
