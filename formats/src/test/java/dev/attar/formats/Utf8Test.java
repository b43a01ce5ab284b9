package dev.attar.formats;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class Utf8Test {

  @Test
  void anyBytesSurvive() {
    Random random = new Random(7);
    byte[] pool = "aé€😀\uFFFD\u0000".getBytes(StandardCharsets.UTF_8);
    for (int i = 0; i < 20_000; i++) {
      byte[] bytes = new byte[random.nextInt(12)];
      for (int j = 0; j < bytes.length; j++) {
        bytes[j] = random.nextBoolean() ? pool[random.nextInt(pool.length)] : (byte) random.nextInt(256);
      }
      assertArrayEquals(bytes, Utf8.encode(Utf8.decode(bytes)));
    }
  }

  @Test
  void bytesOutsideAnySequenceBecomeLoneSurrogates() {
    assertEquals("a\uDCFFb", Utf8.decode(new byte[] { 'a', (byte) 0xFF, 'b' }));
    assertEquals("\uDCE2\uDC82", Utf8.decode(new byte[] { (byte) 0xE2, (byte) 0x82 }));
    // An encoded surrogate is not UTF-8 either.
    assertEquals("\uDCED\uDCB2\uDC80", Utf8.decode(new byte[] { (byte) 0xED, (byte) 0xB2, (byte) 0x80 }));
    assertEquals("é😀\uFFFD", Utf8.decode("é😀\uFFFD".getBytes(StandardCharsets.UTF_8)));
  }

  @Test
  void surrogatesThatStandForNoByteAreRefused() {
    assertThrows(IllegalArgumentException.class, () -> Utf8.encode("a\uD800b"));
    assertThrows(IllegalArgumentException.class, () -> Utf8.encode("\uDC41"));
  }

  @Test
  void quotesStayOnOneLine() {
    assertEquals("'a?b?'", Utf8.quote("a\nb\uDCFF"));
    assertEquals(83, Utf8.quote("x".repeat(1000)).length());
  }

  @Test
  void aTextIsTheWholeFile(@TempDir Path folder) throws IOException {
    // Sequences of all lengths, across the ends of what is read at once.
    byte[] text = "aé€😀".repeat(20_001).getBytes(StandardCharsets.UTF_8);
    Path file = Files.write(folder.resolve("text"), text);
    Utf8.requireValid(file);
    Utf8.requireValid(Files.write(folder.resolve("empty"), new byte[0]));
    for (int at : new int[] { 0, 65_535, 65_540, 131_070, text.length - 4 }) {
      byte[] damaged = text.clone();
      damaged[at] = (byte) 0xFF;
      Files.write(file, damaged);
      int first = at;
      while (first > 0 && (text[first] & 0xC0) == 0x80) {
        first--; // the sequence that the byte belonged to
      }
      String message = assertThrows(FormatException.class, () -> Utf8.requireValid(file)).getMessage();
      assertEquals(
        file +
          ": byte " +
          first +
          ": found " +
          String.format(Locale.ROOT, "%02x", damaged[first]) +
          ", expected UTF-8 text",
        message
      );
    }
    Files.write(file, Arrays.copyOf(text, text.length - 1));
    assertThrows(FormatException.class, () -> Utf8.requireValid(file));
  }
}
