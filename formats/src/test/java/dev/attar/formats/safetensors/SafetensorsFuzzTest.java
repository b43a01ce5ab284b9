package dev.attar.formats.safetensors;

import dev.attar.formats.FormatException;
import dev.attar.formats.Fuzzing;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Any bytes are either read as a safetensors file or refused in one line. */
public class SafetensorsFuzzTest {

  private static final Path FILE = Path.of("fuzz.safetensors");

  @Test
  void anyBytesAreReadOrRefused(@TempDir Path folder) throws IOException, InterruptedException {
    String header = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"__metadata__\":{}}";
    Fuzzing.run(SafetensorsFuzzTest.class, folder, List.of(SafetensorsBytes.of(header, 8)));
  }

  /** The target. */
  public static void fuzzerTestOneInput(byte[] data) throws IOException {
    try {
      SafetensorsFile.read(FILE, MemorySegment.ofArray(data));
    } catch (FormatException e) {
      if (e.getMessage().lines().count() != 1) {
        throw new AssertionError("not one line: " + e.getMessage());
      }
    }
  }
}
