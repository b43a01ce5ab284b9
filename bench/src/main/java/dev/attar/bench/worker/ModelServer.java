package dev.attar.bench.worker;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.bench.accuracy.LogitKernel;
import dev.attar.bench.accuracy.Step;
import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.llama.Batch;
import dev.attar.llama.Device;
import dev.attar.llama.Frame;
import dev.attar.llama.LlamaAdapter;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaLibrary;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.ProcessMemory;
import dev.attar.llama.Tokens;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** Carries out a parent's requests on one model. One thread decodes; another scores what was decoded. */
final class ModelServer implements AutoCloseable {

  // llama-bench's logical and physical batch.
  private static final int BATCH = 2048;
  private static final int MICRO_BATCH = 512;

  private final WorkerChannel channel;
  private final ExecutorService scoring = Executors.newSingleThreadExecutor(work ->
    Thread.ofPlatform().daemon().unstarted(work)
  );
  private final LogitKernel kernel = LogitKernel.get();

  private LlamaModel model;
  private Tokens tokens;
  private final List<LlamaAdapter> adapters = new ArrayList<>();

  /** Replaced when another use begins. */
  private LlamaContext context;
  private Batch batch;

  private Arena buffers;
  private LogitBuffer own;
  private LogitBuffer base; // null in the base itself

  ModelServer(WorkerChannel channel) {
    this.channel = channel;
  }

  void serve() throws IOException {
    for (Optional<Frame> frame = channel.receive(); frame.isPresent(); frame = channel.receive()) {
      channel.send(Reply.toFrame(answer(Request.of(frame.get()))));
    }
  }

  private Reply answer(Request request) throws IOException {
    return switch (request) {
      case Request.Load load -> load(load);
      case Request.Tokenize tokenize -> tokenize(tokenize);
      case Request.OpenEvaluation open -> openEvaluation(open);
      case Request.Evaluate evaluate -> evaluate(evaluate);
      case Request.OpenTiming open -> {
        open(new LlamaContext.Options(open.tokens(), BATCH, MICRO_BATCH, 1, open.threads()));
        yield new Reply.Done();
      }
      case Request.Time time -> time(time);
      case Request.MeasureMemory _ -> new Reply.Memory(ProcessMemory.peakResidentBytes());
    };
  }

  private Reply load(Request.Load load) throws IOException {
    LlamaLibrary library = LlamaLibrary.load();
    long start = System.nanoTime();
    model = LlamaModel.open(
      load.file(),
      new LlamaModel.Options(load.gpuLayers(), load.vocabularyOnly(), true, _ -> signOfLife())
    );
    for (Path adapter : load.adapters()) {
      adapters.add(model.adapter(adapter));
    }
    double seconds = (System.nanoTime() - start) / 1e9;
    tokens = model.tokens();
    if (!load.vocabularyOnly() && (!model.hasDecoder() || tokens.size() == 0)) {
      throw new IOException(load.file() + ": a model that does not predict tokens");
    }
    List<String> devices = library.devices().stream().map(Device::description).toList();
    return new Reply.Loaded(seconds, tokens.size(), library.version(), devices);
  }

  private Reply tokenize(Request.Tokenize tokenize) throws IOException {
    int[] all = tokens.encode(Files.readAllBytes(tokenize.text()), true, false);
    int n = Math.min(all.length, tokenize.most());
    if (n > Reply.Tokenized.MOST) {
      throw new IOException(
        tokenize.text() + ": " + n + " tokens, expected at most " + Reply.Tokenized.MOST + " (--chunks evaluates fewer)"
      );
    }
    return new Reply.Tokenized(Arrays.copyOf(all, n));
  }

  private void signOfLife() {
    try {
      channel.alive();
    } catch (IOException _) {
      // The parent is gone; the end of the input will say so.
    }
  }

  private void open(LlamaContext.Options options) throws IOException {
    closeContext();
    context = model.context(options);
    batch = new Batch(Math.min(options.batch(), options.context()));
    if (!adapters.isEmpty()) {
      float[] scales = new float[adapters.size()];
      Arrays.fill(scales, 1);
      context.adapters(adapters, scales);
    }
  }

  private Reply openEvaluation(Request.OpenEvaluation open) throws IOException {
    int perStep = Windows.perStep(open.context(), tokens.size());
    open(new LlamaContext.Options(open.context() * perStep, BATCH, MICRO_BATCH, perStep, open.threads()));
    int rows = Windows.rowsPerStep(open.context(), tokens.size());
    if (buffers != null) {
      buffers.close();
    }
    buffers = Arena.ofShared();
    own = null;
    base = null;
    if (open.shared().isEmpty() || !open.isBase()) {
      own = LogitBuffer.allocate(rows, tokens.size(), buffers);
    }
    if (open.shared().isPresent()) {
      LogitBuffer shared = LogitBuffer.map(open.shared().get(), rows, tokens.size(), open.isBase(), buffers);
      if (open.isBase()) {
        own = shared;
      } else {
        base = shared;
      }
    }
    return new Reply.Done();
  }

  private Reply evaluate(Request.Evaluate evaluate) throws IOException {
    Step step = evaluate.step();
    if (step.first()) {
      context.clear();
    }
    batch.clear();
    boolean addsBos = tokens.addsBos() && tokens.bos().isPresent();
    for (int i = 0; i < step.tokens().length; i++) {
      boolean isStart = step.positions()[i] == 0;
      int token = isStart && addsBos ? tokens.bos().getAsInt() : step.tokens()[i];
      batch.add(token, step.positions()[i], step.sequences()[i], step.targets()[i] != Step.NOT_SCORED);
    }
    context.decode(batch);
    int rows = batch.outputs();
    if (rows > 0) {
      // llama.cpp uses its buffer again for the next step.
      MemorySegment logits = context.logits();
      own.slot(evaluate.slot()).copyFrom(logits.asSlice(0, 4L * rows * tokens.size()));
    } else {
      context.synchronize();
    }
    int[] targets = step.scored();
    scoring.execute(() -> score(evaluate.slot(), targets));
    return new Reply.Done();
  }

  /** What it throws goes to the parent, by the thread's handler. */
  private void score(int slot, int[] targets) {
    int rows = targets.length;
    Reply reply;
    if (base == null) {
      TokenScores scores = new TokenScores(rows);
      kernel.score(own.slot(slot), rows, tokens.size(), targets, 0, scores, 0);
      reply = new Reply.Scored(scores);
    } else {
      TokenComparison scores = new TokenComparison(rows);
      kernel.compare(base.slot(slot), own.slot(slot), rows, tokens.size(), targets, 0, scores, 0);
      reply = new Reply.Compared(scores);
    }
    try {
      channel.send(Reply.toFrame(reply));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * As llama-bench does it: a cleared context, random tokens, a BOS first where the model wants one, threads that stay between
   * computations.
   */
  private Reply time(Request.Time time) throws IOException {
    context.clear();
    SplittableRandom random = new SplittableRandom(time.seed());
    int[] input = random.ints(time.tokens(), 0, tokens.size()).toArray();
    if (tokens.addsBos() && tokens.bos().isPresent()) {
      input[0] = tokens.bos().getAsInt();
    }
    boolean oneByOne = time.kind() == LatencyTest.Kind.GENERATION;
    context.keepThreads(time.threads());
    long start = System.nanoTime();
    if (oneByOne) {
      for (int i = 0; i < input.length; i++) {
        decode(input, i, i + 1);
        context.synchronize();
      }
    } else {
      for (int i = 0; i < input.length; i += BATCH) {
        decode(input, i, Math.min(input.length, i + BATCH));
      }
      context.synchronize();
    }
    long computed = System.nanoTime();
    likeliest(context.logits());
    long known = System.nanoTime();
    letThreadsSleep();
    return new Reply.Timed((computed - start) / 1e9, (known - start) / 1e9);
  }

  /** The threads that stay watch for more work for a few milliseconds, which the next model shall not feel. */
  private static void letThreadsSleep() throws IOException {
    try {
      Thread.sleep(20);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new InterruptedIOException();
    }
  }

  private void decode(int[] input, int from, int to) throws IOException {
    batch.clear();
    for (int i = from; i < to; i++) {
      batch.add(input[i], i, 0, i == to - 1);
    }
    context.decode(batch);
    channel.alive();
  }

  private int likeliest(MemorySegment logits) {
    int best = 0;
    for (int i = 1; i < tokens.size(); i++) {
      if (logits.getAtIndex(JAVA_FLOAT, i) > logits.getAtIndex(JAVA_FLOAT, best)) {
        best = i;
      }
    }
    return best;
  }

  private void closeContext() {
    if (context != null) {
      batch.close();
      context.close();
      context = null;
    }
  }

  @Override
  public void close() {
    scoring.shutdownNow();
    closeContext();
    if (model != null) {
      model.close();
    }
  }
}
