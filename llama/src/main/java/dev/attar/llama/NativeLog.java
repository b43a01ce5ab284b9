package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.function.Consumer;

/** Takes what llama.cpp logs, so that it does not go to the terminal, and keeps the last lines. */
final class NativeLog {

  private static final int KEPT = 50;

  private final Deque<String> lines = new ArrayDeque<>();
  private final StringBuilder line = new StringBuilder();
  private Consumer<String> listener = _ -> {};

  /** A native {@code ggml_log_callback} that never goes away. */
  MemorySegment callback() {
    try {
      return Linker.nativeLinker().upcallStub(
        MethodHandles.lookup()
          .findVirtual(
            NativeLog.class,
            "accept",
            MethodType.methodType(void.class, int.class, MemorySegment.class, MemorySegment.class)
          )
          .bindTo(this),
        FunctionDescriptor.ofVoid(JAVA_INT, ADDRESS, ADDRESS),
        Arena.global()
      );
    } catch (ReflectiveOperationException e) {
      throw new LinkageError(e.getMessage(), e);
    }
  }

  /** Receives every piece of text from now on, from whichever thread logs. Must not throw: the caller is native code. */
  synchronized void listener(Consumer<String> newListener) {
    listener = newListener;
  }

  /** The last lines, oldest first. */
  synchronized List<String> lines() {
    return List.copyOf(lines);
  }

  @SuppressWarnings({ "unused", "UnusedMethod", "UnusedVariable" }) // called by native code, whose signature this is
  private synchronized void accept(int level, MemorySegment text, MemorySegment userData) {
    String piece = Natives.string(text);
    listener.accept(piece);
    line.append(piece);
    for (int end = line.indexOf("\n"); end >= 0; end = line.indexOf("\n")) {
      lines.addLast(line.substring(0, end));
      line.delete(0, end + 1);
      if (lines.size() > KEPT) {
        lines.removeFirst();
      }
    }
  }
}
