package dev.attar.llama;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;

/** Small helpers for calls by method handle. */
final class Natives {

  /** A call of a method handle with a result. */
  @FunctionalInterface
  interface Call<T> {
    T invoke() throws Throwable;
  }

  /** A call of a method handle without a result. */
  @FunctionalInterface
  interface Action {
    void invoke() throws Throwable;
  }

  private Natives() {}

  /** Native functions throw nothing themselves: what a call throws is our own doing and passed on as it is. */
  static <T> T call(Call<T> call) {
    try {
      return call.invoke();
    } catch (RuntimeException | Error e) {
      throw e;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  static void run(Action action) {
    call(() -> {
      action.invoke();
      return null;
    });
  }

  /** Text at an address, up to its zero byte; malformed UTF-8 is replaced. */
  static String string(MemorySegment address) {
    MemorySegment bytes = address.reinterpret(Long.MAX_VALUE);
    long length = 0;
    while (bytes.get(JAVA_BYTE, length) != 0) {
      length++;
    }
    return new String(bytes.asSlice(0, length).toArray(JAVA_BYTE), StandardCharsets.UTF_8);
  }

  /** One line on what went wrong. Where a file-system exception names only the file, its kind says the rest. */
  static String describe(IOException e) {
    String kind = e.getClass().getSimpleName().replaceFirst("Exception$", "");
    boolean bare = e instanceof FileSystemException file && file.getReason() == null;
    return e.getMessage() == null ? kind : bare ? e.getMessage() + " (" + kind + ")" : e.getMessage();
  }
}
