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
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.function.DoubleConsumer;

/**
 * A model in llama.cpp's memory.
 *
 * <p>What it says of itself never changes and can be asked by any thread, also after {@link #close}. Its contexts are one
 * thread's each, but several may work at once. It must not be closed while another thread uses it or what it gave.
 */
public final class LlamaModel implements AutoCloseable {

  // Longer than what any architecture and file type give.
  private static final int DESCRIPTION_BYTES = 256;

  private static final int LOAD_MODE_NONE = 0; // LLAMA_LOAD_MODE_NONE
  private static final int LAZY_MODE_OFF = 0; // LLAMA_LAZY_MODE_OFF

  private final LlamaLibrary library;
  private final Path file;
  private final boolean vocabularyOnly;
  private final boolean mmap;
  private final Tokens tokens;
  private final String description;
  private final long bytes;
  private final long parameters;
  private final int layers;
  private final int embeddingLength;
  private final int trainedContext;
  private final boolean hasEncoder;
  private final boolean hasDecoder;
  private final List<LlamaContext> contexts = new ArrayList<>();
  private MemorySegment handle;

  /**
   * How to load.
   *
   * @param gpuLayers number of layers whose weights go to GPUs, from the last one on; empty for llama.cpp's choice, which is all of
   *     them where there is a GPU
   * @param vocabularyOnly load no weights: the model has {@link #tokens} and can do nothing else
   * @param mmap have the weights where llama.cpp likes them best: the file mapped into memory where the system can do it, or the
   *     bytes in another order that suits the processor. Without it they are read into memory as they are in the file, and
   *     {@link WeightTensor#write} can replace them
   * @param progress hears the loaded part of the weights, 0 to 1, on the loading thread; may be {@code null}
   */
  public record Options(OptionalInt gpuLayers, boolean vocabularyOnly, boolean mmap, DoubleConsumer progress) {
    /** llama.cpp's own choices, and nobody hears of the progress. */
    public static Options defaults() {
      return new Options(OptionalInt.empty(), false, true, null);
    }

    /** The vocabulary and nothing else. */
    public static Options vocabulary() {
      return new Options(OptionalInt.empty(), true, true, null);
    }
  }

  private LlamaModel(LlamaLibrary library, Path file, Options options, MemorySegment handle) {
    this.library = library;
    this.file = file;
    vocabularyOnly = options.vocabularyOnly;
    mmap = options.mmap;
    this.handle = handle;
    description = describe();
    bytes = library.getLong("llama_model_size", handle);
    parameters = library.getLong("llama_model_n_params", handle);
    layers = library.getInt("llama_model_n_layer", handle);
    embeddingLength = library.getInt("llama_model_n_embd", handle);
    trainedContext = library.getInt("llama_model_n_ctx_train", handle);
    hasEncoder = library.getBoolean("llama_model_has_encoder", handle);
    hasDecoder = library.getBoolean("llama_model_has_decoder", handle);
    tokens = new Tokens(library, this, library.getAddress("llama_model_get_vocab", handle));
  }

  /**
   * Loads a model.
   *
   * @param file a GGUF file, or the first part of a split one
   * @throws IOException if llama.cpp's libraries cannot be loaded, or if it cannot load the file; the message is one line
   */
  public static LlamaModel open(Path file, Options options) throws IOException {
    LlamaLibrary library = LlamaLibrary.load();
    library.loadBackends();
    MethodHandle load = library.function(
      "llama_model_load_from_file",
      FunctionDescriptor.of(ADDRESS, ADDRESS, ParamsType.MODEL.layout())
    );
    long logged = library.nativeLog().count();
    try (Arena arena = Arena.ofConfined()) {
      Progress progress = new Progress(options.progress);
      ParamsType.Params params = ParamsType.MODEL.defaults(library, arena)
        .set("vocab_only", options.vocabularyOnly)
        .set("progress_callback", progress.callback(arena));
      options.gpuLayers.ifPresent(layers -> params.set("n_gpu_layers", layers));
      if (!options.mmap) {
        params.set("load_mode", LOAD_MODE_NONE).set("lazy_mode", LAZY_MODE_OFF).set("use_extra_bufts", false);
      }
      MemorySegment path = arena.allocateFrom(file.toString());
      MemorySegment handle = Natives.call(() -> (MemorySegment) load.invokeExact(path, params.struct()));
      progress.rethrow();
      if (handle.equals(MemorySegment.NULL)) {
        throw new IOException(file + ": llama.cpp cannot load it: " + library.nativeLog().reason(logged));
      }
      return new LlamaModel(library, file, options, handle);
    }
  }

  /** Passes {@code llama_progress_callback} on. */
  private static final class Progress {

    private final DoubleConsumer listener;
    private final Upcall upcall = new Upcall();

    Progress(DoubleConsumer listener) {
      this.listener = listener == null ? _ -> {} : listener;
    }

    MemorySegment callback(Arena arena) {
      FunctionDescriptor descriptor = FunctionDescriptor.of(JAVA_BOOLEAN, JAVA_FLOAT, ADDRESS);
      return Upcall.stub(MethodHandles.lookup(), this, "accept", descriptor, arena);
    }

    @SuppressWarnings({ "unused", "UnusedMethod", "UnusedVariable" }) // called by native code, whose signature this is
    private boolean accept(float part, MemorySegment userData) {
      try {
        listener.accept(part);
        return true;
      } catch (RuntimeException e) {
        upcall.keep(e);
      } catch (Error e) {
        upcall.keep(e);
      }
      return false; // ends the loading
    }

    void rethrow() {
      upcall.rethrow();
    }
  }

  private String describe() {
    MethodHandle function = library.function(
      "llama_model_desc",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG)
    );
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment text = arena.allocate(DESCRIPTION_BYTES);
      Natives.call(() -> (int) function.invokeExact(handle, text, (long) DESCRIPTION_BYTES));
      return Natives.string(text);
    }
  }

  /** The vocabulary. */
  public Tokens tokens() {
    return tokens;
  }

  /** Architecture, size and file type in llama.cpp's words, for example {@code llama 8B Q4_K - Medium}. */
  public String description() {
    return description;
  }

  /** Bytes of all tensors. */
  public long bytes() {
    return bytes;
  }

  /** Number of weights. */
  public long parameters() {
    return parameters;
  }

  /** Number of layers; 0 if only the vocabulary was loaded, as with the two lengths. */
  public int layers() {
    return layers;
  }

  /** Values per token between the layers. */
  public int embeddingLength() {
    return embeddingLength;
  }

  /** The number of tokens that the model was trained to see at once. */
  public int trainedContext() {
    return trainedContext;
  }

  /** Whether a part of the model reads a whole input first, as in T5. */
  public boolean hasEncoder() {
    return hasEncoder;
  }

  /** Whether the model continues a text. */
  public boolean hasDecoder() {
    return hasDecoder;
  }

  /**
   * Makes a context, in which the model can decode. It is closed with the model at the latest.
   *
   * @throws IOException if llama.cpp refuses, for example because memory does not suffice, or if the model is not one that
   *     continues a text token by token
   * @throws IllegalStateException if the model is closed, or only its vocabulary was loaded
   */
  public LlamaContext context(LlamaContext.Options options) throws IOException {
    return context(options, Optional.empty());
  }

  /**
   * Makes a context whose computations are observed. Operations stay on the devices that hold their weights then, where llama.cpp
   * would otherwise have a GPU compute large batches with copies of them.
   *
   * @throws IOException as {@link #context(LlamaContext.Options)}
   * @throws IllegalStateException as {@link #context(LlamaContext.Options)}
   */
  public LlamaContext context(LlamaContext.Options options, NodeObserver observer) throws IOException {
    Evaluation evaluation = new Evaluation(this, library.tensors(), observer);
    try {
      return context(options, Optional.of(evaluation));
    } catch (IOException | RuntimeException e) {
      evaluation.close();
      throw e;
    }
  }

  private LlamaContext context(LlamaContext.Options options, Optional<Evaluation> evaluation) throws IOException {
    requireWeights();
    if (hasEncoder || !hasDecoder) {
      throw new IOException(file + ": " + description + " has an encoder, expected a model with a decoder alone");
    }
    MethodHandle create = library.function(
      "llama_init_from_model",
      FunctionDescriptor.of(ADDRESS, ADDRESS, ParamsType.CONTEXT.layout())
    );
    long logged = library.nativeLog().count();
    MemorySegment created;
    try (Arena arena = Arena.ofConfined()) {
      ParamsType.Params params = ParamsType.CONTEXT.defaults(library, arena);
      options.writeTo(params);
      evaluation.ifPresent(e -> params.set("cb_eval", e.callback()).set("op_offload", false));
      created = Natives.call(() -> (MemorySegment) create.invokeExact(handle, params.struct()));
    }
    if (created.equals(MemorySegment.NULL)) {
      throw new IOException(file + ": llama.cpp makes no context: " + library.nativeLog().reason(logged));
    }
    MemorySegment memory = library.getAddress("llama_get_memory", created);
    if (memory.equals(MemorySegment.NULL)) {
      library.perform("llama_free", created);
      throw new IOException(file + ": " + description + " remembers no tokens, expected a model that continues a text");
    }
    LlamaContext context = new LlamaContext(library, this, created, memory, evaluation);
    synchronized (contexts) {
      contexts.add(context);
    }
    return context;
  }

  void forget(LlamaContext context) {
    synchronized (contexts) {
      contexts.remove(context);
    }
  }

  /**
   * Loads a LoRA adapter, which lives as long as the model.
   *
   * @param adapter a GGUF file whose {@code general.type} is {@code adapter}
   * @throws IOException if llama.cpp cannot load it, or if it was made for another model; the message is one line
   * @throws IllegalStateException if the model is closed, or only its vocabulary was loaded
   */
  public LlamaAdapter adapter(Path adapter) throws IOException {
    requireWeights();
    MethodHandle load = library.function("llama_adapter_lora_init", FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS));
    long logged = library.nativeLog().count();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment path = arena.allocateFrom(adapter.toString());
      MemorySegment loaded = Natives.call(() -> (MemorySegment) load.invokeExact(handle, path));
      if (loaded.equals(MemorySegment.NULL)) {
        throw new IOException(adapter + ": llama.cpp cannot load it: " + library.nativeLog().reason(logged));
      }
      return new LlamaAdapter(this, loaded);
    }
  }

  private void requireWeights() {
    requireOpen();
    if (vocabularyOnly) {
      throw new IllegalStateException(file + ": only the vocabulary was loaded");
    }
  }

  void requireOpen() {
    if (handle == null) {
      throw new IllegalStateException(file + ": the model is closed");
    }
  }

  /** @param name the weight's */
  void requirePlainWeights(String name) {
    if (mmap) {
      throw new IllegalStateException(
        file + ": " + name + " may be mapped or reordered, expected a model that was loaded without mmap"
      );
    }
  }

  /** Learned positions end where training ended; other ways to encode positions go on. */
  OptionalInt positionLimit() {
    boolean learned =
      library.getInt("llama_model_rope_type", handle) < 0 && !library.getBoolean("llama_model_is_recurrent", handle);
    return learned ? OptionalInt.of(trainedContext) : OptionalInt.empty();
  }

  @Override
  public String toString() {
    return Objects.toString(file.getFileName());
  }

  /** Frees the model, its contexts and adapters. Further calls do nothing. */
  @Override
  public void close() {
    if (handle != null) {
      List<LlamaContext> open;
      synchronized (contexts) {
        open = List.copyOf(contexts);
      }
      open.forEach(LlamaContext::close);
      library.perform("llama_model_free", handle);
      handle = null;
    }
  }
}
