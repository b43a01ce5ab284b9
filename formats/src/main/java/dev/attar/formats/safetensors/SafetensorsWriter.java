package dev.attar.formats.safetensors;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;

/**
 * Writes one safetensors file with the bytes that the reference implementation gives it: tensors of wide types before those of narrow
 * ones, by name within a type, so that all values are aligned. The values are given in that order, from the first to the last.
 *
 * <pre>{@code
 * try (SafetensorsWriter writer = SafetensorsWriter.create(file, tensors)) {
 *   for (SafetensorsWriter.Entry tensor : writer.tensors()) {
 *     writer.write(bytes, 0, bytes.length);
 *   }
 *   writer.finish();
 * }
 * }</pre>
 */
public final class SafetensorsWriter implements AutoCloseable {

  /** The order of the reference implementation. */
  private static final List<ElementType> ORDER = List.of(
    ElementType.U64,
    ElementType.I64,
    ElementType.F64,
    ElementType.F32,
    ElementType.U32,
    ElementType.I32,
    ElementType.BF16,
    ElementType.F16,
    ElementType.U16,
    ElementType.I16,
    ElementType.I8,
    ElementType.U8,
    ElementType.BOOL
  );

  private static final JsonMapper MAPPER = new JsonMapper();

  // A write from an array passes through native memory of the same size, which the JDK keeps for each thread.
  private static final int MAX_WRITE = 1 << 20;

  /** Of the header, which begins after the eight bytes of its length. */
  private static final int ALIGNMENT = 8;

  /**
   * A tensor that is written.
   *
   * @param name its name in the file
   * @param type the type of its values
   * @param shape its dimensions in PyTorch's order, outermost first
   */
  public record Entry(String name, ElementType type, List<Long> shape) {
    /**
     * @throws IllegalArgumentException if a dimension is negative
     * @throws ArithmeticException if the size in bytes exceeds a long
     */
    public Entry {
      shape = List.copyOf(shape);
      if (shape.stream().anyMatch(dimension -> dimension < 0)) {
        throw new IllegalArgumentException(name + ": negative dimension in " + shape);
      }
      bytes(type, shape);
    }

    /** Number of bytes. */
    public long bytes() {
      return bytes(type, shape);
    }

    private static long bytes(ElementType type, List<Long> shape) {
      long bytes = type.bytes();
      for (long dimension : shape) {
        bytes = Math.multiplyExact(bytes, dimension);
      }
      return bytes;
    }
  }

  private final Path file;
  private final List<Entry> tensors;
  private final long size;
  private final FileChannel channel;

  private SafetensorsWriter(Path file, List<Entry> tensors, long size, FileChannel channel) {
    this.file = file;
    this.tensors = tensors;
    this.size = size;
    this.channel = channel;
  }

  /**
   * Begins a file.
   *
   * @param file the file, in a folder that is there; its name is written to at once
   * @param tensors what is in it, in any order
   * @throws FileAlreadyExistsException if there is such a file
   * @throws IOException if it cannot be written
   * @throws IllegalArgumentException if two tensors have the same name, or there are more than the format's header holds
   */
  public static SafetensorsWriter create(Path file, List<Entry> tensors) throws IOException {
    List<Entry> sorted = sorted(tensors);
    byte[] header = header(sorted, SafetensorsFile.MAX_HEADER_BYTES);
    long size = header.length;
    for (Entry tensor : sorted) {
      size = Math.addExact(size, tensor.bytes());
    }
    FileChannel channel = FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
    SafetensorsWriter writer = new SafetensorsWriter(file, sorted, size, channel);
    try {
      writer.write(header, 0, header.length);
      return writer;
    } catch (IOException e) {
      channel.close();
      throw e;
    }
  }

  private static List<Entry> sorted(List<Entry> tensors) {
    Set<String> names = new HashSet<>();
    for (Entry tensor : tensors) {
      if (!names.add(tensor.name())) {
        throw new IllegalArgumentException("two tensors named " + tensor.name());
      }
    }
    return tensors
      .stream()
      .sorted(Comparator.<Entry>comparingInt(tensor -> ORDER.indexOf(tensor.type())).thenComparing(Entry::name))
      .toList();
  }

  /** The header with its length before it, padded with blanks. */
  static byte[] header(List<Entry> tensors, long maxBytes) throws IOException {
    ObjectNode json = JsonNodeFactory.instance.objectNode();
    // transformers reads no file that does not say who wrote it.
    json.putObject("__metadata__").put("format", "pt");
    long position = 0;
    for (Entry tensor : tensors) {
      ObjectNode entry = json.putObject(tensor.name());
      entry.put("dtype", tensor.type().name());
      tensor.shape().forEach(entry.putArray("shape")::add);
      entry.putArray("data_offsets").add(position).add(position += tensor.bytes());
    }
    byte[] text = MAPPER.writeValueAsBytes(json);
    int padded = Math.ceilDiv(text.length, ALIGNMENT) * ALIGNMENT;
    if (padded > maxBytes) {
      String found = tensors.size() + " tensors need a header of " + padded + " bytes";
      throw new IllegalArgumentException(found + ", expected at most " + maxBytes);
    }
    byte[] header = new byte[Long.BYTES + padded];
    Arrays.fill(header, (byte) ' ');
    ByteBuffer.wrap(header).order(ByteOrder.LITTLE_ENDIAN).putLong(padded).put(text);
    return header;
  }

  /** The tensors in the order in which their values are written. */
  public List<Entry> tensors() {
    return tensors;
  }

  /**
   * Writes the next bytes: those of the first of {@link #tensors()}, then of the second and so on.
   *
   * @param bytes holds the bytes
   * @param offset of the first byte in {@code bytes}
   * @param length number of bytes
   * @throws IOException if writing fails
   * @throws IllegalStateException if these are more than the tensors have
   */
  public void write(byte[] bytes, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, bytes.length);
    if (length > size - channel.position()) {
      throw new IllegalStateException(file + ": more bytes than the tensors have");
    }
    for (int done = 0; done < length; ) {
      done += channel.write(ByteBuffer.wrap(bytes, offset + done, Math.min(MAX_WRITE, length - done)));
    }
  }

  /**
   * Waits until the file is on the disk.
   *
   * @throws IOException if that fails
   * @throws IllegalStateException if bytes are missing
   */
  public void finish() throws IOException {
    if (channel.position() != size) {
      throw new IllegalStateException(file + ": " + channel.position() + " bytes written, expected " + size);
    }
    channel.force(true);
  }

  /** Closes the file, complete or not. */
  @Override
  public void close() throws IOException {
    channel.close();
  }
}
