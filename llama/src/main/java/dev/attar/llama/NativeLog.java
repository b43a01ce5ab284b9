package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.function.Consumer;
import java.util.regex.Pattern;

/** Takes what llama.cpp logs, so that it does not go to the terminal, and keeps the last lines. Its debugging is left out. */
final class NativeLog {

  private static final int KEPT = 50;

  private static final int LEVEL_DEBUG = 1; // GGML_LOG_LEVEL_DEBUG
  private static final int LEVEL_ERROR = 4; // GGML_LOG_LEVEL_ERROR

  // The function that logs a line, and what it says before any reason.
  private static final Pattern PREFIX = Pattern.compile(
    "^(?:[\\w:<>~]+: )?(?:error loading model: |failed to (?:apply lora adapter|initialize the context): )?"
  );

  private record Line(long number, int level, String text) {}

  private final Deque<Line> lines = new ArrayDeque<>();
  private final StringBuilder line = new StringBuilder();
  private int lineLevel;
  private long count;
  private Consumer<String> listener = _ -> {};

  /** A native {@code ggml_log_callback} that never goes away. */
  MemorySegment callback() {
    FunctionDescriptor descriptor = FunctionDescriptor.ofVoid(JAVA_INT, ADDRESS, ADDRESS);
    return Upcall.stub(MethodHandles.lookup(), this, "accept", descriptor, Arena.global());
  }

  /** Receives every piece of text from now on, from whichever thread logs. Must not throw: the caller is native code. */
  synchronized void listener(Consumer<String> newListener) {
    listener = newListener;
  }

  /** The last lines, oldest first. */
  synchronized List<String> lines() {
    return lines.stream().map(Line::text).toList();
  }

  /** Number of lines so far. */
  synchronized long count() {
    return count;
  }

  /**
   * Why something failed: the first error that was logged since then is its cause, those after it are its consequences.
   *
   * @param start {@link #count()} before it was tried
   */
  synchronized String reason(long start) {
    return lines
      .stream()
      .filter(l -> l.number >= start && l.level == LEVEL_ERROR)
      .map(l -> PREFIX.matcher(l.text).replaceFirst("").strip())
      .filter(text -> !text.isEmpty())
      .findFirst()
      .orElse("no reason given");
  }

  @SuppressWarnings({ "unused", "UnusedMethod", "UnusedVariable" }) // called by native code, whose signature this is
  private synchronized void accept(int level, MemorySegment text, MemorySegment userData) {
    String piece = Natives.string(text);
    if (line.isEmpty()) {
      lineLevel = level;
    }
    if (lineLevel != LEVEL_DEBUG) {
      listener.accept(piece);
    }
    line.append(piece);
    for (int end = line.indexOf("\n"); end >= 0; end = line.indexOf("\n")) {
      if (lineLevel != LEVEL_DEBUG) {
        lines.addLast(new Line(count++, lineLevel, line.substring(0, end)));
      }
      line.delete(0, end + 1);
      if (lines.size() > KEPT) {
        lines.removeFirst();
      }
    }
  }
}
