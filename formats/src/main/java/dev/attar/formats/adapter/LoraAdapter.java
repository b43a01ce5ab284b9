package dev.attar.formats.adapter;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;

/** A LoRA adapter, opened for a base model. Factors stay in the memory-mapped file; it must be open, as the base, while they are read. */
public final class LoraAdapter implements AutoCloseable {

  /** Values that are looked at together. */
  private static final int BAND = 1 << 20;

  private final Path source;
  private final List<Path> files;
  private final List<LoraTensor> tensors;
  private final List<String> ignored;
  private final Runnable closing;

  /**
   * @param files what was read
   * @param closing closes them
   */
  LoraAdapter(Path source, List<Path> files, List<LoraTensor> tensors, List<String> ignored, Runnable closing) {
    this.source = source;
    this.files = List.copyOf(files);
    this.tensors = List.copyOf(tensors);
    this.ignored = List.copyOf(ignored);
    this.closing = closing;
  }

  /**
   * Opens an adapter and checks everything but the factors' values.
   *
   * @param path a GGUF file of {@code adapter.type} lora; or a folder that PEFT has written, with {@code adapter_config.json} and {@code
   *     adapter_model.safetensors}, or that file in it
   * @param base the model that it is for: one that it does not fit is an error that names both
   * @throws FormatException if it is not such a file, damaged, not for this base, or more than LoRA: the message says what cannot be merged
   * @throws IOException if a file cannot be read
   */
  public static LoraAdapter open(Path path, Model base) throws IOException {
    if (Files.notExists(path)) {
      throw new NoSuchFileException(
        path.toString(),
        null,
        "no such adapter, expected a GGUF file, or a folder with adapter_config.json and adapter_model.safetensors"
      );
    }
    String name = String.valueOf(path.getFileName()).toLowerCase(Locale.ROOT);
    LoraAdapter adapter = Files.isDirectory(path) || name.endsWith(".safetensors")
      ? PeftAdapter.open(path, base)
      : GgufAdapter.open(path, base);
    try {
      for (LoraTensor tensor : adapter.tensors) {
        requireFinite(path, tensor.a());
        requireFinite(path, tensor.b());
      }
      return adapter;
    } catch (IOException | RuntimeException e) {
      adapter.close();
      throw e;
    }
  }

  /** Checks the numbers of a factor: in a sum with the weights, nobody could tell where one that is not finite came from. */
  private static void requireFinite(Path path, Tensor factor) throws IOException {
    int columns = Math.toIntExact(factor.info().rowLength());
    int most = (int) Math.clamp(BAND / columns, 1, factor.info().rows());
    float[] values = new float[Math.multiplyExact(most, columns)];
    for (long first = 0; first < factor.info().rows(); first += most) {
      int count = (int) Math.min(most, factor.info().rows() - first);
      factor.decodeRows(first, count, values, 0);
      for (int i = 0; i < count * columns; i++) {
        if (!Float.isFinite(values[i])) {
          throw new FormatException(
            path,
            "tensor " + factor.info().name() + ", row " + (first + i / columns),
            Float.toString(values[i]),
            "a finite number"
          );
        }
      }
    }
  }

  /** Where it came from: the path that was opened. */
  public Path source() {
    return source;
  }

  /** The files that were read. */
  public List<Path> files() {
    return files;
  }

  /** What it adds to which tensors, in the order of the base; at least one. */
  public List<LoraTensor> tensors() {
    return tensors;
  }

  /** Names of its tensors that are no factors and that llama.cpp ignores: those of norms. */
  public List<String> ignored() {
    return ignored;
  }

  @Override
  public void close() {
    closing.run();
  }
}
