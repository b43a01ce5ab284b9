package dev.attar.calibration;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class DocumentsTest {

  @TempDir
  private Path folder;

  private static String beginning(int most, Path... texts) throws IOException {
    // Malformed bytes are an exception.
    byte[] bytes = Documents.beginning(List.of(texts), most);
    return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString();
  }

  @Test
  void theBeginningOfTextsIsOneDocument() throws IOException {
    Path plain = Files.writeString(folder.resolve("plain.txt"), "One café.");
    Path lines = Files.writeString(folder.resolve("lines.jsonl"), "{\"text\": \"Two.\"}\n\n{\"text\": \"Three ☕\"}\n");
    Path empty = Files.writeString(folder.resolve("empty.txt"), "");
    assertEquals("One café.\n\nTwo.\n\nThree ☕", beginning(1000, plain, empty, lines));
    assertEquals("Two.\n\nThree ☕\n\nOne café.", beginning(1000, lines, plain));
    assertEquals("", beginning(1000, empty));
  }

  @Test
  void noCharacterIsCut() throws IOException {
    Path lines = Files.writeString(folder.resolve("lines.jsonl"), "{\"text\": \"é☕\"}\n{\"text\": \"𝔸b\"}\n");
    Path plain = Files.writeString(folder.resolve("plain.txt"), "é☕𝔸b");
    for (int most = 0; most < 25; most++) {
      assertTrue("é☕\n\n𝔸b".startsWith(beginning(most, lines)));
      assertTrue("é☕𝔸b".startsWith(beginning(most, plain)));
      assertTrue(beginning(most, lines, plain).getBytes(StandardCharsets.UTF_8).length <= most);
    }
    assertEquals("é", beginning(4, lines));
    assertEquals("é☕", beginning(10, lines));
    assertEquals("é☕\n\n𝔸", beginning(11, lines));
  }
}
