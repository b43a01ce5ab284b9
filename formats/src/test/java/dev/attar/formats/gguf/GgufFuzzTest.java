package dev.attar.formats.gguf;

import dev.attar.formats.FormatException;
import dev.attar.formats.Fuzzing;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Any bytes are either read as a GGUF header or refused in one line. */
public class GgufFuzzTest {

  private static final Path FILE = Path.of("fuzz.gguf");

  @Test
  void anyBytesAreReadOrRefused(@TempDir Path folder) throws IOException, InterruptedException {
    Fuzzing.run(GgufFuzzTest.class, folder, List.of(Files.readAllBytes(Path.of("../samples/sample/imatrix.gguf"))));
  }

  /** The target. */
  public static void fuzzerTestOneInput(byte[] data) {
    try {
      GgufHeader.read(FILE, MemorySegment.ofArray(data));
    } catch (FormatException e) {
      if (e.getMessage().lines().count() != 1) {
        throw new AssertionError("not one line: " + e.getMessage());
      }
    }
  }
}
