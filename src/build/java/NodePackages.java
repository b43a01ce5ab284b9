import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/** What the build steps that take something from npm have in common: npm itself, stamps that tell what is up to date. */
final class NodePackages {

  private NodePackages() {}

  /**
   * Installs the packages that a module's {@code package-lock.json} pins, unless they are there already.
   *
   * @param module folder of the module
   * @param stamp what the packages depend on
   * @param wanted the package that is needed; npm leaves optional ones out without an error
   * @param offline whether npm may only use its cache
   * @return what went wrong, or {@code null}
   */
  static String install(Path module, String stamp, Path wanted, boolean offline) throws Exception {
    Path done = module.resolve("node_modules").resolve(".attar-lock");
    if (read(done).equals(stamp) && Files.isDirectory(wanted)) {
      return null;
    }
    // The packages need no scripts. Retries are cut short so that a build without a network does not hang.
    List<String> command = new ArrayList<>(List.of("ci", "--ignore-scripts", "--no-audit", "--no-fund"));
    command.addAll(List.of("--loglevel=error", "--prefer-offline"));
    command.addAll(List.of("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"));
    if (offline) {
      command.add("--offline");
    }
    String problem = npm(module, command);
    if (problem != null) {
      return problem;
    }
    if (!Files.isDirectory(wanted)) {
      return "npm ci left out " + wanted.getFileName() + " (no network?)";
    }
    Files.writeString(done, stamp);
    return null;
  }

  /** Runs npm in a folder; returns what went wrong, or {@code null}. */
  static String npm(Path folder, List<String> arguments) throws Exception {
    boolean windows = System.getProperty("os.name").toLowerCase(Locale.ROOT).startsWith("windows");
    List<String> command = new ArrayList<>(List.of(windows ? "npm.cmd" : "npm"));
    command.addAll(arguments);
    Process npm;
    try {
      npm = new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).start();
    } catch (IOException e) {
      return "npm cannot be run (it comes with Node.js 20 or newer)";
    }
    npm.getOutputStream().close();
    String log = new String(npm.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int code = npm.waitFor();
    if (code == 0) {
      return null;
    }
    String reason = log
      .lines()
      .filter(line -> line.startsWith("npm error"))
      .findFirst()
      .orElse("exit code " + code);
    return "npm " + arguments.getFirst() + " failed: " + reason.replaceFirst("^npm error ?", "");
  }

  /** The text of a file; empty if there is none. */
  static String read(Path file) throws IOException {
    return Files.exists(file) ? Files.readString(file) : "";
  }

  /** Makes an empty folder of this one, with an empty folder {@code resources} in it. */
  static void clear(Path folder) throws IOException {
    if (Files.exists(folder)) {
      try (Stream<Path> all = Files.walk(folder)) {
        for (Path path : all.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(path);
        }
      }
    }
    Files.createDirectories(folder.resolve("resources"));
  }

  /** The digest of a file in hexadecimal. */
  static String sha256(Path file) throws Exception {
    MessageDigest digest = MessageDigest.getInstance("SHA-256");
    try (InputStream in = Files.newInputStream(file)) {
      byte[] buffer = new byte[1 << 16];
      for (int n = in.read(buffer); n >= 0; n = in.read(buffer)) {
        digest.update(buffer, 0, n);
      }
    }
    return HexFormat.of().formatHex(digest.digest());
  }
}
