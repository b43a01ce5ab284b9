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
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/**
 * What a model is written as that was made of another.
 *
 * @param path its name
 * @param isFolder whether it is a Hugging Face folder, not a GGUF file
 */
record ModelOutput(Path path, boolean isFolder) {
  /** Endings that are likely meant for a file. */
  private static final List<String> NO_FOLDER = List.of(".safetensors", ".bin", ".pt", ".pth", ".json");

  /** What a name stands for: a folder if it does not end in {@code .gguf}. */
  static ModelOutput of(Path path) {
    Path name = path.getFileName();
    boolean isFile = name != null && name.toString().toLowerCase(Locale.ROOT).endsWith(".gguf");
    return new ModelOutput(path, !isFile);
  }

  /** The folder of the checkpoint that a model is, beside its output. */
  static Path checkpoint(Model model) {
    Path source = model.source();
    return Files.isDirectory(source) ? source : source.toAbsolutePath().getParent();
  }

  /** Checks that an output of this kind can be made of a model: a folder only of one. */
  void requireSource(CommandSpec command, Model model) {
    if (isFolder && model instanceof GgufModel) {
      throw Usage.error(
        command,
        "a Hugging Face folder is made of a Hugging Face model only, " +
          model.source() +
          " is a GGUF file: expected an output named *.gguf"
      );
    }
  }

  /** Says that an option does not go with a folder. */
  ParameterException noFolder(CommandSpec command, String option) {
    return Usage.error(
      command,
      option + " is for a GGUF file, " + path + " is a Hugging Face folder: expected an output named *.gguf"
    );
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
