package dev.attar.distill.student;

import dev.attar.distill.DistillException;
import dev.attar.formats.Model;
import dev.attar.formats.architecture.CheckpointConfig;
import dev.attar.formats.architecture.NewCheckpoint;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.DoubleSupplier;

/**
 * A student with weights that know nothing yet, from a configuration: a Hugging Face checkpoint like any other.
 *
 * <p>Weights are normal with {@code initializer_range} as standard deviation, as transformers has them; those of the projections that add
 * to the residual stream are divided by √(2 layers), so that what enters the head does not grow with the layers (Radford et al., 2019,
 * Language Models are Unsupervised Multitask Learners, section 2.3). Norms are 1, biases 0.
 */
public final class FreshCheckpoint {

  /** What a configuration of transformers has where it says nothing. */
  private static final double USUAL_RANGE = 0.02;

  private FreshCheckpoint() {}

  /**
   * Writes one.
   *
   * @param config a {@code config.json} of Llama, Mistral, Qwen2 or Qwen3, of whatever name, or the folder of one. If it has no {@code
   *     vocab_size}, this is the number of the teacher's tokens without padding
   * @param teacher whose tokenizer's files are taken if the configuration's folder has none
   * @param folder where the checkpoint's folder is made, under the name of the configuration, by which the model is then called
   * @param seed of the weights: the same seed and configuration give the same weights
   * @return the checkpoint's folder
   * @throws DistillException if there are no files of a tokenizer, or the configuration is one of a model that cannot be trained
   * @throws IOException if a file is malformed, or cannot be read or written
   * @throws InterruptedException if the calling thread is interrupted
   */
  public static Path write(Path config, Model teacher, Path folder, long seed)
    throws IOException, InterruptedException {
    Path file = (Files.isDirectory(config) ? config.resolve("config.json") : config).toAbsolutePath();
    NewCheckpoint checkpoint = NewCheckpoint.read(file, SharedVocabulary.withoutPadding(teacher));
    CheckpointConfig settings = checkpoint.config();
    if (checkpoint.hasExperts()) {
      throw new DistillException(file + ": architectures: found a model of experts, expected a dense one");
    }
    String activation = settings.text("hidden_act", "silu");
    if (!activation.equals("silu")) {
      throw settings.malformed("hidden_act", "silu, the one that llama.cpp computes");
    }
    double range = settings.number("initializer_range").orElse(USUAL_RANGE);
    if (range <= 0) {
      throw settings.malformed("initializer_range", "a number above 0");
    }
    double residual = range / Math.sqrt(2.0 * checkpoint.layers());
    Path out = folder.resolve(name(file));
    checkpoint.write(tokenizer(file, teacher), tensor -> values(tensor, range, residual, seed), out);
    return out;
  }

  /** What the checkpoint is called: as the folder of a {@code config.json}, or as a file of another name. */
  private static String name(Path config) {
    String name = config.getFileName().toString();
    Path parent = config.getParent().normalize().getFileName();
    if (!name.equals("config.json")) {
      return name.endsWith(".json") && name.length() > 5 ? name.substring(0, name.length() - 5) : name;
    }
    return parent == null ? "student" : parent.toString();
  }

  private static Path tokenizer(Path config, Model teacher) throws DistillException {
    Path source = teacher.source();
    Path theirs = Files.isDirectory(source) ? source : source.toAbsolutePath().getParent();
    boolean gguf = !Files.isDirectory(source) && !source.toString().endsWith(".safetensors");
    for (Path folder : gguf ? List.of(config.getParent()) : List.of(config.getParent(), theirs)) {
      if (
        Files.isRegularFile(folder.resolve("tokenizer.json")) || Files.isRegularFile(folder.resolve("tokenizer.model"))
      ) {
        return folder;
      }
    }
    throw new DistillException(
      config.getParent() +
        ": no tokenizer.json or tokenizer.model, and the teacher " +
        source +
        " is no Hugging Face folder that has one: copy the tokenizer's files of the teacher's checkpoint beside " +
        config.getFileName()
    );
  }

  private static DoubleSupplier values(SafetensorsWriter.Entry tensor, double range, double residual, long seed) {
    String name = tensor.name();
    if (name.endsWith("norm.weight")) {
      return () -> 1;
    }
    if (name.endsWith(".bias")) {
      return () -> 0;
    }
    boolean adds = name.endsWith(".o_proj.weight") || name.endsWith(".down_proj.weight");
    double deviation = adds ? residual : range;
    // Of its own for each tensor, so that what a tensor gets does not depend on the order of the file.
    SplittableRandom random = new SplittableRandom(new SplittableRandom(seed).nextLong() ^ hash(name));
    return () -> deviation * random.nextGaussian();
  }

  /** The 64-bit FNV-1a of a name. */
  private static long hash(String name) {
    long hash = 0xcbf29ce484222325L;
    for (int i = 0; i < name.length(); i++) {
      hash = (hash ^ name.charAt(i)) * 0x100000001b3L;
    }
    return hash;
  }
}
