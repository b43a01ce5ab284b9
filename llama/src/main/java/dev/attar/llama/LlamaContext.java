package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.invoke.MethodHandle;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * A model at work: it remembers the tokens of one or several sequences and says what could follow them.
 *
 * <p>For one thread at a time. The logits may be read by another thread while this one waits. After {@link #close}, and after the
 * model's, every method but {@link #close} and the sizes throws {@code IllegalStateException}.
 */
public final class LlamaContext implements AutoCloseable {

  private static final int MOST_TOKENS = 1 << 30; // leaves room for rounding up
  private static final int MOST_SEQUENCES = 256; // LLAMA_MAX_SEQ
  private static final int MOST_THREADS = 512; // GGML_MAX_N_THREADS

  /**
   * How large to make it. What is not here is llama.cpp's default.
   *
   * @param context number of tokens that it can remember, shared out evenly among the sequences; llama.cpp rounds the share up to a
   *     multiple of 256
   * @param batch the largest number of tokens to decode at once; llama.cpp takes no more than {@code context}
   * @param microBatch number of tokens that are computed together
   * @param sequences number of sequences, 1 to 256 and no more than {@code context} and {@code batch}
   * @param threads number of threads, 1 to 512
   */
  public record Options(int context, int batch, int microBatch, int sequences, int threads) {
    public Options {
      require("context", context, MOST_TOKENS);
      require("batch", batch, MOST_TOKENS);
      require("microBatch", microBatch, MOST_TOKENS);
      // A batch must have room for an output of each sequence: the library asserts it.
      require("sequences", sequences, Math.min(MOST_SEQUENCES, Math.min(context, batch)));
      require("threads", threads, MOST_THREADS);
    }

    void writeTo(ParamsType.Params params) {
      params
        .set("n_ctx", context)
        .set("n_batch", batch)
        .set("n_ubatch", microBatch)
        .set("n_seq_max", sequences)
        .set("n_threads", threads)
        .set("n_threads_batch", threads)
        .set("no_perf", false);
    }
  }

  private final LlamaLibrary library;
  private final LlamaModel model;
  private final MemorySegment memory;
  private final Optional<Evaluation> evaluation;
  private final MethodHandle decode;
  private final MethodHandle getLogits;
  private final MethodHandle synchronize;
  private final MethodHandle clear;
  private final int vocabularySize;
  private final int contextLength;
  private final int sequenceLength;
  private final int batchSize;
  private final int sequences;
  private final OptionalInt positionLimit;
  private final Map<Integer, ThreadPool> pools = new HashMap<>();
  private MemorySegment handle;
  private int outputs;
  private Arena lent; // bounds the time in which the logits may be read

  LlamaContext(
    LlamaLibrary library,
    LlamaModel model,
    MemorySegment handle,
    MemorySegment memory,
    Optional<Evaluation> evaluation
  ) {
    this.library = library;
    this.model = model;
    this.handle = handle;
    this.memory = memory;
    this.evaluation = evaluation;
    decode = library.function("llama_decode", FunctionDescriptor.of(JAVA_INT, ADDRESS, Batch.LAYOUT));
    getLogits = library.function("llama_get_logits", FunctionDescriptor.of(ADDRESS, ADDRESS));
    synchronize = library.function("llama_synchronize", FunctionDescriptor.ofVoid(ADDRESS));
    clear = library.function("llama_memory_clear", FunctionDescriptor.ofVoid(ADDRESS, JAVA_BOOLEAN));
    vocabularySize = model.tokens().size();
    contextLength = library.getInt("llama_n_ctx", handle);
    sequenceLength = library.getInt("llama_n_ctx_seq", handle);
    batchSize = library.getInt("llama_n_batch", handle);
    sequences = library.getInt("llama_n_seq_max", handle);
    positionLimit = model.positionLimit();
  }

  private static void require(String name, int value, int most) {
    if (value < 1 || value > most) {
      throw new IllegalArgumentException(name + " " + value + ", expected 1 to " + most);
    }
  }

  /** Length of a row of logits. */
  public int vocabularySize() {
    return vocabularySize;
  }

  /** Number of tokens that it remembers, all sequences together. */
  public int contextLength() {
    return contextLength;
  }

  /** Number of tokens that it remembers of each sequence. */
  public int sequenceLength() {
    return sequenceLength;
  }

  /** The largest number of tokens to decode at once. */
  public int batchSize() {
    return batchSize;
  }

  /**
   * Computes the tokens of a batch and remembers them. A sequence's positions must go on where they ended, without a gap. On a GPU
   * the computation may still run when this returns.
   *
   * <p>Where a {@link NodeObserver} leaves out the rest of a graph, there are no {@link #logits}. The tokens count as remembered all
   * the same, and the layers that were computed do remember them, as those of the next micro-batches and batches may need; the other
   * layers remember nothing of use until {@link #clear}. After an exception of the observer, no layer may.
   *
   * @return whether everything was computed: true without an observer
   * @throws IllegalArgumentException if the batch is empty, or if it has more tokens, other tokens or other sequences than the
   *     context
   * @throws IOException if the context has no room for the tokens, or if llama.cpp cannot compute them
   */
  public boolean decode(Batch batch) throws IOException {
    requireOpen();
    // A batch that breaks one of these limits ends the process, or reads where there is nothing.
    requireRange("size of the batch", batch.size(), 1, batchSize);
    requireRange("token", batch.largestToken(), 0, vocabularySize - 1);
    requireRange("sequence", batch.largestSequence(), 0, sequences - 1);
    if (positionLimit.isPresent()) {
      requireRange("position", batch.largestPosition(), 0, positionLimit.getAsInt() - 1);
    }
    recall();
    long logged = library.nativeLog().count();
    MemorySegment struct = batch.struct();
    evaluation.ifPresent(Evaluation::begin);
    int result = Natives.call(() -> (int) decode.invokeExact(handle, struct));
    boolean complete = evaluation.map(Evaluation::end).orElse(true);
    if (result != 0) {
      throw new IOException(model + ": " + batch.size() + " tokens not decoded: " + describe(result, logged));
    }
    outputs = complete ? batch.outputs() : 0;
    return complete;
  }

  private String describe(int result, long logged) {
    return switch (result) {
      case 1 -> "no room for them in a context of " + contextLength + " tokens for " + sequences + " sequences";
      case 2 -> "aborted";
      case -1 -> "invalid batch: " + library.nativeLog().reason(logged);
      default -> "llama_decode gave " + result + ": " + library.nativeLog().reason(logged);
    };
  }

  private static void requireRange(String what, int value, int least, int most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(what + " " + value + ", expected " + least + " to " + most);
    }
  }

  /**
   * Waits for the last batch and gives its logits: float32 in the machine's byte order, outputs x {@link #vocabularySize()},
   * row-major, a row for each token of the batch whose output is wanted, in their order. The segment can be read by any thread until
   * the next {@link #decode} or {@link #close}, and throws {@code IllegalStateException} from then on.
   */
  public MemorySegment logits() {
    requireOpen();
    MemorySegment rows = Natives.call(() -> (MemorySegment) getLogits.invokeExact(handle));
    if (lent == null) {
      lent = Arena.ofShared();
    }
    return rows.reinterpret((long) outputs * vocabularySize * JAVA_FLOAT.byteSize(), lent, null).asReadOnly();
  }

  /** Ends the time of the logits given so far. */
  private void recall() {
    outputs = 0;
    if (lent != null) {
      lent.close();
      lent = null;
    }
  }

  /** Forgets all sequences. */
  public void clear() {
    requireOpen();
    Natives.run(() -> {
      clear.invokeExact(memory, true);
    });
  }

  /** Waits until all batches are computed. */
  public void synchronize() {
    requireOpen();
    Natives.run(() -> {
      synchronize.invokeExact(handle);
    });
  }

  /**
   * Computes with another number of threads from now on.
   *
   * @param n 1 to 512
   */
  public void threads(int n) {
    requireOpen();
    require("threads", n, MOST_THREADS);
    MethodHandle set = library.function("llama_set_n_threads", FunctionDescriptor.ofVoid(ADDRESS, JAVA_INT, JAVA_INT));
    Natives.run(() -> {
      set.invokeExact(handle, n, n);
    });
  }

  /**
   * Computes with another number of threads from now on, which stay between computations, as llama.cpp's own tools have it. Otherwise
   * each computation starts threads of its own.
   *
   * @param n 1 to 512
   * @throws IOException if they cannot be started
   */
  public void keepThreads(int n) throws IOException {
    threads(n);
    ThreadPool pool = pools.get(n);
    if (pool == null) {
      pool = new ThreadPool(library, n);
      pools.put(n, pool);
    }
    pool.attachTo(handle);
  }

  /**
   * Puts these adapters to use instead of those before. What is remembered was computed without them: see {@link #clear}.
   *
   * @param adapters adapters of the model; empty for the model alone
   * @param scales a factor for each
   * @throws IllegalArgumentException if the numbers of adapters and scales differ, or if an adapter is another model's
   */
  public void adapters(List<LlamaAdapter> adapters, float[] scales) {
    requireOpen();
    if (adapters.size() != scales.length) {
      throw new IllegalArgumentException(adapters.size() + " adapters and " + scales.length + " scales");
    }
    MethodHandle set = library.function(
      "llama_set_adapters_lora",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS)
    );
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment array = arena.allocate(ADDRESS, Math.max(1, scales.length));
      for (int i = 0; i < scales.length; i++) {
        array.setAtIndex(ADDRESS, i, adapters.get(i).handle(model));
      }
      MemorySegment factors = arena.allocateFrom(JAVA_FLOAT, scales);
      int result = Natives.call(() -> (int) set.invokeExact(handle, array, (long) scales.length, factors));
      if (result != 0) {
        throw new IllegalStateException("llama_set_adapters_lora gave " + result);
      }
    }
  }

  /** What llama.cpp measured since the context was made or {@link #resetTimings} was called. */
  public Timings timings() {
    requireOpen();
    MethodHandle timings = library.function("llama_perf_context", FunctionDescriptor.of(Timings.LAYOUT, ADDRESS));
    try (Arena arena = Arena.ofConfined()) {
      return Timings.of(Natives.call(() -> (MemorySegment) timings.invokeExact((SegmentAllocator) arena, handle)));
    }
  }

  /** Counts tokens and their time from 0 again. */
  public void resetTimings() {
    requireOpen();
    library.perform("llama_perf_context_reset", handle);
  }

  private void requireOpen() {
    if (handle == null) {
      throw new IllegalStateException(model + ": the context is closed");
    }
    requireIdle();
  }

  /** A context that its own observer used would end the process. */
  private void requireIdle() {
    if (evaluation.isPresent() && evaluation.get().running()) {
      throw new IllegalStateException(model + ": the context is computing");
    }
  }

  /** Frees the context. Further calls do nothing. */
  @Override
  public void close() {
    if (handle != null) {
      requireIdle();
      recall();
      library.perform("llama_free", handle);
      handle = null;
      evaluation.ifPresent(Evaluation::close);
      pools.values().forEach(ThreadPool::close);
      model.forget(this);
    }
  }
}
