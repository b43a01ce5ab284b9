package dev.attar.cli;

import dev.attar.formats.OutputFiles;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.LinkedHashMap;
import java.util.Map;

/** Files of one folder that get their names together, or none of them does: until then they are in a hidden folder beside. */
final class StagedOutputs implements AutoCloseable {

  private final Path folder;
  private final boolean overwrite;
  private final Map<Path, Path> targets = new LinkedHashMap<>(); // by the temporary name
  private final Map<Path, Path> names = new LinkedHashMap<>(); // as the user says them

  /**
   * @param first one of the files
   * @param overwrite whether files that are there may be replaced
   */
  StagedOutputs(Path first, boolean overwrite) throws IOException {
    this.overwrite = overwrite;
    folder = OutputFiles.temporaryBeside(GgufWriter.checkOutput(first, overwrite));
    OutputFiles.addTemporary(folder);
    Files.createDirectory(folder);
  }

  /** Where to write a file. */
  Path stage(Path out) throws IOException {
    Path temporary = folder.resolve(out.getFileName());
    targets.put(temporary, GgufWriter.checkOutput(out, overwrite));
    names.put(temporary, out);
    return temporary;
  }

  /** An error without temporary names, which the user does not know. */
  IOException named(IOException e) {
    String message = ErrorReport.message(e);
    if (!message.contains(folder.toString())) {
      return e;
    }
    for (Map.Entry<Path, Path> name : names.entrySet()) {
      message = message.replace(name.getKey().toString(), name.getValue().toString());
    }
    return new IOException(message, e);
  }

  /** Gives all files their names; if that fails for one, all that was there before is there again. */
  void commit() throws IOException {
    Map<Path, Path> before = new LinkedHashMap<>(); // what was there, by its name
    Map<Path, Path> done = new LinkedHashMap<>();
    try {
      for (Map.Entry<Path, Path> file : targets.entrySet()) {
        Path target = file.getValue();
        if (Files.exists(target)) {
          if (!overwrite) {
            throw new FileAlreadyExistsException(
              names.get(file.getKey()).toString(),
              null,
              "already exists, use --overwrite to replace it"
            );
          }
          Path aside = folder.resolve("before-" + before.size());
          Files.move(target, aside, StandardCopyOption.ATOMIC_MOVE);
          before.put(target, aside);
        }
        Files.move(file.getKey(), target, StandardCopyOption.ATOMIC_MOVE);
        done.put(target, file.getKey());
      }
    } catch (IOException e) {
      undo(done, e);
      undo(swapped(before), e);
      throw e;
    }
    OutputFiles.syncFolder(folder.getParent());
  }

  private static Map<Path, Path> swapped(Map<Path, Path> before) {
    Map<Path, Path> swapped = new LinkedHashMap<>();
    before.forEach((target, aside) -> swapped.put(aside, target));
    return swapped;
  }

  private static void undo(Map<Path, Path> moves, IOException problem) {
    moves.forEach((from, to) -> {
      try {
        Files.move(from, to, StandardCopyOption.ATOMIC_MOVE);
      } catch (IOException e) {
        problem.addSuppressed(e);
      }
    });
  }

  @Override
  public void close() throws IOException {
    OutputFiles.delete(folder);
    OutputFiles.removeTemporary(folder);
  }
}
