package dev.attar.distill.train;

import dev.attar.distill.DistillException;
import dev.attar.formats.FormatException;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The folder in which a training keeps what it has done. {@code checkpoint.json} is a {@link Checkpoint}, and names the files of weights
 * that belong to it; they are complete before it takes the place of the one before, and what only that one named is deleted afterwards. So
 * whenever a process ends, there is a checkpoint with all that it names.
 */
final class WorkFiles implements AutoCloseable {

  static final String CHECKPOINT = "checkpoint.json";
  static final String METRICS = "metrics.jsonl";
  private static final String LOCK = "lock";

  private final Path path;

  /** Holds the lock while it is open; the system frees it when the process ends, however it does. */
  private final FileChannel lock;
  private final boolean made;
  private Optional<Checkpoint> last = Optional.empty();

  private WorkFiles(Path path, FileChannel lock, boolean made) {
    this.path = path;
    this.lock = lock;
    this.made = made;
  }

  /**
   * Opens a folder.
   *
   * @param settings all that the result depends on, by name
   * @param resume whether to go on with a checkpoint that is there
   * @throws FileAlreadyExistsException if there is one and it is not to be used, or the folder is of something else
   * @throws DistillException if it was made with other settings, or is in use by another run
   * @throws FormatException if it is damaged
   */
  static WorkFiles open(Path path, Map<String, String> settings, boolean resume) throws IOException {
    boolean made = !Files.exists(path);
    Files.createDirectories(path);
    if (!Files.exists(path.resolve(LOCK)) && !OutputFiles.entries(path).isEmpty()) {
      throw new FileAlreadyExistsException(path.toString(), null, "is not of a training, and in the way of this one");
    }
    FileChannel lock = FileChannel.open(path.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    try {
      if (lock.tryLock() == null) {
        throw inUse(path, null);
      }
      WorkFiles files = new WorkFiles(path, lock, made);
      files.begin(settings, resume);
      return files;
    } catch (OverlappingFileLockException e) {
      lock.close();
      throw inUse(path, e);
    } catch (IOException | RuntimeException e) {
      lock.close();
      throw e;
    }
  }

  /**
   * Checks that no run trains in a folder, which need not exist.
   *
   * @throws DistillException if one does
   */
  static void requireFree(Path path) throws IOException {
    if (Files.notExists(path.resolve(LOCK))) {
      return;
    }
    try (FileChannel lock = FileChannel.open(path.resolve(LOCK), StandardOpenOption.WRITE)) {
      if (lock.tryLock() == null) {
        throw inUse(path, null);
      }
    } catch (OverlappingFileLockException e) {
      throw inUse(path, e);
    }
  }

  private static DistillException inUse(Path path, Exception cause) {
    return new DistillException(path + ": another run trains here", cause);
  }

  private void begin(Map<String, String> settings, boolean resume) throws IOException {
    Path file = path.resolve(CHECKPOINT);
    if (Files.exists(file)) {
      if (!resume) {
        throw new FileAlreadyExistsException(
          path.toString(),
          null,
          "holds a training that can be gone on with, and in the way of a new one"
        );
      }
      Checkpoint checkpoint = Checkpoint.read(file);
      requireSame(checkpoint.settings(), settings);
      for (String name : Set.of(checkpoint.tensors(), checkpoint.best())) {
        if (!Files.isRegularFile(path.resolve(name))) {
          throw new FormatException(file, "names " + name + ", which is not there");
        }
      }
      last = Optional.of(checkpoint);
    } else {
      // Whoever was here was killed before there was anything to go on with.
      Files.deleteIfExists(path.resolve(METRICS));
    }
    deleteOthers();
  }

  private void requireSame(Map<String, String> before, Map<String, String> settings) throws DistillException {
    Set<String> names = new LinkedHashSet<>(settings.keySet());
    names.addAll(before.keySet());
    for (String name : names) {
      String was = before.getOrDefault(name, "nothing");
      String is = settings.getOrDefault(name, "nothing");
      if (!was.equals(is) && name.equals(Settings.IDENTITY)) {
        throw new DistillException(
          path + ": the training there is of another student, teacher or text: it was " + difference(was, is)
        );
      }
      if (!was.equals(is)) {
        throw new DistillException(
          path + ": the training there has " + name + " " + was + ", this one has " + is + ": it cannot go on with it"
        );
      }
    }
  }

  /** The first of the parts of an identity that differs. */
  private static String difference(String was, String is) {
    String[] before = was.split(", ", -1);
    String[] now = is.split(", ", -1);
    for (int i = 0; i < Math.min(before.length, now.length); i++) {
      if (!before[i].equals(now[i])) {
        return before[i] + ", this one is " + now[i];
      }
    }
    return was + ", this one is " + is;
  }

  /** What there is to go on with. */
  Optional<Checkpoint> last() {
    return last;
  }

  /** A file of the folder. */
  Path resolve(String name) {
    return path.resolve(name);
  }

  /** Where it is. */
  Path path() {
    return path;
  }

  /** Puts a checkpoint in the place of the last one. The files that it names must be there. */
  void commit(Checkpoint checkpoint) throws IOException {
    Path part = path.resolve(CHECKPOINT + TensorFile.PART);
    try (
      FileChannel channel = FileChannel.open(
        part,
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE
      )
    ) {
      ByteBuffer text = ByteBuffer.wrap(JsonFiles.text(checkpoint.json()));
      while (text.hasRemaining()) {
        channel.write(text);
      }
      channel.force(true);
    }
    // The names of the files of weights must be on the disk before the one that leads to them.
    OutputFiles.syncFolder(path);
    Files.move(part, path.resolve(CHECKPOINT), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
    OutputFiles.syncFolder(path);
    last = Optional.of(checkpoint);
    deleteOthers();
  }

  /** Deletes what is not complete, and the files of weights that the last checkpoint does not name. */
  private void deleteOthers() throws IOException {
    for (Path file : OutputFiles.entries(path)) {
      String name = file.getFileName().toString();
      boolean weights = Checkpoint.TENSORS.matcher(name).matches();
      boolean named = last.filter(c -> name.equals(c.tensors()) || name.equals(c.best())).isPresent();
      if ((weights && !named) || name.endsWith(TensorFile.PART)) {
        Files.delete(file);
      }
    }
  }

  /** Ends the use of the folder. Without a checkpoint there is nothing to go on with, and it is left as it was found. */
  @Override
  public void close() throws IOException {
    if (last.isPresent()) {
      lock.close();
      return;
    }
    Files.deleteIfExists(path.resolve(METRICS));
    deleteOthers();
    lock.close();
    Files.delete(path.resolve(LOCK));
    if (made) {
      Files.delete(path);
    }
  }
}
