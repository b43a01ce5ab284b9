package dev.attar.formats;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Runs Jazzer on a fuzz target: a public class with {@code public static void fuzzerTestOneInput(byte[] data)}, which must return
 * normally for any data. Jazzer instruments what it runs and stays in its JVM, so each target gets a process of its own. The seed is
 * fixed. {@code -Dattar.fuzz.seconds=N} fuzzes for longer.
 */
public final class Fuzzing {

  private static final int SECONDS = Integer.getInteger("attar.fuzz.seconds", 3);
  private static final Pattern COVERAGE = Pattern.compile("#(\\d+)\\s+DONE\\s+cov: (\\d+)");

  private Fuzzing() {}

  /**
   * Fuzzes a target for some seconds and fails if it throws anything.
   *
   * @param target the class of the target
   * @param folder an empty folder for the corpus and findings
   * @param seeds inputs to start from
   */
  public static void run(Class<?> target, Path folder, List<byte[]> seeds) throws IOException, InterruptedException {
    Path corpus = Files.createDirectory(folder.resolve("corpus"));
    for (int i = 0; i < seeds.size(); i++) {
      Files.write(corpus.resolve("seed-" + i), seeds.get(i));
    }
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xmx512m", "-XX:+EnableDynamicAgentLoading", "--sun-misc-unsafe-memory-access=allow"));
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "--add-modules", "jdk.incubator.vector"));
    command.addAll(List.of("-cp", System.getProperty("java.class.path"), "com.code_intelligence.jazzer.Jazzer"));
    command.addAll(List.of("--target_class=" + target.getName(), "--instrumentation_includes=dev.attar.**"));
    command.add("--custom_hook_includes=dev.attar.**");
    command.addAll(List.of("--reproducer_path=" + folder, "-artifact_prefix=" + folder + "/", corpus.toString()));
    command.addAll(
      List.of("-seed=1", "-max_total_time=" + SECONDS, "-max_len=65536", "-timeout=10", "-rss_limit_mb=0")
    );
    Path log = folder.resolve("log");
    Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    process.getOutputStream().close();
    int exit = process.waitFor();
    String output = Files.readString(log);
    assertEquals(0, exit, output);
    Matcher done = COVERAGE.matcher(output);
    assertTrue(done.find(), output);
    // Without instrumentation there is next to no coverage: such a run would prove nothing.
    assertTrue(Integer.parseInt(done.group(2)) > 30, output);
    System.out.println(target.getSimpleName() + ": " + done.group());
  }
}
