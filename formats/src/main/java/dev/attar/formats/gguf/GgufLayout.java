package dev.attar.formats.gguf;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.Utf8;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Where everything lies in the GGUF file (version 3) that holds some metadata and tensors: the header, padded, then each tensor's
 * bytes in order, each padded to the alignment, as llama.cpp writes it. The alignment is that of {@code general.alignment}, 32 if
 * the metadata does not have it.
 */
public final class GgufLayout {

  private static final int VERSION = 3;
  private static final int MAX_NAME_BYTES = 63; // GGML_MAX_NAME without the terminator

  private final byte[] header;
  private final long alignment;
  private final List<TensorInfo> tensors;
  private final long[] offsets;
  private final long fileBytes;

  private GgufLayout(byte[] header, long alignment, List<TensorInfo> tensors, long[] offsets, long fileBytes) {
    this.header = header;
    this.alignment = alignment;
    this.tensors = tensors;
    this.offsets = offsets;
    this.fileBytes = fileBytes;
  }

  /**
   * Lays out a file. Trailing dimensions of size 1 are not written, as in llama.cpp.
   *
   * @throws IllegalArgumentException if two tensors share a name, a name is longer than llama.cpp reads (63 bytes), a key is empty,
   *     the alignment is not a power of two, or the file would not be one that {@link GgufModel} reads
   */
  public static GgufLayout of(Metadata metadata, List<TensorInfo> tensors) {
    List<TensorInfo> copy = List.copyOf(tensors);
    long alignment = alignment(metadata);
    long[] offsets = new long[copy.size()];
    long dataBytes = 0;
    Set<String> names = new HashSet<>();
    try {
      for (int i = 0; i < offsets.length; i++) {
        TensorInfo tensor = copy.get(i);
        if (!names.add(tensor.name())) {
          throw new IllegalArgumentException("two tensors named " + Utf8.quote(tensor.name()));
        }
        offsets[i] = dataBytes;
        dataBytes = Math.addExact(dataBytes, pad(tensor.bytes(), alignment));
      }
      byte[] header = header(metadata, copy, offsets, alignment);
      return new GgufLayout(header, alignment, copy, offsets, Math.addExact(header.length, dataBytes));
    } catch (ArithmeticException e) {
      throw new IllegalArgumentException("the tensors take more than 2^63 bytes", e);
    }
  }

  private static long alignment(Metadata metadata) {
    MetadataValue value = metadata.values().get(GgufHeader.ALIGNMENT_KEY);
    if (value == null) {
      return GgufHeader.DEFAULT_ALIGNMENT;
    }
    if (value.type() != MetadataValue.Type.UINT32 || Long.bitCount((long) value.value()) != 1) {
      throw new IllegalArgumentException("key " + GgufHeader.ALIGNMENT_KEY + ": expected UINT32, a power of two");
    }
    return (long) value.value();
  }

  private static long pad(long bytes, long alignment) {
    return Math.multiplyExact(Math.ceilDiv(bytes, alignment), alignment);
  }

  private static byte[] header(Metadata metadata, List<TensorInfo> tensors, long[] offsets, long alignment) {
    Sink sink = new Sink();
    sink.putInt(0x46554747); // "GGUF"
    sink.putInt(VERSION);
    sink.putLong(tensors.size());
    sink.putLong(metadata.values().size());
    for (Map.Entry<String, MetadataValue> entry : metadata.values().entrySet()) {
      if (entry.getKey().isEmpty()) {
        throw new IllegalArgumentException("an empty metadata key");
      }
      try {
        sink.putString(entry.getKey());
        sink.putInt(entry.getValue().type().id());
        sink.putValue(entry.getValue().type(), entry.getValue());
      } catch (IllegalArgumentException e) {
        throw new IllegalArgumentException("key " + Utf8.quote(entry.getKey()) + ": " + e.getMessage(), e);
      }
    }
    for (int i = 0; i < offsets.length; i++) {
      TensorInfo tensor = tensors.get(i);
      if (Utf8.encode(tensor.name()).length > MAX_NAME_BYTES) {
        String problem = ": a name longer than the " + MAX_NAME_BYTES + " bytes that llama.cpp reads";
        throw new IllegalArgumentException("tensor " + Utf8.quote(tensor.name()) + problem);
      }
      sink.putString(tensor.name());
      sink.putInt(tensor.rank());
      for (int j = 0; j < tensor.rank(); j++) {
        sink.putLong(tensor.dimension(j));
      }
      sink.putInt(tensor.type().id());
      sink.putLong(offsets[i]);
    }
    return sink.toByteArray(pad(sink.size(), alignment));
  }

  /** The header with its padding. */
  byte[] header() {
    return header;
  }

  /** The tensors, in the order of the file. */
  public List<TensorInfo> tensors() {
    return tensors;
  }

  /** What the offset of each tensor is a multiple of, in bytes. */
  public long alignment() {
    return alignment;
  }

  /** Size of the header with its padding: where the tensors' bytes begin, from the start of the file. */
  public long headerBytes() {
    return header.length;
  }

  /** Where the bytes of tensor {@code index} begin, from the start of the file. */
  public long tensorPosition(int index) {
    return header.length + offsets[index];
  }

  /** Size of the whole file, the last tensor's padding included. */
  public long fileBytes() {
    return fileBytes;
  }

  /** A growing array that takes little-endian values. */
  private static final class Sink {

    private ByteBuffer buffer = ByteBuffer.allocate(1 << 16).order(ByteOrder.LITTLE_ENDIAN);

    private ByteBuffer room(int bytes) {
      if (bytes > buffer.remaining()) {
        long needed = (long) buffer.position() + bytes;
        if (needed > GgufHeader.MAX_HEADER_BYTES) {
          throw new IllegalArgumentException("a header of more than 100 MB");
        }
        int capacity = (int) Math.min(GgufHeader.MAX_HEADER_BYTES, Math.max(needed, 2L * buffer.capacity()));
        buffer = ByteBuffer.allocate(capacity).order(ByteOrder.LITTLE_ENDIAN).put(buffer.flip());
      }
      return buffer;
    }

    void putInt(int value) {
      room(4).putInt(value);
    }

    void putLong(long value) {
      room(8).putLong(value);
    }

    void putString(String text) {
      byte[] bytes = Utf8.encode(text);
      putLong(bytes.length);
      room(bytes.length).put(bytes);
    }

    void putValue(MetadataValue.Type type, MetadataValue value) {
      switch (value.value()) {
        case Long number -> putInteger(type, number);
        case Float number -> putInt(Float.floatToRawIntBits(number));
        case Double number -> putLong(Double.doubleToRawLongBits(number));
        case Boolean flag -> putInteger(type, flag ? 1 : 0);
        case String text -> putString(text);
        default -> putArray(value);
      }
    }

    private void putArray(MetadataValue array) {
      MetadataValue.Type type = array.elementType();
      putInt(type.id());
      putLong(array.length());
      switch (array.value()) {
        case long[] numbers -> {
          for (long number : numbers) {
            putInteger(type, number);
          }
        }
        case float[] numbers -> {
          for (float number : numbers) {
            putInt(Float.floatToRawIntBits(number));
          }
        }
        case double[] numbers -> {
          for (double number : numbers) {
            putLong(Double.doubleToRawLongBits(number));
          }
        }
        case boolean[] flags -> {
          for (boolean flag : flags) {
            putInteger(type, flag ? 1 : 0);
          }
        }
        case String[] texts -> {
          for (String text : texts) {
            putString(text);
          }
        }
        case MetadataValue[] arrays -> {
          for (MetadataValue inner : arrays) {
            putArray(inner);
          }
        }
        default -> throw new IllegalArgumentException("not an array: " + array);
      }
    }

    private void putInteger(MetadataValue.Type type, long value) {
      switch (type.bytes()) {
        case 1 -> room(1).put((byte) value);
        case 2 -> room(2).putShort((short) value);
        case 4 -> putInt((int) value);
        default -> putLong(value);
      }
    }

    int size() {
      return buffer.position();
    }

    byte[] toByteArray(long length) {
      if (length > GgufHeader.MAX_HEADER_BYTES) {
        throw new IllegalArgumentException("a header of more than 100 MB");
      }
      return Arrays.copyOf(buffer.array(), (int) length);
    }
  }
}
