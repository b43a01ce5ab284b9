package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/**
 * The worker process of {@link NativeQuantize}, which can be run by hand too, with a standard input that does not end:
 *
 * <pre>
 * java --enable-native-access=ALL-UNNAMED -cp … dev.attar.llama.NativeQuantizeMain IN.gguf OUT.gguf FILE_TYPE_NUMBER THREADS
 *   [--pure] [--allow-requantize] [--leave-output-tensor] [--output-tensor-type=N] [--token-embedding-type=N]
 *   [--tensor-type=REGEX=N]... [--importance=FILE]
 * </pre>
 *
 * llama.cpp's log goes to standard error; the answer is one frame with the nanoseconds that {@code llama_model_quantize} took. The
 * exit code is 0 if it went well, 1 if llama.cpp refused. The file of importance weights is
 * {@link NativeQuantize#writeImportance(Path, Map)}'s.
 */
public final class NativeQuantizeMain {

  private NativeQuantizeMain() {}

  /** Quantizes one file. */
  public static void main(String[] args) throws IOException {
    WorkerChannel channel = WorkerChannel.open();
    if (args.length < 4) {
      throw new IllegalArgumentException("expected IN.gguf OUT.gguf FILE_TYPE_NUMBER THREADS");
    }
    NativeQuantize.Options options = parse(args);
    long time = quantize(args[0], args[1], options, channel);
    channel.send(Frame.of(0, out -> out.writeLong(time)));
  }

  private static NativeQuantize.Options parse(String[] args) throws IOException {
    boolean pure = false;
    boolean allowRequantize = false;
    boolean leaveOutputTensor = false;
    OptionalInt outputTensorType = OptionalInt.empty();
    OptionalInt tokenEmbeddingType = OptionalInt.empty();
    List<NativeQuantize.TensorType> tensorTypes = new ArrayList<>();
    Map<String, float[]> importance = Map.of();
    for (String arg : List.of(args).subList(4, args.length)) {
      String name = arg.split("=", 2)[0];
      String value = arg.substring(Math.min(arg.length(), name.length() + 1));
      switch (name) {
        case "--pure" -> pure = true;
        case "--allow-requantize" -> allowRequantize = true;
        case "--leave-output-tensor" -> leaveOutputTensor = true;
        case "--output-tensor-type" -> outputTensorType = OptionalInt.of(Integer.parseInt(value));
        case "--token-embedding-type" -> tokenEmbeddingType = OptionalInt.of(Integer.parseInt(value));
        case "--tensor-type" -> {
          int end = value.lastIndexOf('=');
          tensorTypes.add(
            new NativeQuantize.TensorType(
              value.substring(0, Math.max(end, 0)),
              Integer.parseInt(value.substring(end + 1))
            )
          );
        }
        case "--importance" -> importance = NativeQuantize.readImportance(Path.of(value));
        default -> throw new IllegalArgumentException("unknown argument " + arg);
      }
    }
    return new NativeQuantize.Options(
      Integer.parseInt(args[2]),
      Integer.parseInt(args[3]),
      pure,
      allowRequantize,
      leaveOutputTensor,
      outputTensorType,
      tokenEmbeddingType,
      tensorTypes,
      importance
    );
  }

  private static long quantize(String in, String out, NativeQuantize.Options options, WorkerChannel channel)
    throws IOException {
    LlamaLibrary library = LlamaLibrary.load();
    library
      .nativeLog()
      .listener(text -> {
        System.err.print(text);
        System.err.flush(); // what comes before an abort is wanted most
        try {
          channel.alive();
        } catch (IOException _) {
          // The parent is gone, and this process soon.
        }
      });
    library.loadBackends();
    MethodHandle quantize = library.function(
      "llama_model_quantize",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS)
    );
    try (Arena arena = Arena.ofConfined()) {
      ParamsType.Params params = ParamsType.QUANTIZE.defaults(library, arena)
        .set("nthread", options.threads())
        .set("ftype", options.fileType())
        .set("pure", options.pure())
        .set("allow_requantize", options.allowRequantize())
        .set("quantize_output_tensor", !options.leaveOutputTensor())
        .set("imatrix", importance(options.importance(), arena))
        .set("tt_overrides", tensorTypes(options.tensorTypes(), arena));
      options.outputTensorType().ifPresent(type -> params.set("output_tensor_type", type));
      options.tokenEmbeddingType().ifPresent(type -> params.set("token_embedding_type", type));
      MemorySegment input = arena.allocateFrom(in);
      MemorySegment output = arena.allocateFrom(out);
      long[] time = new long[1];
      int failed = Natives.call(() -> {
        long start = System.nanoTime();
        int result = (int) quantize.invokeExact(input, output, params.struct());
        time[0] = System.nanoTime() - start;
        return result;
      });
      if (failed != 0) {
        List<String> log = library.log();
        throw new IOException(
          "llama.cpp failed: " +
            (log.isEmpty() ? "no reason given" : log.getLast().replaceFirst("^llama_model_quantize: ", ""))
        );
      }
      return time[0];
    }
  }

  /** Array of {@code llama_model_imatrix_data} {name, data, size}, ended by one without a name. */
  private static MemorySegment importance(Map<String, float[]> importance, Arena arena) {
    if (importance.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment array = arena.allocate(24L * (importance.size() + 1), 8);
    long at = 0;
    for (Map.Entry<String, float[]> entry : importance.entrySet()) {
      array.set(ADDRESS, at, arena.allocateFrom(entry.getKey()));
      array.set(ADDRESS, at + 8, arena.allocateFrom(JAVA_FLOAT, entry.getValue()));
      array.set(JAVA_LONG, at + 16, entry.getValue().length);
      at += 24;
    }
    return array;
  }

  /** Array of {@code llama_model_tensor_override} {pattern, type}, ended by one without a pattern. */
  private static MemorySegment tensorTypes(List<NativeQuantize.TensorType> types, Arena arena) {
    if (types.isEmpty()) {
      return MemorySegment.NULL;
    }
    MemorySegment array = arena.allocate(16L * (types.size() + 1), 8);
    long at = 0;
    for (NativeQuantize.TensorType type : types) {
      array.set(ADDRESS, at, arena.allocateFrom(type.pattern()));
      array.set(JAVA_INT, at + 8, type.type());
      at += 16;
    }
    array.set(JAVA_INT, at + 8, Ggml.TYPES);
    return array;
  }
}
