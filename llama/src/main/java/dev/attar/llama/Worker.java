package dev.attar.llama;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.InterruptedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.regex.Pattern;

/**
 * Runs a main class in a JVM of its own, on the class path and the Java of this one, so that native code that ends its process
 * does not end ours.
 */
final class Worker {

  private static final int KEPT = 200;

  // Before what a worker's main reports itself.
  static final String ERROR = "error: ";

  // A failed assertion names its place in the source; an error that is reported says so.
  private static final Pattern TELLING = Pattern.compile("GGML_ASSERT|\\.(c|cpp|h|m):\\d+: |failed to|[Ee]rror");

  /**
   * What a worker that ended well wrote.
   *
   * @param output last lines of its standard output, oldest first
   * @param log last lines of its standard error, oldest first
   */
  record Output(List<String> output, List<String> log) {}

  private Worker() {}

  /**
   * Runs to the end. The worker is ended when this process ends, or when the calling thread is interrupted.
   *
   * @param main class with a {@code main} method
   * @param arguments for it
   * @throws NativeFailure if the worker's exit code is not 0; carries the last lines of its standard error
   */
  static Output run(Class<?> main, List<String> arguments) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-XX:+UseSerialGC");
    command.add("-XX:TieredStopAtLevel=1");
    // A crash report goes to the log that we read, not to the user's folder.
    command.add("-XX:+ErrorFileToStderr");
    command.add("-XX:-CreateCoredumpOnCrash");
    command.add("-Dstderr.encoding=UTF-8");
    command.add("-Dstdout.encoding=UTF-8");
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(main.getName());
    command.addAll(arguments);
    ProcessBuilder builder = new ProcessBuilder(command);
    // Without this a failed assertion starts a debugger to print a backtrace.
    builder.environment().put("GGML_NO_BACKTRACE", "1");
    Process process = builder.start();
    Thread killer = new Thread(process::destroyForcibly);
    Runtime.getRuntime().addShutdownHook(killer);
    Deque<String> output = new ArrayDeque<>();
    Deque<String> log = new ArrayDeque<>();
    try {
      process.getOutputStream().close();
      Thread outputReader = Thread.ofVirtual().start(() -> keepLast(process.getInputStream(), output));
      Thread logReader = Thread.ofVirtual().start(() -> keepLast(process.getErrorStream(), log));
      int code = process.waitFor();
      outputReader.join();
      logReader.join();
      if (code != 0) {
        List<String> lines = List.copyOf(log);
        throw new NativeFailure(describe(code, lines), code, lines);
      }
      return new Output(List.copyOf(output), List.copyOf(log));
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      InterruptedIOException interrupted = new InterruptedIOException("interrupted while a worker process ran");
      interrupted.initCause(e);
      throw interrupted;
    } finally {
      process.destroyForcibly();
      process.onExit().join(); // its files are free then
      try {
        Runtime.getRuntime().removeShutdownHook(killer);
      } catch (IllegalStateException _) {
        // The JVM is ending: the hook is running.
      }
    }
  }

  private static void keepLast(InputStream stream, Deque<String> kept) {
    try (BufferedReader lines = new BufferedReader(new InputStreamReader(stream, StandardCharsets.UTF_8))) {
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        kept.addLast(line);
        if (kept.size() > KEPT) {
          kept.removeFirst();
        }
      }
    } catch (IOException _) {
      // The worker was ended while it wrote: what was read so far is all there is.
    }
  }

  private static String describe(int code, List<String> log) {
    List<String> said = log
      .stream()
      .map(String::strip)
      .filter(line -> !line.isEmpty())
      .toList();
    String last = said.isEmpty() ? "it said nothing" : said.getLast();
    for (String line : said.reversed()) {
      if (TELLING.matcher(line).find()) {
        last = line.startsWith(ERROR) ? line.substring(ERROR.length()) : line;
        break;
      }
    }
    return (code == 1 ? "llama.cpp failed: " : "llama.cpp ended its process (exit code " + code + "): ") + last;
  }
}
