package dev.attar.llama;

import java.io.IOException;
import java.util.List;

/** A worker process failed or died. The message is one line; the rest of what the native code said is kept. */
public final class NativeFailure extends IOException {

  private static final long serialVersionUID = 1L;

  private final int exitCode;
  private final transient List<String> log;

  NativeFailure(String message, int exitCode, List<String> log) {
    super(message);
    this.exitCode = exitCode;
    this.log = List.copyOf(log);
  }

  /** The worker's exit code; above 128 on Unix, 128 and the number of the signal that ended it. */
  public int exitCode() {
    return exitCode;
  }

  /** The last lines that the worker wrote, oldest first. */
  public List<String> log() {
    return log == null ? List.of() : log;
  }
}
