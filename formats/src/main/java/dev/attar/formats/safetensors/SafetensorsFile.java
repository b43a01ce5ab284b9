package dev.attar.formats.safetensors;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MappedFile;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

/**
 * One safetensors file, memory-mapped: eight bytes with the length of the header, the header in JSON, then the values. The header
 * is checked whole when the file is opened: every tensor has as many bytes as its type and shape need, and together they fill the
 * rest of the file without gap or overlap.
 */
public final class SafetensorsFile implements AutoCloseable {

  /** Longer headers are refused, as the format demands. */
  public static final long MAX_HEADER_BYTES = 100_000_000;

  /** More dimensions than this are refused. */
  private static final int MAX_DIMENSIONS = 32;

  private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final MappedFile file;
  private final List<StoredTensor> tensors;

  private SafetensorsFile(MappedFile file, List<StoredTensor> tensors) {
    this.file = file;
    this.tensors = tensors;
  }

  /**
   * Opens a file.
   *
   * @throws FormatException if the header is not in order
   * @throws IOException if the file cannot be read
   */
  public static SafetensorsFile open(Path path) throws IOException {
    MappedFile file = MappedFile.open(path);
    try {
      return new SafetensorsFile(file, read(path, file.bytes()));
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /** The file. */
  public Path path() {
    return file.path();
  }

  /** The tensors by name, in the order of Python's {@code sorted}. */
  public List<StoredTensor> tensors() {
    return tensors;
  }

  @Override
  public void close() {
    file.close();
  }

  /**
   * Reads the header.
   *
   * @param path the file, for messages
   * @param bytes all of it
   */
  static List<StoredTensor> read(Path path, MemorySegment bytes) throws IOException {
    if (bytes.byteSize() < 8) {
      throw new FormatException(path, "size", bytes.byteSize() + " bytes", "at least 8");
    }
    long headerBytes = bytes.get(LONG, 0);
    if (headerBytes < 0 || headerBytes > MAX_HEADER_BYTES) {
      String found = Long.toUnsignedString(headerBytes) + " bytes";
      throw new FormatException(path, "header length at byte 0", found, "at most " + MAX_HEADER_BYTES);
    }
    if (headerBytes > bytes.byteSize() - 8) {
      String expected = "at most the " + (bytes.byteSize() - 8) + " that the file has";
      throw new FormatException(path, "header length at byte 0", headerBytes + " bytes", expected);
    }
    byte[] json = bytes.asSlice(8, headerBytes).toArray(JAVA_BYTE);
    ObjectNode header = JsonFiles.strictObject(path, "header", json);
    MemorySegment data = bytes.asSlice(8 + headerBytes);

    List<Placed> placed = new ArrayList<>();
    for (Map.Entry<String, JsonNode> entry : header.properties()) {
      if (!entry.getKey().equals("__metadata__")) {
        placed.add(place(path, entry.getKey(), entry.getValue(), data));
      }
    }
    checkCoverage(path, placed, data.byteSize());
    return placed.stream().map(Placed::tensor).sorted(Comparator.comparing(StoredTensor::name)).toList();
  }

  private record Placed(StoredTensor tensor, long begin, long end) {}

  private static Placed place(Path path, String name, JsonNode entry, MemorySegment data) throws FormatException {
    String place = "tensor " + name;
    String typeName = entry.path("dtype").asText("");
    if (typeName.startsWith("F8_") || typeName.startsWith("F4") || typeName.startsWith("F6_")) {
      throw new FormatException(path, place + ": dtype " + typeName + " (weights already quantized) cannot be read");
    }
    ElementType type = ElementType.byName(typeName).orElse(null);
    if (type == null) {
      throw new FormatException(path, place, "dtype " + entry.path("dtype"), "one of " + List.of(ElementType.values()));
    }
    long[] shape = longs(path, place + " shape", entry.path("shape"), MAX_DIMENSIONS);
    JsonNode offsets = entry.path("data_offsets");
    long[] range = longs(path, place + " data_offsets", offsets, 2);
    if (range.length != 2 || range[0] > range[1] || range[1] > data.byteSize()) {
      String expected = "a range within the " + data.byteSize() + " bytes of data";
      throw new FormatException(path, place + " data_offsets", offsets.toString(), expected);
    }
    long size = type.bytes();
    try {
      for (long dimension : shape) {
        size = Math.multiplyExact(size, dimension);
      }
    } catch (ArithmeticException _) {
      throw new FormatException(path, place, "shape " + StoredTensor.shapeText(shape), "a size that fits 63 bits");
    }
    if (range[1] - range[0] != size) {
      String expected = size + " for " + type + " " + StoredTensor.shapeText(shape);
      throw new FormatException(path, place, (range[1] - range[0]) + " bytes", expected);
    }
    StoredTensor tensor = new StoredTensor(path, name, type, shape, data.asSlice(range[0], size));
    return new Placed(tensor, range[0], range[1]);
  }

  private static long[] longs(Path path, String place, JsonNode array, int max) throws FormatException {
    if (!array.isArray() || array.size() > max) {
      throw new FormatException(path, place, abbreviated(array), "a list of at most " + max + " numbers");
    }
    long[] values = new long[array.size()];
    for (int i = 0; i < values.length; i++) {
      JsonNode value = array.get(i);
      if (!value.isIntegralNumber() || !value.canConvertToLong() || value.longValue() < 0) {
        throw new FormatException(path, place, abbreviated(value), "a number from 0 to 2^63 - 1");
      }
      values[i] = value.longValue();
    }
    return values;
  }

  private static String abbreviated(JsonNode node) {
    if (node.isMissingNode()) {
      return "nothing";
    }
    String text = node.toString();
    return text.length() > 60 ? text.substring(0, 60) + "…" : text;
  }

  private static void checkCoverage(Path path, List<Placed> placed, long dataBytes) throws FormatException {
    placed.sort(Comparator.comparingLong(Placed::begin).thenComparingLong(Placed::end));
    long end = 0;
    for (Placed p : placed) {
      if (p.begin != end) {
        String problem = p.begin < end ? "overlap" : "gap";
        String found = "begin at byte " + p.begin + " of the data";
        throw new FormatException(path, "tensor " + p.tensor.name(), found, end + " (no " + problem + ")");
      }
      end = p.end;
    }
    if (end != dataBytes) {
      throw new FormatException(path, "data", dataBytes + " bytes", end + ", the end of the last tensor");
    }
  }
}
