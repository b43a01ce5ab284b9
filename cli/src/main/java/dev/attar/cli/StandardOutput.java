package dev.attar.cli;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;

/**
 * Standard output that remembers why writing failed. A reader that has gone ({@code attar inspect FILE | head}) is no failure:
 * it has seen enough.
 */
final class StandardOutput extends OutputStream {

  private final OutputStream out = new FileOutputStream(FileDescriptor.out);
  private String failure;

  /** A buffered stream for text, in the terminal's encoding. */
  PrintStream printStream() {
    return new PrintStream(new BufferedOutputStream(this, 1 << 13), false, System.out.charset());
  }

  /** Whether something could not be written. */
  boolean failed() {
    return failure != null;
  }

  /** Why. */
  String failure() {
    return failure;
  }

  @Override
  public void write(int b) throws IOException {
    write(new byte[] { (byte) b }, 0, 1);
  }

  @Override
  public void write(byte[] bytes, int offset, int length) throws IOException {
    try {
      out.write(bytes, offset, length);
    } catch (IOException e) {
      if (!isClosedPipe(e)) {
        failure = ErrorReport.reason(e);
      }
      throw e;
    }
  }

  private static boolean isClosedPipe(IOException e) {
    String message = String.valueOf(e.getMessage());
    // Linux and macOS; then Windows' two ways to say it.
    return (
      message.contains("Broken pipe") ||
      message.contains("pipe is being closed") ||
      message.contains("pipe has been ended")
    );
  }
}
