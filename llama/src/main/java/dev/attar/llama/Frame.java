package dev.attar.llama;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.ProtocolException;
import java.nio.ByteBuffer;
import java.util.Optional;

/**
 * One message between a {@link WorkerProcess} and its {@link WorkerChannel}. On the pipe: the length of the content in four bytes,
 * big-endian; the kind in one; the content.
 */
public final class Frame {

  /** The most bytes that a frame can hold. */
  public static final int LONGEST = 64 << 20;

  /** A sign of life, without content. */
  static final int ALIVE = 128;

  /** The worker's last words: why it failed, in UTF-8. */
  static final int FAIL = 129;

  private static final int HEADER = 5;

  private final int kind;
  private final byte[] content;

  /** Writes a frame's content. */
  @FunctionalInterface
  public interface Content {
    void writeTo(DataOutputStream out) throws IOException;
  }

  Frame(int kind, byte[] content) {
    this.kind = kind;
    this.content = content;
  }

  /**
   * A frame without content.
   *
   * @param kind from 0 to 127; what it means is up to the two sides
   */
  public static Frame of(int kind) {
    if (kind < 0 || kind >= ALIVE) {
      throw new IllegalArgumentException("kind " + kind + ", expected 0 to " + (ALIVE - 1));
    }
    return new Frame(kind, new byte[0]);
  }

  /**
   * A frame with the content that is written.
   *
   * @param kind from 0 to 127; what it means is up to the two sides
   * @throws IOException if the content throws it, or if it is longer than {@link #LONGEST}
   */
  public static Frame of(int kind, Content content) throws IOException {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    content.writeTo(new DataOutputStream(bytes));
    if (bytes.size() > LONGEST) {
      throw new ProtocolException("a frame of " + bytes.size() + " bytes, expected at most " + LONGEST);
    }
    return new Frame(of(kind).kind, bytes.toByteArray());
  }

  /** What it is about. */
  public int kind() {
    return kind;
  }

  /** Length of the content in bytes: a bound for the counts in it. */
  public int length() {
    return content.length;
  }

  /** Reads the content from its start; reading beyond its end is an {@link EOFException}. */
  public DataInputStream input() {
    return new DataInputStream(new ByteArrayInputStream(content));
  }

  byte[] content() {
    return content;
  }

  void writeTo(OutputStream out) throws IOException {
    out.write(ByteBuffer.allocate(HEADER).putInt(content.length).put((byte) kind).array());
    out.write(content);
    out.flush();
  }

  /**
   * Reads the next frame.
   *
   * @return empty at the end of the stream
   * @throws ProtocolException if there is something else than a frame
   * @throws EOFException if the stream ends within a frame
   */
  static Optional<Frame> readFrom(InputStream in) throws IOException {
    byte[] header = in.readNBytes(HEADER);
    if (header.length == 0) {
      return Optional.empty();
    }
    if (header.length < HEADER) {
      throw new EOFException("within the header of a frame");
    }
    int length = ByteBuffer.wrap(header).getInt();
    int kind = Byte.toUnsignedInt(header[HEADER - 1]);
    if (length < 0 || length > LONGEST || kind > FAIL) {
      throw new ProtocolException("kind " + kind + ", " + Integer.toUnsignedString(length) + " bytes");
    }
    byte[] content = in.readNBytes(length); // allocates as the bytes come
    if (content.length < length) {
      throw new EOFException("after " + content.length + " of a frame's " + length + " bytes");
    }
    return Optional.of(new Frame(kind, content));
  }
}
