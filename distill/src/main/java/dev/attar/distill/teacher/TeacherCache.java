package dev.attar.distill.teacher;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.distill.DistillException;
import dev.attar.formats.FormatException;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.Utf8;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.zip.CRC32C;

/**
 * The folder of a {@link CachedTeacher}: {@value #HEADER} says what it is of and comes last, {@value #TOKENS} holds the tokens of all
 * windows, {@value #TOP} a {@link TopRecord} for each window, at its place, once it was asked of. A record that a killed run or a full disk
 * has left incomplete has another checksum than it says, and does not count; nothing has to be forced to the disk for that.
 */
final class TeacherCache implements AutoCloseable {

  static final String HEADER = "cache.json";
  static final String TOKENS = "tokens.bin";
  static final String TOP = "top.bin";

  private static final String LOCK = "lock";
  private static final String FORMAT = "attar teacher cache";
  private static final int VERSION = 1;
  private static final int MOST_WINDOWS = 1 << 29;

  private final Path folder;
  private final Map<String, String> identity;
  private final int k;

  /** Holds the lock while it is open; the system frees it when the process ends, however it does. */
  private final FileChannel lock;

  private FileChannel tokens;
  private FileChannel top;
  private Contents contents; // null as long as there are none
  private TopRecord record;

  /**
   * What the cache holds.
   *
   * @param training windows to train on
   * @param validation windows to validate with
   * @param context tokens in a window
   * @param vocabulary tokens that distributions are over
   * @param checksum of all tokens
   */
  record Contents(int training, int validation, int context, int vocabulary, long checksum) {
    int windows() {
      return training + validation;
    }
  }

  private TeacherCache(Path folder, TeacherIdentity identity, int k, float temperature) throws IOException {
    this.folder = folder;
    this.k = k;
    this.identity = new LinkedHashMap<>(identity.values());
    this.identity.put("likeliest tokens", String.valueOf(k));
    this.identity.put("temperature", String.valueOf(temperature));
    Files.createDirectories(folder);
    lock = FileChannel.open(folder.resolve(LOCK), StandardOpenOption.CREATE, StandardOpenOption.WRITE);
    try {
      if (lock.tryLock() == null) {
        throw new DistillException(folder + ": in use by another process");
      }
      Path header = folder.resolve(HEADER);
      if (Files.exists(header)) {
        read(header);
      }
    } catch (OverlappingFileLockException e) {
      close();
      throw new DistillException(folder + ": in use by this process", e);
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  /**
   * Opens a folder; makes it if it is missing.
   *
   * @throws DistillException if it is a cache of something else, or in use
   * @throws FormatException if it is damaged
   */
  static TeacherCache open(Path folder, TeacherIdentity identity, int k, float temperature) throws IOException {
    return new TeacherCache(folder, identity, k, temperature);
  }

  /** Bytes of all files, complete. */
  static long bytes(long windows, int context, int vocabulary, int k) {
    long record = new TopRecord(context, vocabulary, k).bytes();
    return windows * (record + (long) context * TopRecord.tokenBytes(vocabulary));
  }

  /** What it holds; empty if it is new. */
  Optional<Contents> contents() {
    return Optional.ofNullable(contents);
  }

  // --- The header.

  private void read(Path header) throws IOException {
    ObjectNode json = JsonFiles.strictObject(header, "content", Files.readAllBytes(header));
    require(header, "format", json.path("format").asText("nothing"), FORMAT);
    require(header, "version", json.path("version").asText("nothing"), String.valueOf(VERSION));
    JsonNode found = json.path("identity");
    List<String> names = new ArrayList<>(identity.keySet());
    found.fieldNames().forEachRemaining(names::add);
    for (String name : names) {
      String was = found.path(name).asText("nothing");
      String is = identity.getOrDefault(name, "nothing");
      if (!was.equals(is)) {
        throw new DistillException(
          folder + ": the cache is of other answers: " + name + " " + Utf8.quote(was) + ", expected " + is
        );
      }
    }
    Contents read = new Contents(
      number(header, json, "training", 1, MOST_WINDOWS),
      number(header, json, "validation", 1, MOST_WINDOWS),
      number(header, json, "context", 2, 1 << 20),
      number(header, json, "vocabulary", k + 1, Integer.MAX_VALUE),
      json.path("checksum").asLong(-1)
    );
    openFiles(read);
    Path file = folder.resolve(TOKENS);
    long bytes = (long) read.windows() * tokenRowBytes(read);
    require(file, "size", String.valueOf(tokens.size()), String.valueOf(bytes));
    require(file, "checksum", String.valueOf(checksumOfTokens()), String.valueOf(read.checksum));
  }

  private static int number(Path file, ObjectNode json, String name, int least, int most) throws FormatException {
    JsonNode node = json.path(name);
    if (!node.canConvertToInt() || !node.isIntegralNumber() || node.intValue() < least || node.intValue() > most) {
      throw new FormatException(
        file,
        "key " + name,
        Utf8.quote(node.toString()),
        "a number from " + least + " to " + most
      );
    }
    return node.intValue();
  }

  private static void require(Path file, String place, String found, String expected) throws FormatException {
    if (!found.equals(expected)) {
      throw new FormatException(file, place, Utf8.quote(found), expected);
    }
  }

  /**
   * Begins a new cache: what another one has left in the folder goes.
   *
   * @param teacher whose tokens are taken
   */
  void begin(Teacher teacher) throws IOException {
    Files.deleteIfExists(folder.resolve(TOP));
    Path file = folder.resolve(TOKENS);
    Path header = folder.resolve(HEADER);
    try {
      long checksum = writeTokens(teacher, file);
      Contents begun = new Contents(
        teacher.training(),
        teacher.validation(),
        teacher.context(),
        teacher.vocabulary(),
        checksum
      );
      openFiles(begun);
      Path part = folder.resolve(HEADER + ".part");
      write(part, ByteBuffer.wrap(JsonFiles.text(header(begun))));
      Files.move(part, header, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      OutputFiles.syncFolder(folder);
    } catch (IOException e) {
      throw OutputFiles.cannotWrite(folder, e);
    }
  }

  private ObjectNode header(Contents begun) {
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    json.put("format", FORMAT).put("version", VERSION);
    ObjectNode values = json.putObject("identity");
    identity.forEach(values::put);
    return json
      .put("training", begun.training)
      .put("validation", begun.validation)
      .put("context", begun.context)
      .put("vocabulary", begun.vocabulary)
      .put("checksum", begun.checksum);
  }

  private static void write(Path file, ByteBuffer bytes) throws IOException {
    try (
      FileChannel out = FileChannel.open(
        file,
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE
      )
    ) {
      writeFully(out, bytes, 0);
      out.force(true);
    }
  }

  private static void writeFully(FileChannel out, ByteBuffer bytes, long at) throws IOException {
    long place = at;
    while (bytes.hasRemaining()) {
      place += out.write(bytes, place);
    }
  }

  /** Gives whether there were enough bytes. */
  private static boolean readFully(FileChannel in, ByteBuffer to, long at) throws IOException {
    long place = at;
    while (to.hasRemaining()) {
      int read = in.read(to, place);
      if (read < 0) {
        return false;
      }
      place += read;
    }
    to.flip();
    return true;
  }

  private void openFiles(Contents of) throws IOException {
    tokens = FileChannel.open(folder.resolve(TOKENS), StandardOpenOption.READ);
    top = FileChannel.open(
      folder.resolve(TOP),
      StandardOpenOption.CREATE,
      StandardOpenOption.READ,
      StandardOpenOption.WRITE
    );
    contents = of;
    record = new TopRecord(of.context, of.vocabulary, k);
  }

  // --- Tokens.

  private static int tokenRowBytes(Contents of) {
    return of.context * TopRecord.tokenBytes(of.vocabulary);
  }

  private static ByteBuffer tokenRow(Teacher teacher, int window) throws IOException {
    int size = TopRecord.tokenBytes(teacher.vocabulary());
    ByteBuffer row = ByteBuffer.allocate(teacher.context() * size).order(ByteOrder.LITTLE_ENDIAN);
    for (int token : teacher.tokens(window)) {
      if (size == 2) {
        row.putShort((short) token);
      } else {
        row.putInt(token);
      }
    }
    return row.flip();
  }

  private static long writeTokens(Teacher teacher, Path file) throws IOException {
    CRC32C crc = new CRC32C();
    try (
      FileChannel out = FileChannel.open(
        file,
        StandardOpenOption.CREATE,
        StandardOpenOption.TRUNCATE_EXISTING,
        StandardOpenOption.WRITE
      )
    ) {
      long place = 0;
      for (int i = 0; i < teacher.training() + teacher.validation(); i++) {
        ByteBuffer row = tokenRow(teacher, i);
        crc.update(row.duplicate());
        int bytes = row.remaining();
        writeFully(out, row, place);
        place += bytes;
      }
      out.force(true);
    }
    return crc.getValue();
  }

  private long checksumOfTokens() throws IOException {
    CRC32C crc = new CRC32C();
    ByteBuffer part = ByteBuffer.allocate(1 << 20);
    for (long place = 0; ; place += part.position()) {
      part.clear();
      if (tokens.read(part, place) < 0) {
        return crc.getValue();
      }
      crc.update(part.duplicate().flip());
    }
  }

  /**
   * Checks that a teacher gives what this holds answers of.
   *
   * @throws DistillException if its windows are others
   */
  void check(Teacher teacher) throws IOException {
    CRC32C crc = new CRC32C();
    boolean same =
      teacher.training() == contents.training &&
      teacher.validation() == contents.validation &&
      teacher.context() == contents.context &&
      teacher.vocabulary() == contents.vocabulary;
    for (int i = 0; same && i < contents.windows(); i++) {
      crc.update(tokenRow(teacher, i));
    }
    if (!same || crc.getValue() != contents.checksum) {
      throw new DistillException(
        folder + ": a cache of other windows of tokens than the teacher makes of the texts now; delete it"
      );
    }
  }

  /** The tokens of a window. */
  int[] tokens(int window) throws IOException {
    int bytes = tokenRowBytes(contents);
    ByteBuffer row = ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
    Path file = folder.resolve(TOKENS);
    if (!readFully(tokens, row, (long) bytes * window)) {
      throw new FormatException(file, "window " + (window + 1), "the end", bytes + " bytes");
    }
    int[] numbers = new int[contents.context];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = bytes == 2 * numbers.length ? Short.toUnsignedInt(row.getShort()) : row.getInt();
      if (numbers[i] < 0 || numbers[i] >= contents.vocabulary) {
        String expected = "0 to " + (contents.vocabulary - 1);
        throw new FormatException(file, "window " + (window + 1), "token " + numbers[i], expected);
      }
    }
    return numbers;
  }

  // --- The likeliest tokens.

  /**
   * Reads what is stored of a window.
   *
   * @param toTokens for all rows of several windows
   * @param toLogProbabilities as well
   * @param row the window's first
   * @return false if nothing is, or not all of it
   * @throws FormatException if it is nothing that was written here
   */
  boolean find(int window, int[] toTokens, MemorySegment toLogProbabilities, int row) throws IOException {
    ByteBuffer bytes = record.buffer();
    if (!readFully(top, bytes, (long) window * record.bytes()) || !record.isWhole(window, bytes)) {
      return false;
    }
    Optional<String> problem = record.decode(bytes, toTokens, toLogProbabilities, row);
    if (problem.isPresent()) {
      throw new FormatException(folder.resolve(TOP), "window " + (window + 1) + ": " + problem.get());
    }
    return true;
  }

  /**
   * Stores an answer about a window.
   *
   * @param fromTokens of all rows of several windows
   * @param fromLogProbabilities as well
   * @param row the window's first
   * @return what is stored
   */
  ByteBuffer put(int window, int[] fromTokens, MemorySegment fromLogProbabilities, int row) throws IOException {
    ByteBuffer bytes = record.encode(window, fromTokens, fromLogProbabilities, row);
    try {
      writeFully(top, bytes, (long) window * record.bytes());
    } catch (IOException e) {
      throw OutputFiles.cannotWrite(folder.resolve(TOP), e);
    }
    return bytes;
  }

  /** Puts what is stored where {@link #find} would. */
  void read(ByteBuffer stored, int[] toTokens, MemorySegment toLogProbabilities, int row) {
    record.decode(stored, toTokens, toLogProbabilities, row);
  }

  @Override
  public void close() throws IOException {
    if (tokens != null) {
      tokens.close();
    }
    if (top != null) {
      top.close();
    }
    lock.close();
  }
}
