package dev.attar.formats.gguf;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.Utf8;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/**
 * What stands before the tensors' bytes in a GGUF file, checked: every tensor's bytes lie inside the file, aligned, and no two overlap.
 *
 * @param version 2 or 3
 * @param metadata all keys, in the order of the file
 * @param alignment in bytes, a power of two
 * @param dataOffset where the tensors' bytes begin, from the start of the file
 * @param tensors in the order of the file
 * @param offsets of each tensor's bytes, from {@code dataOffset}
 */
record GgufHeader(
  int version,
  Metadata metadata,
  long alignment,
  long dataOffset,
  List<TensorInfo> tensors,
  List<Long> offsets
) {
  static final String ALIGNMENT_KEY = "general.alignment";
  static final int DEFAULT_ALIGNMENT = 32;
  static final int MAX_HEADER_BYTES = 100_000_000;

  /** Reads and checks a header. The segment is the whole file; {@code file} is its name in messages. */
  static GgufHeader read(Path file, MemorySegment bytes) throws FormatException {
    return new Reader(file, bytes).read();
  }

  private static final class Reader {

    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(
      ByteOrder.LITTLE_ENDIAN
    );
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final MetadataValue.Type[] TYPES = MetadataValue.Type.values();

    private static final int MAX_ARRAY_DEPTH = 8;
    // A million-token vocabulary with merges stays below it; a file of empty strings made to fill the heap does not.
    private static final long MAX_HEAP_BYTES = 256L << 20;
    // Rough sizes on the heap, to hold against the limit above.
    private static final int HEAP_PER_STRING = 56;
    private static final int HEAP_PER_VALUE = 48;
    private static final int HEAP_PER_ENTRY = 160;

    private static final int MIN_ENTRY_BYTES = 8 + 1 + 4 + 1;
    private static final int MIN_TENSOR_BYTES = 8 + 4 + 4 + 8;
    private static final int MAX_DIMENSIONS = 4;

    private final Path file;
    private final MemorySegment bytes;
    private final long end;
    private long at;
    private long heap;
    private String kind = "";
    private String name = ""; // of the key or tensor that is being read, for messages

    Reader(Path file, MemorySegment bytes) {
      this.file = file;
      this.bytes = bytes;
      this.end = Math.min(bytes.byteSize(), MAX_HEADER_BYTES);
    }

    GgufHeader read() throws FormatException {
      int version = readMagicAndVersion();
      long tensorCount = readCount("tensors", MIN_TENSOR_BYTES);
      long entryCount = readCount("metadata entries", MIN_ENTRY_BYTES);
      Metadata metadata = readMetadata(entryCount);
      long alignment = alignment(metadata);
      List<TensorInfo> tensors = new ArrayList<>();
      List<Long> offsets = new ArrayList<>();
      Set<String> names = new HashSet<>();
      for (long i = 0; i < tensorCount; i++) {
        TensorInfo tensor = readTensor(i);
        if (!names.add(tensor.name())) {
          throw new FormatException(file, place() + ": a second tensor of this name");
        }
        tensors.add(tensor);
        offsets.add(readLong("its data offset"));
      }
      long dataOffset = Math.ceilDiv(at, alignment) * alignment;
      checkOffsets(tensors, offsets, alignment, dataOffset);
      return new GgufHeader(version, metadata, alignment, dataOffset, List.copyOf(tensors), List.copyOf(offsets));
    }

    private int readMagicAndVersion() throws FormatException {
      byte[] magic = new byte[(int) Math.min(4, end)];
      MemorySegment.copy(bytes, JAVA_BYTE, 0, magic, 0, magic.length);
      String text = new String(magic, StandardCharsets.ISO_8859_1);
      if (!text.equals("GGUF")) {
        throw new FormatException(file, "byte 0", Utf8.quote(text), "'GGUF'");
      }
      at = 4;
      int version = readInt("the version");
      if ((version & 0xFFFF) == 0 && version != 0) {
        int swapped = Integer.reverseBytes(version);
        throw new FormatException(file, "byte 4", "a big-endian file of version " + swapped, "a little-endian file");
      }
      if (version != 2 && version != 3) {
        throw new FormatException(file, "byte 4", "GGUF version " + Integer.toUnsignedString(version), "2 or 3");
      }
      return version;
    }

    private Metadata readMetadata(long count) throws FormatException {
      Map<String, MetadataValue> entries = new LinkedHashMap<>();
      for (long i = 0; i < count; i++) {
        kind = "";
        String key = readString("a metadata key");
        if (key.isEmpty()) {
          throw new FormatException(file, "byte " + (at - 8), "an empty metadata key", "a name");
        }
        kind = "key";
        name = key;
        if (entries.containsKey(key)) {
          throw new FormatException(file, place() + ": a second entry of this key");
        }
        use(HEAP_PER_ENTRY);
        entries.put(key, readValue(readType(), 0));
      }
      return Metadata.of(entries);
    }

    private MetadataValue.Type readType() throws FormatException {
      int id = readInt("its type");
      if (id < 0 || id >= TYPES.length) {
        throw new FormatException(file, place(), "value type " + Integer.toUnsignedString(id), "0 to 12");
      }
      return TYPES[id];
    }

    private MetadataValue readValue(MetadataValue.Type type, int depth) throws FormatException {
      return switch (type) {
        case STRING -> new MetadataValue(type, null, readString("its value"));
        case FLOAT32 -> new MetadataValue(type, null, Float.intBitsToFloat(readInt("its value")));
        case FLOAT64 -> new MetadataValue(type, null, Double.longBitsToDouble(readLong("its value")));
        case BOOL -> new MetadataValue(type, null, readInteger(type) != 0);
        case ARRAY -> readArray(depth + 1);
        default -> new MetadataValue(type, null, readInteger(type));
      };
    }

    private MetadataValue readArray(int depth) throws FormatException {
      if (depth > MAX_ARRAY_DEPTH) {
        throw new FormatException(file, place() + ": arrays nested deeper than " + MAX_ARRAY_DEPTH);
      }
      MetadataValue.Type type = readType();
      long length = readLong("its length");
      int elementBytes = switch (type) {
        case STRING -> 8;
        case ARRAY -> 12;
        default -> type.bytes();
      };
      if (length < 0 || length > (end - at) / elementBytes) {
        String found = "an array of " + Long.toUnsignedString(length) + " elements";
        throw new FormatException(file, place(), found, atMost((end - at) / elementBytes));
      }
      int n = (int) length;
      use(HEAP_PER_VALUE + 8L * n);
      Object values = switch (type) {
        case STRING -> {
          String[] strings = new String[n];
          for (int i = 0; i < n; i++) {
            strings[i] = readString("its value");
          }
          yield strings;
        }
        case ARRAY -> {
          MetadataValue[] arrays = new MetadataValue[n];
          for (int i = 0; i < n; i++) {
            arrays[i] = readArray(depth + 1);
          }
          yield arrays;
        }
        case BOOL -> {
          boolean[] flags = new boolean[n];
          for (int i = 0; i < n; i++) {
            flags[i] = readInteger(type) != 0;
          }
          yield flags;
        }
        case FLOAT32 -> {
          float[] numbers = new float[n];
          for (int i = 0; i < n; i++) {
            numbers[i] = Float.intBitsToFloat(readInt("its value"));
          }
          yield numbers;
        }
        case FLOAT64 -> {
          double[] numbers = new double[n];
          for (int i = 0; i < n; i++) {
            numbers[i] = Double.longBitsToDouble(readLong("its value"));
          }
          yield numbers;
        }
        default -> {
          long[] numbers = new long[n];
          for (int i = 0; i < n; i++) {
            numbers[i] = readInteger(type);
          }
          yield numbers;
        }
      };
      return new MetadataValue(MetadataValue.Type.ARRAY, type, values);
    }

    private long readInteger(MetadataValue.Type type) throws FormatException {
      long start = take(type.bytes(), "its value");
      return switch (type) {
        case UINT8, BOOL -> bytes.get(JAVA_BYTE, start) & 0xFFL;
        case INT8 -> bytes.get(JAVA_BYTE, start);
        case UINT16 -> bytes.get(SHORT, start) & 0xFFFFL;
        case INT16 -> bytes.get(SHORT, start);
        case UINT32 -> bytes.get(INT, start) & 0xFFFF_FFFFL;
        case INT32 -> bytes.get(INT, start);
        default -> bytes.get(LONG, start);
      };
    }

    private long alignment(Metadata metadata) throws FormatException {
      Optional<MetadataValue> value = metadata.get(ALIGNMENT_KEY);
      if (value.isEmpty()) {
        return DEFAULT_ALIGNMENT;
      }
      if (value.get().type() != MetadataValue.Type.UINT32 || Long.bitCount((long) value.get().value()) != 1) {
        String found = value.get().type() + " " + Utf8.quote(value.get().toString());
        throw new FormatException(file, "key " + ALIGNMENT_KEY, found, "UINT32, a power of two");
      }
      return (long) value.get().value();
    }

    private TensorInfo readTensor(long index) throws FormatException {
      kind = "";
      String tensor = readString("the name of tensor " + index);
      kind = "tensor";
      name = tensor;
      use(HEAP_PER_ENTRY);
      int rank = readInt("its number of dimensions");
      if (rank < 0 || rank > MAX_DIMENSIONS) {
        throw new FormatException(file, place(), Integer.toUnsignedString(rank) + " dimensions", "at most 4");
      }
      long[] shape = new long[Math.max(rank, 1)];
      shape[0] = 1; // no dimensions at all: one value
      for (int i = 0; i < rank; i++) {
        shape[i] = readLong("its dimensions");
        if (shape[i] <= 0) {
          String found = "dimension " + i + " of " + Long.toUnsignedString(shape[i]);
          throw new FormatException(file, place(), found, "1 to " + Long.MAX_VALUE);
        }
      }
      int id = readInt("its type");
      Optional<TensorType> type = TensorType.byId(id);
      if (type.isEmpty()) {
        String found = "tensor type " + Integer.toUnsignedString(id);
        throw new FormatException(file, place(), found, "a type of ggml that is in use");
      }
      if (shape[0] % type.get().blockLength() != 0) {
        String expected = "a multiple of " + type.get().blockLength() + " for " + type.get();
        throw new FormatException(file, place(), "rows of " + shape[0] + " values", expected);
      }
      try {
        return new TensorInfo(tensor, type.get(), shape);
      } catch (ArithmeticException _) {
        throw new FormatException(file, place() + ": the product of its dimensions exceeds 2^63");
      }
    }

    private void checkOffsets(List<TensorInfo> tensors, List<Long> offsets, long alignment, long dataOffset)
      throws FormatException {
      int[] order = IntStream.range(0, tensors.size())
        .boxed()
        .sorted(Comparator.comparing(offsets::get, Long::compareUnsigned))
        .mapToInt(Integer::intValue)
        .toArray();
      long dataBytes = bytes.byteSize() - dataOffset;
      long free = 0;
      String before = "";
      for (int i : order) {
        TensorInfo tensor = tensors.get(i);
        long offset = offsets.get(i);
        if (Long.remainderUnsigned(offset, alignment) != 0) {
          String found = "data offset " + Long.toUnsignedString(offset);
          throw new FormatException(file, "tensor " + Utf8.quote(tensor.name()), found, "a multiple of " + alignment);
        }
        if (offset < 0 || tensor.bytes() > dataBytes || offset > dataBytes - tensor.bytes()) {
          String found = "a file of " + bytes.byteSize() + " bytes";
          String expected =
            tensor.bytes() + " bytes of data at byte " + dataOffset + " + " + Long.toUnsignedString(offset);
          throw new FormatException(file, "tensor " + Utf8.quote(tensor.name()), found, expected);
        }
        if (offset < free) {
          throw new FormatException(
            file,
            "tensor " + Utf8.quote(tensor.name()) + ": its data overlaps that of tensor " + before
          );
        }
        free = offset + tensor.bytes();
        before = Utf8.quote(tensor.name());
      }
    }

    /** The current byte and the key or tensor being read. */
    private String place() {
      return "byte " + at + (kind.isEmpty() ? "" : ", " + kind + " " + Utf8.quote(name));
    }

    private String limit() {
      return end == bytes.byteSize() ? "file" : "100 MB that a header may have";
    }

    private String atMost(long count) {
      return "at most " + count + " in what is left of the " + limit();
    }

    private long readCount(String what, int minBytes) throws FormatException {
      long count = readLong("the number of " + what);
      if (count < 0 || count > (end - at) / minBytes) {
        String found = Long.toUnsignedString(count) + " " + what;
        throw new FormatException(file, place(), found, atMost((end - at) / minBytes));
      }
      return count;
    }

    private int readInt(String what) throws FormatException {
      return bytes.get(INT, take(4, what));
    }

    private long readLong(String what) throws FormatException {
      return bytes.get(LONG, take(8, what));
    }

    private String readString(String what) throws FormatException {
      long length = readLong(what);
      if (length < 0 || length > end - at) {
        String found = "a string of " + Long.toUnsignedString(length) + " bytes";
        throw new FormatException(file, place(), found, atMost(end - at));
      }
      if (length == 0) {
        return "";
      }
      use(HEAP_PER_STRING + 2 * length);
      byte[] text = new byte[(int) length];
      MemorySegment.copy(bytes, JAVA_BYTE, at, text, 0, text.length);
      at += length;
      return Utf8.decode(text);
    }

    /** Moves past {@code count} bytes and returns where they begin. */
    private long take(int count, String what) throws FormatException {
      if (count > end - at) {
        throw new FormatException(file, place(), "the end of the " + limit(), what);
      }
      long start = at;
      at += count;
      return start;
    }

    private void use(long heapBytes) throws FormatException {
      heap += heapBytes;
      if (heap > MAX_HEAP_BYTES) {
        String problem = ": metadata that would take more than " + (MAX_HEAP_BYTES >> 20) + " MB of memory";
        throw new FormatException(file, place() + problem);
      }
    }
  }
}
