package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.safetensors.SafetensorsCheckpoint;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * A Hugging Face checkpoint, seen as GGUF: GGUF names and shapes, the metadata that llama.cpp's converter would write, matrices in
 * their own type, and vectors, norms and routers in single precision. Weights stay in the memory-mapped files.
 *
 * <p>{@code general.file_type} in the metadata is that of {@link OutputType#AUTO}.
 */
public final class HuggingFaceModel implements Model {

  private final Path source;
  private final SafetensorsCheckpoint checkpoint;
  private final Metadata metadata;
  private final List<Tensor> tensors;

  private HuggingFaceModel(Path source, SafetensorsCheckpoint checkpoint, List<Tensor> tensors, Metadata metadata) {
    this.source = source;
    this.checkpoint = checkpoint;
    this.tensors = tensors;
    this.metadata = metadata;
  }

  /**
   * Opens a checkpoint.
   *
   * @param path a directory with {@code config.json}, safetensors and tokenizer files, or a safetensors file in such a directory
   * @throws FormatException if a file is malformed, the architecture or pre-tokenizer unknown, the checkpoint quantized or more
   *     than a language model, or a tensor missing, unknown or of the wrong shape
   * @throws IOException if a file cannot be read
   */
  public static Model open(Path path) throws IOException {
    Path directory = Files.isDirectory(path) ? path : path.toAbsolutePath().getParent();
    Path configFile = directory.resolve("config.json");
    if (!Files.isRegularFile(configFile)) {
      throw new FormatException(directory, "config.json", "nothing", "the configuration of a Hugging Face checkpoint");
    }
    CheckpointConfig config = CheckpointConfig.read(configFile);
    Architecture architecture = Architectures.of(config);
    HyperParameters h = HyperParameters.read(config, architecture.defaults());
    SafetensorsCheckpoint checkpoint = SafetensorsCheckpoint.open(path);
    try {
      List<Tensor> tensors = new ArrayList<>();
      if (h.rope().hasFrequencyFactors()) {
        tensors.add(new ComputedTensor(ComputedTensor.ROPE_FREQUENCIES, h.rope().frequencyFactors(h.headSize())));
      }
      tensors.addAll(TensorMapper.map(path, h, architecture.tensors(), checkpoint.tensors()));
      Metadata metadata = ModelMetadata.read(directory, config, architecture, h, tensors);
      return new HuggingFaceModel(path, checkpoint, List.copyOf(tensors), metadata);
    } catch (IOException | RuntimeException e) {
      checkpoint.close();
      throw e;
    }
  }

  @Override
  public Path source() {
    return source;
  }

  @Override
  public List<Path> files() {
    return checkpoint.files();
  }

  @Override
  public Metadata metadata() {
    return metadata;
  }

  @Override
  public List<Tensor> tensors() {
    return tensors;
  }

  @Override
  public void close() {
    checkpoint.close();
  }
}
