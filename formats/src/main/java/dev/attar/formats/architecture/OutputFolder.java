package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.formats.json.JsonFiles;
import dev.attar.formats.safetensors.SafetensorsShard;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.channels.ClosedByInterruptException;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.regex.Pattern;

/**
 * A folder that is written whole or not at all: its files go to a temporary folder beside it, which takes its name in {@link #commit}.
 * Until then, and if anything fails, the process is told to end, or this is closed, there is nothing new under the name, and the
 * temporary is gone.
 */
final class OutputFolder implements AutoCloseable {

  /** The files of a checkpoint: those that are written into one, or come with it. */
  private static final Pattern OF_CHECKPOINTS = Pattern.compile(
    "config\\.json|.*\\.safetensors|.*\\.safetensors\\.index\\.json|generation_config\\.json|tokenizer.*|.*\\.model|" +
      "vocab\\..*|merges\\.txt|special_tokens_map\\.json|added_tokens\\.json|chat_template.*"
  );

  private static final String TEMPLATES = "additional_chat_templates";

  private final Path out;
  private final Path target;
  private final Path temporary;
  private final boolean overwrite;
  private final List<Path> sources;

  private OutputFolder(Path out, Path target, boolean overwrite, List<Path> sources) {
    this.out = out;
    this.target = target;
    this.temporary = OutputFiles.temporaryBeside(target);
    this.overwrite = overwrite;
    this.sources = sources;
  }

  /**
   * Checks what {@link #create} would, without writing.
   *
   * @return the absolute path that will be written, links followed
   */
  static Path check(Path out, boolean overwrite, List<Path> sources) throws IOException {
    if (out.getFileName() == null) {
      throw new FileAlreadyExistsException(out.toString(), null, "expected the name of a folder to write");
    }
    if (!Files.exists(out)) {
      Path target = out.toAbsolutePath();
      if (Files.notExists(target.getParent())) {
        throw new NoSuchFileException(out.toString(), null, "the folder " + target.getParent() + " does not exist");
      }
      if (!Files.isDirectory(target.getParent())) {
        throw new IOException(out + ": " + target.getParent() + " is not a folder", new NotDirectoryException(""));
      }
      return target;
    }
    if (!Files.isDirectory(out)) {
      throw new FileAlreadyExistsException(out.toString(), null, "is a file, expected the name of a folder to write");
    }
    if (!overwrite) {
      throw alreadyExists(out);
    }
    Path target = out.toRealPath();
    for (Path source : sources) {
      if (source.toRealPath().startsWith(target)) {
        throw refused(out, "holds " + source + ", which is read");
      }
    }
    checkReplaceable(out);
    return target;
  }

  private static FileAlreadyExistsException alreadyExists(Path out) {
    return new FileAlreadyExistsException(out.toString(), null, "already exists, use --overwrite to replace it");
  }

  private static FileAlreadyExistsException refused(Path out, String reason) {
    return new FileAlreadyExistsException(out.toString(), null, reason + ", and is not replaced");
  }

  /** A folder is replaced with all that is in it: only one that surely is a checkpoint and nothing else. */
  private static void checkReplaceable(Path out) throws IOException {
    List<Path> entries = OutputFiles.entries(out);
    if (entries.isEmpty()) {
      return;
    }
    for (Path entry : entries) {
      boolean folder = Files.isDirectory(entry, LinkOption.NOFOLLOW_LINKS);
      if (folder && !entry.endsWith(TEMPLATES)) {
        throw refused(out, "has the folder " + entry.getFileName() + " in it, as no checkpoint has");
      }
    }
    ObjectNode config;
    try {
      config = JsonFiles.objectIfPresent(out.resolve("config.json")).orElse(null);
    } catch (IOException _) {
      config = null;
    }
    if (config == null || !config.has("architectures")) {
      throw refused(out, "is neither empty nor a checkpoint, with a config.json that names architectures");
    }
    for (Path entry : entries) {
      String name = entry.getFileName().toString();
      if (!Files.isDirectory(entry, LinkOption.NOFOLLOW_LINKS) && !OF_CHECKPOINTS.matcher(name).matches()) {
        throw refused(out, "has the file " + name + " in it, which belongs to no checkpoint");
      }
    }
  }

  /**
   * Checks that the folder can be written and begins a temporary one.
   *
   * @param out the folder to be; a symbolic link is followed
   * @param overwrite whether a folder that is there is replaced, if it is empty or a checkpoint
   * @param sources files and folders that are read; a folder that holds one is not replaced
   * @param bytes how many are going to be written
   * @throws FileAlreadyExistsException if there is a folder that is not to be replaced, or a file of this name
   * @throws IOException if the parent folder is missing, the disk has too little room, or nothing can be written there
   */
  static OutputFolder create(Path out, boolean overwrite, List<Path> sources, long bytes) throws IOException {
    Path target = check(out, overwrite, sources);
    GgufWriter.checkSpace(out, target.getParent(), bytes);
    OutputFolder folder = new OutputFolder(out, target, overwrite, List.copyOf(sources));
    OutputFiles.addTemporary(folder.temporary);
    try {
      Files.createDirectory(folder.temporary);
    } catch (IOException e) {
      OutputFiles.removeTemporary(folder.temporary);
      throw OutputFiles.cannotWrite(out, e);
    }
    return folder;
  }

  /** The temporary folder. */
  Path path() {
    return temporary;
  }

  /** Something that writes to the temporary folder. */
  @FunctionalInterface
  interface Step {
    void run() throws IOException;
  }

  /** Has an error name the output. */
  void writing(Step step) throws IOException {
    try {
      step.run();
    } catch (ClosedByInterruptException e) {
      throw e;
    } catch (IOException e) {
      throw OutputFiles.cannotWrite(out, e);
    }
  }

  /** Begins a file of tensors. */
  SafetensorsWriter create(SafetensorsShard shard) throws IOException {
    SafetensorsWriter[] file = new SafetensorsWriter[1];
    writing(() -> file[0] = SafetensorsWriter.create(temporary.resolve(shard.file()), shard.tensors()));
    return file[0];
  }

  /** Writes a file. */
  void write(String name, byte[] bytes) throws IOException {
    copy(new ByteArrayInputStream(bytes), temporary.resolve(name));
  }

  /**
   * Copies the files of a folder that belong to the use of its weights: the tokenizer's, those of chat templates, and what is recommended
   * for generation.
   */
  void copyCompanions(Path source) throws IOException {
    for (Path file : OutputFiles.entries(source)) {
      String name = file.getFileName().toString();
      if (Files.isRegularFile(file) && isCompanion(name)) {
        copy(file, temporary.resolve(name));
      }
    }
    Path templates = source.resolve(TEMPLATES);
    if (Files.isDirectory(templates)) {
      Path copies = temporary.resolve(TEMPLATES);
      writing(() -> Files.createDirectory(copies));
      for (Path file : OutputFiles.entries(templates)) {
        if (Files.isRegularFile(file)) {
          copy(file, copies.resolve(file.getFileName()));
        }
      }
      OutputFiles.syncFolder(copies);
    }
  }

  private static boolean isCompanion(String name) {
    return switch (name) {
      case
        "merges.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "generation_config.json",
        "tekken.json" -> true;
      default -> name.startsWith("tokenizer") ||
      name.startsWith("vocab") ||
      name.startsWith("chat_template") ||
      name.endsWith(".model") ||
      name.endsWith(".tiktoken");
    };
  }

  private void copy(Path from, Path to) throws IOException {
    try (InputStream in = Files.newInputStream(from)) {
      copy(in, to);
    }
  }

  private void copy(InputStream from, Path to) throws IOException {
    writing(() -> {
      Files.copy(from, to);
      try (FileChannel channel = FileChannel.open(to, StandardOpenOption.WRITE)) {
        channel.force(true);
      }
    });
  }

  /**
   * Gives the folder its name. One that is replaced is moved aside for the moment and then deleted.
   *
   * @throws IOException if that fails, or a folder of that name has appeared and is not to be replaced
   */
  void commit() throws IOException {
    OutputFiles.syncFolder(temporary);
    if (!Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
      writing(() -> Files.move(temporary, target));
      OutputFiles.syncFolder(target.getParent());
      return;
    }
    check(out, overwrite, sources);
    Path old = OutputFiles.temporaryBeside(target);
    writing(() -> replace(old));
    OutputFiles.syncFolder(target.getParent());
    OutputFiles.addTemporary(old);
    OutputFiles.delete(old);
    OutputFiles.removeTemporary(old);
  }

  private void replace(Path old) throws IOException {
    Files.move(target, old);
    try {
      Files.move(temporary, target);
    } catch (IOException e) {
      Files.move(old, target);
      throw e;
    }
  }

  /** Deletes the temporary unless {@link #commit} has succeeded. */
  @Override
  public void close() throws IOException {
    OutputFiles.delete(temporary);
    OutputFiles.removeTemporary(temporary);
  }
}
