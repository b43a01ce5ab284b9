package dev.attar.formats;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.channels.ReadableByteChannel;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/**
 * Text of files that should be UTF-8 but may not be: byte-level vocabularies hold pieces of characters. Each byte {@code b} that
 * belongs to no valid sequence is held as the lone surrogate {@code U+DC00 + b}, so that {@code encode(decode(bytes))} gives back the
 * bytes, whatever they are.
 */
public final class Utf8 {

  private static final int ESCAPE = 0xDC00;

  private Utf8() {}

  /** Decodes bytes; never fails. */
  public static String decode(byte[] bytes) {
    String text = new String(bytes, StandardCharsets.UTF_8);
    return text.indexOf('\uFFFD') < 0 ? text : decodeEscaping(bytes);
  }

  private static String decodeEscaping(byte[] bytes) {
    CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder()
      .onMalformedInput(CodingErrorAction.REPORT)
      .onUnmappableCharacter(CodingErrorAction.REPORT);
    ByteBuffer in = ByteBuffer.wrap(bytes);
    CharBuffer out = CharBuffer.allocate(bytes.length); // no sequence gives more characters than it has bytes
    while (true) {
      CoderResult result = decoder.decode(in, out, true);
      if (!result.isError()) {
        return out.flip().toString();
      }
      for (int i = result.length(); i > 0; i--) {
        out.put((char) (ESCAPE + (in.get() & 0xFF)));
      }
    }
  }

  /**
   * Encodes text, escaped bytes as themselves.
   *
   * @throws IllegalArgumentException if the text holds a lone surrogate that stands for no byte
   */
  public static byte[] encode(String text) {
    int i = loneSurrogate(text, 0);
    if (i == text.length()) {
      return text.getBytes(StandardCharsets.UTF_8);
    }
    ByteBuffer out = ByteBuffer.allocate(Math.multiplyExact(3, text.length()));
    int start = 0;
    for (; i < text.length(); start = i + 1, i = loneSurrogate(text, start)) {
      int escaped = text.charAt(i) - ESCAPE;
      if (escaped < 0x80 || escaped > 0xFF) {
        throw new IllegalArgumentException("text with the lone surrogate U+" + Integer.toHexString(text.charAt(i)));
      }
      out.put(text.substring(start, i).getBytes(StandardCharsets.UTF_8)).put((byte) escaped);
    }
    out.put(text.substring(start).getBytes(StandardCharsets.UTF_8));
    byte[] bytes = new byte[out.position()];
    out.flip().get(bytes);
    return bytes;
  }

  /** The index of the first surrogate at or after {@code from} that is not part of a pair; the length of the text if there is none. */
  private static int loneSurrogate(String text, int from) {
    int i = from;
    while (i < text.length()) {
      int c = text.codePointAt(i);
      if (c >= Character.MIN_SURROGATE && c <= Character.MAX_SURROGATE) {
        return i;
      }
      i += Character.charCount(c);
    }
    return i;
  }

  /** The index of the first byte that belongs to no valid sequence; the number of bytes if there is none. */
  public static int firstInvalid(byte[] bytes) {
    ByteBuffer in = ByteBuffer.wrap(bytes);
    StandardCharsets.UTF_8.newDecoder().decode(in, CharBuffer.allocate(bytes.length), true);
    return in.position();
  }

  /**
   * Checks that a file is a text, in constant memory.
   *
   * @throws FormatException if a byte belongs to no valid sequence; the message names its offset
   * @throws IOException if the file cannot be read
   */
  public static void requireValid(Path file) throws IOException {
    CharsetDecoder decoder = StandardCharsets.UTF_8.newDecoder(); // reports what is malformed
    ByteBuffer bytes = ByteBuffer.allocate(1 << 16);
    CharBuffer characters = CharBuffer.allocate(1 << 16);
    try (ReadableByteChannel channel = Files.newByteChannel(file)) {
      long before = 0;
      boolean end = false;
      while (!end) {
        end = channel.read(bytes) < 0;
        bytes.flip();
        if (decoder.decode(bytes, characters, end).isError()) {
          long at = before + bytes.position();
          String found = String.format(Locale.ROOT, "%02x", bytes.get(bytes.position()));
          throw new FormatException(file, "byte " + at, found, "UTF-8 text");
        }
        before += bytes.position();
        bytes.compact();
        characters.clear();
      }
    }
  }

  /** Text from a file as part of a one-line message: in single quotes, shortened, control characters and escaped bytes as {@code ?}. */
  public static String quote(String text) {
    int shown = Math.min(text.length(), 80);
    StringBuilder quoted = new StringBuilder(shown + 5).append('\'');
    for (int i = 0; i < shown; i++) {
      char c = text.charAt(i);
      boolean plain = !Character.isISOControl(c) && c != '\u2028' && c != '\u2029' && !Character.isSurrogate(c);
      quoted.append(plain ? c : '?');
    }
    return quoted.append(shown < text.length() ? "…'" : "'").toString();
  }
}
