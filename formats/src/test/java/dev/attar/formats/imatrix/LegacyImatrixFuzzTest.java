package dev.attar.formats.imatrix;

import dev.attar.formats.FormatException;
import dev.attar.formats.Fuzzing;
import dev.attar.formats.gguf.GgufBytes;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Any bytes are either read as an importance matrix of the older form or refused in one line. */
public class LegacyImatrixFuzzTest {

  private static final Path FILE = Path.of("fuzz.dat");

  @Test
  void anyBytesAreReadOrRefused(@TempDir Path folder) throws IOException, InterruptedException {
    GgufBytes seed = GgufBytes.raw("").i32(1).i32(1).bytes((byte) 'a').i32(4).i32(2).f32(1, 2).i32(9).i32(1).zeros(1);
    Fuzzing.run(LegacyImatrixFuzzTest.class, folder, List.of(seed.build()));
  }

  /** The target. */
  public static void fuzzerTestOneInput(byte[] data) {
    try (ImportanceMatrix matrix = LegacyImatrix.read(FILE, MemorySegment.ofArray(data), () -> {})) {
      for (String tensor : matrix.tensors()) {
        for (float weight : matrix.weights(tensor).orElseThrow()) {
          if (!(weight >= 0 && weight <= Float.MAX_VALUE)) {
            throw new AssertionError(tensor + ": weight " + weight);
          }
        }
      }
      matrix.quantizeMetadata("file");
    } catch (FormatException e) {
      if (e.getMessage().lines().count() != 1) {
        throw new AssertionError("not one line: " + e.getMessage());
      }
    }
  }
}
