package dev.attar.llama;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The last lines of a worker's standard error, and what they say about its end. Safe for use by several threads. */
final class WorkerLog {

  private static final int KEPT = 200;
  private static final int LONGEST = 4096;

  // What the JVM says for itself and has no option to leave out.
  // Where llama.cpp was built does not matter to anybody: what follows names the file.
  private static final Pattern BUILD_FOLDER = Pattern.compile("\\S*[/\\\\]llama\\.cpp[/\\\\](?=(ggml|src)[/\\\\])");

  private static final Pattern NOTICE = Pattern.compile(
    "WARNING: Using incubator modules: .*|Picked up \\w+: .*|Error: Could not create the Java Virtual Machine\\." +
      "|Error: A fatal exception has occurred\\. Program will exit\\.|Error occurred during initialization of VM"
  );

  // A failed assertion names its place in the source; an error that is reported says so.
  private static final Pattern TELLING = Pattern.compile("GGML_ASSERT|\\.(c|cpp|h|m):\\d+: |failed to|[Ee]rror");

  // The JVM's report of a crash, which goes on for hundreds of lines; its beginning has the signal and the function.
  private static final Pattern CRASH = Pattern.compile(
    "# (A fatal error has been detected by the Java|There is insufficient memory for the Java) .*"
  );
  private static final Pattern SIGNAL = Pattern.compile("#\\s+(\\w+ \\(0x\\p{XDigit}+\\)) at .*");
  private static final String FRAME = "# Problematic frame:";
  private static final int CRASH_KEPT = 30;

  private final Deque<String> lines = new ArrayDeque<>();
  private final List<String> crash = new ArrayList<>();

  /** Reads to the end. */
  void readFrom(InputStream stream) {
    StringBuilder line = new StringBuilder();
    try (BufferedReader in = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8))) {
      for (int c = in.read(); c >= 0; c = in.read()) {
        if (c == '\n') {
          add(line.toString());
          line.setLength(0);
        } else if (c != '\r' && line.length() < LONGEST) {
          line.append((char) c);
        }
      }
    } catch (IOException _) {
      // The worker was ended while it wrote: what was read so far is all there is.
    }
    if (!line.isEmpty()) {
      add(line.toString());
    }
  }

  private synchronized void add(String line) {
    if (!crash.isEmpty() || CRASH.matcher(line).matches()) {
      if (crash.size() < CRASH_KEPT) {
        crash.add(line);
      }
    } else if (!line.equals("#") && !NOTICE.matcher(line).matches()) {
      lines.addLast(line);
      if (lines.size() > KEPT) {
        lines.removeFirst();
      }
    }
  }

  /** Oldest first, without the JVM's report of a crash. */
  synchronized List<String> lines() {
    return List.copyOf(lines);
  }

  /** Why the worker ended with this exit code when nobody told it to, in one line. */
  synchronized String reason(int code) {
    if (!crash.isEmpty()) {
      return "llama.cpp crashed (exit code " + code + "): " + crashSite();
    }
    int signal = Posix.isHere() && code > 128 ? code - 128 : 0;
    return switch (signal) {
      case 9 -> "the worker process was killed (signal 9), perhaps for want of memory";
      case 0 -> "the worker process ended before its work was done (exit code " + code + "): " + tellingLine();
      case 6 -> "llama.cpp ended its process (exit code " + code + ", abort): " + tellingLine();
      default -> "the worker process was killed (signal " + signal + ")";
    };
  }

  private String crashSite() {
    for (String line : crash) {
      Matcher signal = SIGNAL.matcher(line);
      if (signal.matches()) {
        int frame = crash.indexOf(FRAME) + 1;
        return signal.group(1) + (frame > 0 && frame < crash.size() ? " in " + text(crash.get(frame)) : "");
      }
    }
    // An error within the JVM or no memory: the line after the headline says what.
    return crash
      .stream()
      .skip(1)
      .map(WorkerLog::text)
      .filter(line -> !line.isEmpty())
      .findFirst()
      .orElse(text(crash.getFirst()));
  }

  private static String text(String crashLine) {
    return crashLine.replaceFirst("^#", "").strip().replaceAll("\\s+", " ");
  }

  private String tellingLine() {
    List<String> said = lines
      .stream()
      .map(String::strip)
      .filter(line -> !line.isEmpty())
      .toList();
    for (String line : said.reversed()) {
      if (TELLING.matcher(line).find()) {
        return BUILD_FOLDER.matcher(line).replaceFirst("");
      }
    }
    return said.isEmpty() ? "it said nothing" : said.getLast();
  }
}
