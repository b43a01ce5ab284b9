package dev.attar.formats.tokenizer;

import dev.attar.formats.FormatException;
import dev.attar.formats.Fuzzing;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Any bytes are either read as a SentencePiece model or refused in one line. */
public class SentencePieceFuzzTest {

  private static final Path FILE = Path.of("fuzz.model");

  @Test
  void anyBytesAreReadOrRefused(@TempDir Path folder) throws IOException, InterruptedException {
    byte[] pieces = { 10, 14, 10, 5, '<', 'u', 'n', 'k', '>', 21, 0, 0, 0, 0, 24, 2, 10, 3, 10, 1, 'a', 18, 2, 24, 1 };
    Fuzzing.run(SentencePieceFuzzTest.class, folder, List.of(pieces));
  }

  /** The target. */
  public static void fuzzerTestOneInput(byte[] data) throws IOException {
    try {
      SentencePieceModel.parse(FILE, data);
    } catch (FormatException e) {
      if (e.getMessage().lines().count() != 1) {
        throw new AssertionError("not one line: " + e.getMessage());
      }
    }
  }
}
