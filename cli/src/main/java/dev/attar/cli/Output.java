package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** The file that a command writes. */
final class Output {

  private Output() {}

  /**
   * Checks, before long work, that the file can be written and is none of those that are read: a model cannot be had back from its
   * quantized form, so not even {@code --overwrite} replaces it.
   *
   * @param out the file to be
   * @param overwrite whether a file that is there may be replaced
   * @param inputs the files that are read
   * @throws IOException as {@link GgufWriter#checkOutput}, or if the file is one of those that are read
   */
  static void check(Path out, boolean overwrite, List<Path> inputs) throws IOException {
    GgufWriter.checkOutput(out, overwrite);
    if (Files.exists(out)) {
      for (Path input : inputs) {
        if (Files.isSameFile(out, input)) {
          throw new FileAlreadyExistsException(
            out.toString(),
            null,
            "is read by this command, give the output another name"
          );
        }
      }
    }
  }

  /** The files of a model: the parts of a GGUF, or all files of a checkpoint's folder but GGUFs. */
  static List<Path> inputs(Model model) throws IOException {
    if (model instanceof GgufModel gguf) {
      return new ArrayList<>(gguf.parts().stream().map(GgufModel.Part::path).toList());
    }
    Path source = model.source().toAbsolutePath();
    try (Stream<Path> files = Files.list(Files.isDirectory(source) ? source : source.getParent())) {
      return new ArrayList<>(files.filter(file -> !file.toString().endsWith(".gguf")).toList());
    }
  }
}
