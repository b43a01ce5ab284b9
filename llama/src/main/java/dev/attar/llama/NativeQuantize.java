package dev.attar.llama;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;

/** llama.cpp's own quantizer of whole models, {@code llama_model_quantize}, in a worker process. */
public final class NativeQuantize {

  /**
   * Gives the tensors whose name a pattern matches a type of their own.
   *
   * @param pattern regular expression, found anywhere in the name
   * @param type ggml number
   */
  public record TensorType(String pattern, int type) {}

  /**
   * What {@code llama_model_quantize_params} holds. Split input is joined to one file.
   *
   * @param fileType number of {@code enum llama_ftype}
   * @param threads number of threads; 0 for one per core
   * @param pure one type for all matrices instead of the file type's mixture
   * @param allowRequantize take tensors that are quantized already
   * @param leaveOutputTensor do not quantize {@code output.weight}
   * @param outputTensorType ggml number for {@code output.weight}
   * @param tokenEmbeddingType ggml number for {@code token_embd.weight}
   * @param tensorTypes types for tensors by their names; the first match counts
   * @param importance weights by tensor name, {@code ne[0] * ne[2]} each; empty for none
   */
  public record Options(
    int fileType,
    int threads,
    boolean pure,
    boolean allowRequantize,
    boolean leaveOutputTensor,
    OptionalInt outputTensorType,
    OptionalInt tokenEmbeddingType,
    List<TensorType> tensorTypes,
    Map<String, float[]> importance
  ) {
    public Options {
      tensorTypes = List.copyOf(tensorTypes);
      importance = Map.copyOf(importance);
    }

    /** The defaults of llama-quantize. */
    public static Options of(int fileType, int threads) {
      return new Options(
        fileType,
        threads,
        false,
        false,
        false,
        OptionalInt.empty(),
        OptionalInt.empty(),
        List.of(),
        Map.of()
      );
    }

    /** The same with {@link #pure()} set. */
    public Options asPure() {
      return new Options(
        fileType,
        threads,
        true,
        allowRequantize,
        leaveOutputTensor,
        outputTensorType,
        tokenEmbeddingType,
        tensorTypes,
        importance
      );
    }

    /** The same with other importance weights. */
    public Options withImportance(Map<String, float[]> weights) {
      return new Options(
        fileType,
        threads,
        pure,
        allowRequantize,
        leaveOutputTensor,
        outputTensorType,
        tokenEmbeddingType,
        tensorTypes,
        weights
      );
    }
  }

  /**
   * How it went.
   *
   * @param time time that {@code llama_model_quantize} took, without the start of the worker
   * @param log last lines that llama.cpp logged, oldest first
   */
  public record Result(Duration time, List<String> log) {}

  // It shows a sign of life after each tensor; a large one can take long on a small machine.
  private static final WorkerProcess.Options WORKER = new WorkerProcess.Options(
    List.of("-XX:TieredStopAtLevel=1"),
    Duration.ofHours(12)
  );

  private NativeQuantize() {}

  /**
   * Quantizes a GGUF file. An existing output is overwritten; after a failure there is none.
   *
   * @param in GGUF of any type, or the first part of a split one
   * @param out file to write
   * @throws NativeFailure if llama.cpp refuses or ends its process
   * @throws IOException if the worker cannot be started
   */
  public static Result run(Path in, Path out, Options options) throws IOException {
    List<String> arguments = new ArrayList<>();
    arguments.add(in.toString());
    arguments.add(out.toString());
    arguments.add(Integer.toString(options.fileType));
    arguments.add(Integer.toString(options.threads));
    if (options.pure) {
      arguments.add("--pure");
    }
    if (options.allowRequantize) {
      arguments.add("--allow-requantize");
    }
    if (options.leaveOutputTensor) {
      arguments.add("--leave-output-tensor");
    }
    options.outputTensorType.ifPresent(type -> arguments.add("--output-tensor-type=" + type));
    options.tokenEmbeddingType.ifPresent(type -> arguments.add("--token-embedding-type=" + type));
    for (TensorType tensorType : options.tensorTypes) {
      arguments.add("--tensor-type=" + tensorType.pattern + "=" + tensorType.type);
    }
    Path weights = null;
    boolean done = false;
    try {
      if (!options.importance.isEmpty()) {
        weights = Files.createTempFile("attar-importance-", ".bin");
        writeImportance(weights, options.importance);
        arguments.add("--importance=" + weights);
      }
      WorkerProcess worker = WorkerProcess.start(NativeQuantizeMain.class, arguments, WORKER);
      Duration time;
      try (worker) {
        time = Duration.ofNanos(worker.receive().input().readLong());
      }
      done = true;
      return new Result(time, worker.log());
    } finally {
      if (weights != null) {
        Files.deleteIfExists(weights);
      }
      if (!done) {
        Files.deleteIfExists(out);
      }
    }
  }

  /**
   * Writes importance weights in the form that the worker reads: the number of entries; for each the name (as
   * {@link DataOutputStream#writeUTF}), the number of weights and the weights, all big-endian.
   */
  public static void writeImportance(Path file, Map<String, float[]> importance) throws IOException {
    try (DataOutputStream out = new DataOutputStream(Files.newOutputStream(file))) {
      out.writeInt(importance.size());
      for (Map.Entry<String, float[]> entry : importance.entrySet()) {
        out.writeUTF(entry.getKey());
        out.writeInt(entry.getValue().length);
        ByteBuffer bytes = ByteBuffer.allocate(4 * entry.getValue().length);
        bytes.asFloatBuffer().put(entry.getValue());
        out.write(bytes.array());
      }
    }
  }

  static Map<String, float[]> readImportance(Path file) throws IOException {
    Map<String, float[]> importance = new LinkedHashMap<>();
    long left = Files.size(file);
    try (DataInputStream in = new DataInputStream(Files.newInputStream(file))) {
      int entries = in.readInt();
      for (int i = 0; i < entries; i++) {
        String name = in.readUTF();
        int n = in.readInt();
        if (n < 0 || 4L * n > left) {
          throw new IOException(file + ": " + n + " weights of " + name + " in a file of " + left + " bytes");
        }
        byte[] bytes = new byte[4 * n];
        in.readFully(bytes);
        float[] weights = new float[n];
        ByteBuffer.wrap(bytes).asFloatBuffer().get(weights);
        importance.put(name, weights);
      }
      return importance;
    } catch (EOFException e) {
      throw new IOException(file + ": ends within an entry", e);
    }
  }
}
