package dev.attar.quant.gptq;

import dev.attar.formats.MappedFile;
import dev.attar.formats.TensorType;
import dev.attar.quant.QuantizationException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * Where a run keeps what it has done, so that a later one can go on after a crash or a kill: a folder beside the output, {@code
 * OUT.work}. Every file in it is there whole or not at all. It is gone once the output is there.
 */
final class WorkFolder implements AutoCloseable {

  /** The file of the importance matrix, which is measured first. */
  static final String IMPORTANCE = "imatrix.gguf";

  private static final String SETTINGS = "settings";
  private static final String TYPES = "types";
  private static final String LOCK = "lock";

  private final Path path;

  /** Holds the lock while it is open; the system frees it when the process ends, however it does. */
  private final FileChannel lock;

  private WorkFolder(Path path) throws IOException {
    this.path = path;
    Files.createDirectories(path);
    lock = FileChannel.open(path.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    try {
      if (lock.tryLock() == null) {
        throw inUse(null);
      }
    } catch (OverlappingFileLockException e) {
      lock.close();
      throw inUse(e);
    } catch (IOException e) {
      lock.close();
      throw e;
    }
  }

  private QuantizationException inUse(Exception cause) {
    return new QuantizationException(path + ": another run is making this output", cause);
  }

  /**
   * Opens the folder of an output.
   *
   * @param settings all that the result depends on, by name
   * @param resume whether to go on with one that is there
   * @param overwrite whether to replace one that is there
   * @throws FileAlreadyExistsException if there is one, and it is neither to be used nor replaced
   * @throws QuantizationException if it was made with other settings, or is in use by another run
   */
  static WorkFolder open(Path out, Map<String, String> settings, boolean resume, boolean overwrite) throws IOException {
    boolean left = Files.exists(of(out));
    if (left && !Files.exists(of(out).resolve(LOCK))) {
      throw new FileAlreadyExistsException(
        of(out).toString(),
        null,
        "is not of an interrupted run, and in the way of this one"
      );
    }
    WorkFolder folder = new WorkFolder(of(out));
    try {
      folder.begin(settings, left && resume, left && overwrite, left);
      return folder;
    } catch (IOException | RuntimeException e) {
      folder.close();
      throw e;
    }
  }

  private void begin(Map<String, String> settings, boolean resume, boolean overwrite, boolean left) throws IOException {
    if (resume) {
      requireSame(settings);
    } else if (overwrite) {
      empty();
    } else if (left) {
      throw new FileAlreadyExistsException(
        path.toString(),
        null,
        "left by an interrupted run; --resume goes on with it, --overwrite starts anew"
      );
    }
    Files.createDirectories(path.resolve("tensors"));
    Properties properties = new Properties();
    properties.putAll(settings);
    write(SETTINGS, to -> properties.store(to, null));
  }

  /** The folder of an output, which need not exist. */
  static Path of(Path out) {
    return out.resolveSibling(out.getFileName() + ".work");
  }

  private void requireSame(Map<String, String> settings) throws IOException {
    Path file = path.resolve(SETTINGS);
    if (!Files.exists(file)) {
      return; // killed before anything was done
    }
    Properties before = new Properties();
    try (InputStream in = Files.newInputStream(file)) {
      before.load(in);
    } catch (IllegalArgumentException e) {
      throw damaged(file, e);
    }
    Set<String> names = new LinkedHashSet<>(settings.keySet());
    names.addAll(new TreeSet<>(before.stringPropertyNames()));
    for (String name : names) {
      String was = before.getProperty(name, "nothing");
      String is = settings.getOrDefault(name, "nothing");
      if (!was.equals(is)) {
        throw new QuantizationException(
          path + ": the interrupted run had " + name + " " + was + ", this one has " + is + "; --overwrite starts anew"
        );
      }
    }
  }

  /** Where it is. */
  Path path() {
    return path;
  }

  /** Where things are that others write. */
  Path resolve(String name) {
    return path.resolve(name);
  }

  /** Writes to a stream. */
  @FunctionalInterface
  interface Content {
    void writeTo(OutputStream out) throws IOException;
  }

  /** Writes a file whole or not at all. */
  void write(String name, Content content) throws IOException {
    writeParts(name, channel -> content.writeTo(Channels.newOutputStream(channel)));
  }

  /**
   * Writes to a file anywhere.
   *
   * @param <E> what else may happen
   */
  @FunctionalInterface
  interface Parts<E extends Exception> {
    void writeTo(FileChannel file) throws IOException, E;
  }

  /** As {@link #write}, in any order. */
  <E extends Exception> void writeParts(String name, Parts<E> parts) throws IOException, E {
    Path part = path.resolve(name + ".part");
    try (
      FileChannel channel = FileChannel.open(
        part,
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE
      )
    ) {
      parts.writeTo(channel);
      channel.force(true);
    }
    Files.move(part, path.resolve(name), StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  /** The file of a tensor's encoded bytes, which need not exist. */
  Path tensorFile(String tensor) {
    return path.resolve(tensorName(tensor));
  }

  /** Its name within the folder. */
  static String tensorName(String tensor) {
    StringBuilder name = new StringBuilder("tensors/");
    for (byte b : tensor.getBytes(StandardCharsets.UTF_8)) {
      boolean plain =
        (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '_' || b == '.';
      name.append(plain ? String.valueOf((char) b) : "%%%02x".formatted(b));
    }
    return name.toString();
  }

  /** Notes the types that were chosen. */
  void writeTypes(TypeChoice choice) throws IOException {
    write(TYPES, to -> to.write(choice.text().getBytes(StandardCharsets.UTF_8)));
  }

  /** The types that an interrupted run has chosen. */
  Optional<TypeChoice> readTypes() throws IOException {
    Path file = path.resolve(TYPES);
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    try {
      return Optional.of(TypeChoice.parse(Files.readString(file)));
    } catch (IllegalArgumentException | CharacterCodingException e) {
      throw damaged(file, e);
    }
  }

  /** Notes what was done to a tensor. */
  void writeReport(TensorReport report) throws IOException {
    String line = report.type() + " " + report.damping() + " " + report.errorRatio();
    write(tensorName(report.name()) + ".report", to -> to.write(line.getBytes(StandardCharsets.UTF_8)));
  }

  /** What was done to a tensor whose file is there. */
  TensorReport readReport(String tensor) throws IOException {
    Path file = path.resolve(tensorName(tensor) + ".report");
    try {
      String[] words = Files.readString(file).trim().split(" ");
      return new TensorReport(
        tensor,
        TensorType.valueOf(words[0]),
        Double.parseDouble(words[1]),
        Double.parseDouble(words[2])
      );
    } catch (
      NoSuchFileException
      | CharacterCodingException
      | IllegalArgumentException
      | ArrayIndexOutOfBoundsException e
    ) {
      throw damaged(file, e);
    }
  }

  private static QuantizationException damaged(Path file, Exception cause) {
    return new QuantizationException(file + ": damaged or missing; --overwrite starts anew", cause);
  }

  /**
   * Maps a tensor's encoded bytes.
   *
   * @param bytes how many there must be
   * @return empty if it has not been written
   */
  Optional<MappedFile> tensor(String tensor, long bytes) throws IOException {
    Path file = tensorFile(tensor);
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    MappedFile mapped = MappedFile.open(file);
    if (mapped.size() != bytes) {
      long found = mapped.size();
      mapped.close();
      throw new QuantizationException(file + ": " + found + " bytes, expected " + bytes + " of " + tensor);
    }
    return Optional.of(mapped);
  }

  /** Removes a tensor's file if it does not have the bytes that it must have, so that the tensor is done again. */
  void deleteDamaged(String tensor, long bytes) throws IOException {
    Path file = tensorFile(tensor);
    if (Files.exists(file) && Files.size(file) != bytes) {
      Files.delete(file);
    }
  }

  /** Removes the folder if nothing in it took long to make: a run that failed at once is none to go on with. */
  void deleteIfIdle() throws IOException {
    if (lock.isOpen() && !Files.exists(path.resolve(IMPORTANCE))) {
      delete();
    }
  }

  /** Removes the folder with all that is in it, and ends its use. */
  void delete() throws IOException {
    empty();
    close();
    Files.delete(path.resolve(LOCK));
    Files.delete(path);
  }

  /** Removes all but the lock. */
  private void empty() throws IOException {
    try (Stream<Path> files = Files.walk(path)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        if (!file.equals(path) && !file.equals(path.resolve(LOCK))) {
          Files.delete(file);
        }
      }
    }
  }

  /** Ends the use of the folder, which stays if it has not been deleted. */
  @Override
  public void close() throws IOException {
    lock.close();
  }
}
