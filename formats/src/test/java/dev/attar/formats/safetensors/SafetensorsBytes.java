package dev.attar.formats.safetensors;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Makes safetensors files, good and bad. */
final class SafetensorsBytes {

  private SafetensorsBytes() {}

  /** A file with this header and so many bytes of data, 1, 2, 3 and so on. */
  static byte[] of(String header, int dataBytes) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer out = ByteBuffer.allocate(8 + json.length + dataBytes).order(ByteOrder.LITTLE_ENDIAN);
    out.putLong(json.length).put(json);
    for (int i = 1; i <= dataBytes; i++) {
      out.put((byte) i);
    }
    return out.array();
  }

  /** A file with one tensor of eight bytes. */
  static Path write(Path file, String tensor) throws IOException {
    return Files.write(file, of("{\"" + tensor + "\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8));
  }
}
