package dev.attar.cli;

import dev.attar.distill.DistillRun;
import dev.attar.formats.FormatException;
import dev.attar.formats.OutputFiles;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Where a distillation keeps what it has done, so that a later one can go on after a crash or a kill: a folder beside the output, {@code
 * OUT.work}, with the layers that were chosen and the folder of the training. It is gone once the output is there.
 *
 * @param path the folder
 */
record DistillWork(Path path) {
  private static final String TRAINING = "training";
  private static final String LAYERS = "layers";
  private static final String LAYERS_PART = LAYERS + ".part";

  /** The folder of an output, which need not exist. */
  static DistillWork of(Path out) {
    return new DistillWork(out.resolveSibling(out.getFileName() + ".work"));
  }

  /**
   * Checks, before long work, that a run may use it.
   *
   * @param resume whether to go on with what is there
   * @param overwrite whether to replace what is there
   * @throws FileAlreadyExistsException if there is something, and it is neither to be used nor replaced, or is of something else
   */
  void check(boolean resume, boolean overwrite) throws IOException {
    if (!isThere()) {
      return;
    }
    Set<String> known = Set.of(TRAINING, LAYERS, LAYERS_PART);
    boolean own =
      Files.isDirectory(path) &&
      OutputFiles.entries(path)
        .stream()
        .allMatch(entry -> known.contains(entry.getFileName().toString()));
    if (!own) {
      throw new FileAlreadyExistsException(
        path.toString(),
        null,
        "is not of an interrupted run, and in the way of this one"
      );
    }
    DistillRun.requireFree(training());
    if (!resume && !overwrite) {
      throw new FileAlreadyExistsException(
        path.toString(),
        null,
        "left by an interrupted run; --resume goes on with it, --overwrite starts anew"
      );
    }
  }

  /** Whether there is one. */
  boolean isThere() {
    return Files.exists(path);
  }

  /** Makes it, empty unless there is something to go on with. */
  void begin(boolean resume) throws IOException {
    DistillRun.requireFree(training());
    if (!resume) {
      OutputFiles.delete(path);
    }
    Files.createDirectories(path);
  }

  /** The folder of the training. */
  Path training() {
    return path.resolve(TRAINING);
  }

  /** The layers that were chosen, if they were. */
  Optional<List<Integer>> layers() throws IOException {
    Path file = path.resolve(LAYERS);
    if (Files.notExists(file)) {
      return Optional.empty();
    }
    String text = Files.readString(file).strip();
    if (!text.matches("\\d{1,6}(,\\d{1,6})*")) {
      throw new FormatException(file, "content", "something else", "numbers of layers");
    }
    return Optional.of(Arrays.stream(text.split(",")).map(Integer::valueOf).toList());
  }

  /** Keeps the layers that were chosen. */
  void putLayers(List<Integer> layers) throws IOException {
    Path part = path.resolve(LAYERS_PART);
    Files.writeString(part, layers.stream().map(String::valueOf).collect(Collectors.joining(",")));
    Files.move(part, path.resolve(LAYERS), StandardCopyOption.ATOMIC_MOVE);
  }

  /** Copies what was measured at each step. */
  void copyMetrics(Path file, boolean overwrite) throws IOException {
    try (StagedOutputs outputs = new StagedOutputs(file, overwrite)) {
      Files.copy(training().resolve("metrics.jsonl"), outputs.stage(file));
      outputs.commit();
    }
  }

  /** Whether there is something to go on with. */
  boolean isOfUse() {
    return Files.exists(path.resolve(LAYERS)) || Files.exists(training().resolve("checkpoint.json"));
  }

  /** Deletes it. */
  void delete() throws IOException {
    OutputFiles.delete(path);
  }
}
