package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/**
 * What a pruned model is written as.
 *
 * @param path its name
 * @param isFolder whether it is a Hugging Face folder, not a GGUF file
 */
record PruneOutput(Path path, boolean isFolder) {
  /** Endings that are likely meant for a file. */
  private static final List<String> NO_FOLDER = List.of(".safetensors", ".bin", ".pt", ".pth", ".json");

  /** What a name stands for: a folder if it does not end in {@code .gguf}. */
  static PruneOutput of(Path path) {
    Path name = path.getFileName();
    boolean isFile = name != null && name.toString().toLowerCase(Locale.ROOT).endsWith(".gguf");
    return new PruneOutput(path, !isFile);
  }

  /** The folder of the checkpoint that a model is, beside its output. */
  static Path checkpoint(Model model) {
    Path source = model.source();
    return Files.isDirectory(source) ? source : source.toAbsolutePath().getParent();
  }

  /** Whether a model can become a folder: if it is one. */
  static boolean isCheckpoint(Model model) {
    return !(model instanceof GgufModel);
  }

  /**
   * Checks, before long work, that it can be written and is nothing that is read.
   *
   * @param inputs the files that are read
   */
  void check(Model model, boolean overwrite, List<Path> inputs) throws IOException {
    if (!isFolder) {
      Output.check(path, overwrite, inputs);
      return;
    }
    String name = String.valueOf(path.getFileName()).toLowerCase(Locale.ROOT);
    if (name.equals("-") || NO_FOLDER.stream().anyMatch(name::endsWith)) {
      throw new IOException(
        path + ": no name for a Hugging Face folder, expected one without such an ending, or *.gguf"
      );
    }
    List<Path> sources = new ArrayList<>(inputs);
    sources.add(checkpoint(model));
    HuggingFaceWriter.checkOutput(path, overwrite, sources);
  }

  /** The bytes that were written: of the file, or of the folder's tensors. */
  long bytes() throws IOException {
    if (!isFolder) {
      return Files.size(path);
    }
    long bytes = 0;
    try (Stream<Path> files = Files.list(path)) {
      for (Path file : files.filter(f -> f.toString().endsWith(".safetensors")).toList()) {
        bytes += Files.size(file);
      }
    }
    return bytes;
  }
}
