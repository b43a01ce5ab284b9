package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.net.ProtocolException;
import java.util.Arrays;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class FrameTest {

  private static Optional<Frame> read(int... bytes) throws IOException {
    byte[] pipe = new byte[bytes.length];
    for (int i = 0; i < bytes.length; i++) {
      pipe[i] = (byte) bytes[i];
    }
    return Frame.readFrom(new ByteArrayInputStream(pipe));
  }

  @Test
  void hasTheDocumentedForm() throws IOException {
    ByteArrayOutputStream pipe = new ByteArrayOutputStream();
    Frame.of(7, out -> out.writeShort(0x102)).writeTo(pipe);
    assertArrayEquals(new byte[] { 0, 0, 0, 2, 7, 1, 2 }, pipe.toByteArray());
    Frame back = read(0, 0, 0, 2, 7, 1, 2, 99).orElseThrow();
    assertEquals(7, back.kind());
    assertEquals(2, back.length());
    DataInputStream in = back.input();
    assertEquals(0x102, in.readShort());
    assertThrows(EOFException.class, in::readByte);
  }

  @Test
  void theEndIsBetweenFramesOnly() throws IOException {
    assertEquals(Optional.empty(), read());
    int[] frame = { 0, 0, 0, 2, 7, 1, 2 };
    for (int length = 1; length < frame.length; length++) {
      int[] part = Arrays.copyOf(frame, length);
      assertThrows(EOFException.class, () -> read(part));
    }
  }

  @Test
  void refusesWhatIsNoFrame() {
    assertThrows(ProtocolException.class, () -> read(0xff, 0xff, 0xff, 0xff, 1));
    assertThrows(ProtocolException.class, () -> read(0x80, 0, 0, 0, 1));
    assertThrows(ProtocolException.class, () -> read(4, 0, 0, 1, 1), "64 MiB and one byte");
    assertThrows(EOFException.class, () -> read(4, 0, 0, 0, 1), "64 MiB that do not come");
    assertThrows(ProtocolException.class, () -> read(0, 0, 0, 0, 130));
    assertThrows(ProtocolException.class, () -> read(0, 0, 0, 0, 255));
  }

  @Test
  void refusesToBecomeWhatCannotBeSent() {
    assertThrows(IllegalArgumentException.class, () -> Frame.of(-1));
    assertThrows(IllegalArgumentException.class, () -> Frame.of(128));
    assertThrows(ProtocolException.class, () -> Frame.of(1, out -> out.write(new byte[Frame.LONGEST + 1])));
  }
}
