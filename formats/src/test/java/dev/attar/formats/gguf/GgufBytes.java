package dev.attar.formats.gguf;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Builds GGUF files byte by byte, right or wrong: nothing is checked. Written from the format's description, not with the writer. */
public final class GgufBytes {

  private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();

  private GgufBytes() {}

  /** A file of version 3 with these counts. */
  public static GgufBytes header(long tensors, long entries) {
    return raw("GGUF").i32(3).i64(tensors).i64(entries);
  }

  /** A file that begins with these characters. */
  public static GgufBytes raw(String text) {
    return new GgufBytes().bytes(text.getBytes(StandardCharsets.ISO_8859_1));
  }

  public GgufBytes bytes(byte... more) {
    bytes.writeBytes(more);
    return this;
  }

  public GgufBytes i32(int value) {
    return bytes(ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN).putInt(value).array());
  }

  public GgufBytes i64(long value) {
    return bytes(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(value).array());
  }

  public GgufBytes f32(float... values) {
    for (float value : values) {
      i32(Float.floatToRawIntBits(value));
    }
    return this;
  }

  public GgufBytes string(String text) {
    byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
    return i64(encoded.length).bytes(encoded);
  }

  /** A metadata key and the number of its type; the value follows. */
  public GgufBytes key(String key, int type) {
    return string(key).i32(type);
  }

  public GgufBytes u32(String key, int value) {
    return key(key, 4).i32(value);
  }

  public GgufBytes u16(String key, int value) {
    return key(key, 2).bytes((byte) value, (byte) (value >> 8));
  }

  public GgufBytes text(String key, String value) {
    return key(key, 8).string(value);
  }

  public GgufBytes tensor(String name, int type, long offset, long... shape) {
    string(name).i32(shape.length);
    for (long dimension : shape) {
      i64(dimension);
    }
    return i32(type).i64(offset);
  }

  /** Zeros up to the next multiple of {@code alignment}. */
  public GgufBytes pad(int alignment) {
    while (bytes.size() % alignment != 0) {
      bytes.write(0);
    }
    return this;
  }

  public GgufBytes zeros(int count) {
    return bytes(new byte[count]);
  }

  public byte[] build() {
    return bytes.toByteArray();
  }

  public Path write(Path file) throws IOException {
    return Files.write(file, build());
  }
}
