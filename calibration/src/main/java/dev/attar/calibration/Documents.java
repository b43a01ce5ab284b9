package dev.attar.calibration;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Utf8;
import dev.attar.formats.json.JsonFiles;
import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;

/** Reads texts: a file is a document, or, named {@code *.jsonl}, holds one in the string {@code text} of the object on each line. */
final class Documents {

  private static final int LONGEST_LINE = 64 << 20;
  private static final byte[] BETWEEN = { '\n', '\n' };

  private Documents() {}

  /** Takes a document; gives whether more are wanted. */
  @FunctionalInterface
  interface Consumer {
    boolean accept(byte[] utf8) throws IOException;
  }

  /**
   * Checks that a text can be read, a plain one to its end.
   *
   * @throws IOException if it is missing, a folder or not UTF-8
   */
  static void check(Path file) throws IOException {
    if (Files.notExists(file)) {
      throw new NoSuchFileException(file.toString(), null, "no such file");
    }
    if (!Files.isRegularFile(file)) {
      throw new FormatException(file, "not a regular file, expected text in UTF-8");
    }
    if (!hasLines(file)) {
      Utf8.requireValid(file);
    }
  }

  /** Whether a file holds documents line by line. */
  static boolean hasLines(Path file) {
    return file.toString().toLowerCase(Locale.ROOT).endsWith(".jsonl");
  }

  /** The first bytes of a file in UTF-8, without a character that is cut. */
  static byte[] beginning(Path text, int most) throws IOException {
    byte[] bytes;
    boolean whole;
    try (InputStream in = Files.newInputStream(text)) {
      bytes = in.readNBytes(most);
      whole = in.read() < 0;
    }
    int end = bytes.length;
    while (!whole && end > 0 && (bytes[end - 1] & 0xC0) == 0x80) {
      end--;
    }
    // What is left ends with a character's first byte, or with a whole one-byte character, which the margin can spare.
    return whole ? bytes : Arrays.copyOf(bytes, Math.max(0, end - 1));
  }

  /**
   * The beginning of texts as one document, in which theirs stand apart by an empty line.
   *
   * @param most the most bytes
   * @return UTF-8
   */
  static byte[] beginning(List<Path> files, int most) throws IOException {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (Path file : files) {
      check(file);
      if (!hasLines(file)) {
        append(out, beginning(file, most - out.size()), most);
      } else {
        forEachLine(file, document -> append(out, document, most));
      }
    }
    return out.toByteArray();
  }

  /** Appends as much of a document as there is room for; gives whether there may be room for more. */
  private static boolean append(ByteArrayOutputStream out, byte[] document, int most) {
    byte[] between = out.size() == 0 ? new byte[0] : BETWEEN;
    int room = most - out.size() - between.length;
    int end = Math.min(document.length, room);
    // No character is cut.
    while (end > 0 && end < document.length && (document[end] & 0xC0) == 0x80) {
      end--;
    }
    if (end > 0) {
      out.writeBytes(between);
      out.write(document, 0, end);
    }
    return document.length < room;
  }

  /**
   * Reads documents line by line; blank lines and empty texts are none.
   *
   * @throws FormatException if a line is no object with a text; the message names the line
   */
  static void forEachLine(Path file, Consumer consumer) throws IOException {
    try (InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 16)) {
      boolean wanted = true;
      for (int number = 1; wanted; number++) {
        String place = "line " + number;
        byte[] line = line(in, file, place);
        if (line == null) {
          return;
        }
        if (!new String(line, StandardCharsets.ISO_8859_1).isBlank()) {
          byte[] text = text(file, place, line);
          wanted = text.length == 0 || consumer.accept(text);
        }
      }
    }
  }

  /** The bytes up to the end of a line; {@code null} at the end of the file. */
  private static byte[] line(InputStream in, Path file, String place) throws IOException {
    int b = in.read();
    if (b < 0) {
      return null;
    }
    ByteArrayOutputStream line = new ByteArrayOutputStream();
    for (; b >= 0 && b != '\n'; b = in.read()) {
      if (line.size() == LONGEST_LINE) {
        throw new FormatException(file, place, "more than " + LONGEST_LINE + " bytes", "at most " + LONGEST_LINE);
      }
      line.write(b);
    }
    return line.toByteArray();
  }

  private static byte[] text(Path file, String place, byte[] line) throws IOException {
    JsonNode text = JsonFiles.strictObject(file, place, line).path("text");
    if (!text.isTextual()) {
      String found = text.isMissingNode() ? "no key \"text\"" : "a " + JsonFiles.kind(text) + " as \"text\"";
      throw new FormatException(file, place, found, "an object with a string \"text\"");
    }
    return text.textValue().getBytes(StandardCharsets.UTF_8);
  }
}
