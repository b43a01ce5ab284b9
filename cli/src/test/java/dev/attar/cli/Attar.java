package dev.attar.cli;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assertions;

/** Runs the command in this JVM or in one of its own. */
final class Attar {

  private static final long LIMIT_SECONDS = 120;

  private Attar() {}

  /**
   * What came of a run.
   *
   * @param code exit code
   * @param out standard output
   * @param err standard error
   */
  record Result(int code, String out, String err) {
    Result expect(int expected) {
      Assertions.assertEquals(expected, code, () -> "exit code; out: " + out + " err: " + err);
      return this;
    }

    /** Checks that it failed as commands fail: with this code, one line, and no result. */
    String error(int expected) {
      expect(expected);
      Assertions.assertEquals("", out);
      List<String> lines = err.lines().toList();
      Assertions.assertEquals(1, lines.size(), err);
      Assertions.assertTrue(lines.getFirst().startsWith("attar: "), err);
      return lines.getFirst().substring("attar: ".length());
    }
  }

  /** Runs in this JVM. */
  static Result run(Object... args) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    ByteArrayOutputStream err = new ByteArrayOutputStream();
    Console console = new Console(
      new PrintStream(out, true, StandardCharsets.UTF_8),
      new PrintStream(err, true, StandardCharsets.UTF_8)
    );
    int code = Main.run(words(args).toArray(String[]::new), console);
    return new Result(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
  }

  /** The command line that runs it in a JVM of its own. */
  static List<String> childCommand(Object... args) {
    List<String> command = new ArrayList<>(
      List.of(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "--add-modules",
        "jdk.incubator.vector",
        "--enable-native-access=ALL-UNNAMED",
        "-XX:+UseSerialGC",
        "-XX:-UsePerfData",
        "-Xmx400m",
        "-cp",
        System.getProperty("java.class.path"),
        Main.class.getName()
      )
    );
    command.addAll(words(args));
    return command;
  }

  /** Waits for a process that was started with pipes. */
  static Result await(Process process) throws IOException, InterruptedException {
    CompletableFuture<String> out = read(process.getInputStream());
    CompletableFuture<String> err = read(process.getErrorStream());
    if (!process.waitFor(LIMIT_SECONDS, TimeUnit.SECONDS)) {
      process.destroyForcibly();
      Assertions.fail("still running after " + LIMIT_SECONDS + " s");
    }
    String notice = "WARNING: Using incubator modules: jdk.incubator.vector\n";
    return new Result(process.exitValue(), out.join(), err.join().replace(notice, ""));
  }

  private static CompletableFuture<String> read(InputStream in) {
    return CompletableFuture.supplyAsync(() -> {
      try (in) {
        return new String(in.readAllBytes(), StandardCharsets.UTF_8);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    });
  }

  private static List<String> words(Object... args) {
    return List.of(args).stream().map(Object::toString).toList();
  }
}
