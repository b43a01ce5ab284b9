package dev.attar.formats.imatrix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.FormatException;
import dev.attar.formats.Utf8;
import dev.attar.formats.imatrix.ImportanceMatrix.Entry;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * The older form of an importance matrix, all numbers 32-bit little-endian: number of entries; for each the length of its name, the
 * name, a number of calls, a number of values, the values. Then, if the file goes on, the number of chunks, and if it goes on, the
 * length of the dataset's name and the name.
 */
final class LegacyImatrix {

  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final int MIN_ENTRY_BYTES = 4 + 4 + 4 + Float.BYTES;
  private static final int MAX_NAME_BYTES = 1024;
  private static final int MAX_DATASET_BYTES = 65536;
  private static final int MAX_ENTRIES = 1 << 20;

  private final Path path;
  private final MemorySegment bytes;
  private long at;

  private LegacyImatrix(Path path, MemorySegment bytes) {
    this.path = path;
    this.bytes = bytes;
  }

  /** Reads and checks a file's bytes; {@code closing} is run when the result is closed. */
  static ImportanceMatrix read(Path path, MemorySegment bytes, Runnable closing) throws FormatException {
    LegacyImatrix reader = new LegacyImatrix(path, bytes);
    Map<String, Entry> entries = reader.readEntries();
    int chunks = reader.left() > 0 ? reader.readCount("the number of chunks", 0, Integer.MAX_VALUE) : 0;
    int datasetBytes = reader.left() > 0
      ? reader.readCount("the length of the dataset's name", 0, MAX_DATASET_BYTES)
      : 0;
    List<String> datasets = datasetBytes > 0 ? List.of(reader.readName(datasetBytes)) : List.of();
    return new ImportanceMatrix(closing, path, true, entries, datasets, chunks);
  }

  private Map<String, Entry> readEntries() throws FormatException {
    if (left() < 4) {
      throw new FormatException(path, "byte 0", bytes.byteSize() + " bytes", "an importance matrix");
    }
    int count = bytes.get(INT, 0);
    at = 4;
    if (count < 1 || count > Math.min(MAX_ENTRIES, left() / MIN_ENTRY_BYTES)) {
      String expected = "'GGUF', or the number of entries of an importance matrix of " + bytes.byteSize() + " bytes";
      throw new FormatException(path, "byte 0", Integer.toUnsignedString(count), expected);
    }
    Map<String, Entry> entries = new LinkedHashMap<>();
    for (int i = 0; i < count; i++) {
      String name = readName(readCount("the length of the name of entry " + i, 1, MAX_NAME_BYTES));
      int calls = readCount("the number of calls of " + Utf8.quote(name), 0, Integer.MAX_VALUE);
      int values = readCount("the number of values of " + Utf8.quote(name), 1, Integer.MAX_VALUE);
      if (values > left() / Float.BYTES) {
        String expected = "at most " + left() / Float.BYTES + " in what is left of the file";
        throw new FormatException(path, "byte " + at + ", tensor " + Utf8.quote(name), values + " values", expected);
      }
      MemorySegment sums = bytes.asSlice(at, (long) values * Float.BYTES);
      at += sums.byteSize();
      ImportanceMatrix.checkSums(path, name, sums);
      if (entries.putIfAbsent(name, new Entry(sums, new long[] { calls })) != null) {
        throw new FormatException(path, "byte " + at + ": a second entry for tensor " + Utf8.quote(name));
      }
    }
    return entries;
  }

  private long left() {
    return bytes.byteSize() - at;
  }

  private int readCount(String what, int min, int max) throws FormatException {
    if (left() < 4) {
      throw new FormatException(path, "byte " + at, "the end of the file", what);
    }
    int count = bytes.get(INT, at);
    if (count < min || count > max) {
      throw new FormatException(path, "byte " + at, String.valueOf(count), what + ", " + min + " to " + max);
    }
    at += 4;
    return count;
  }

  /** Text of {@code length} bytes; like a C string it ends early at a zero. */
  private String readName(int length) throws FormatException {
    if (length > left()) {
      throw new FormatException(path, "byte " + at, "the end of the file", "a name of " + length + " bytes");
    }
    byte[] name = bytes.asSlice(at, length).toArray(JAVA_BYTE);
    at += length;
    String text = Utf8.decode(name);
    int end = text.indexOf('\0');
    return end < 0 ? text : text.substring(0, end);
  }
}
