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

/**
 * Build step of this module: has npm install the prebuilt libraries of llama.cpp that {@code package-lock.json} pins, and
 * lays those of the host out as resources with an index of names, sizes and SHA-256 digests.
 *
 * <p>Run as {@code java BundleLibraries.java MODULE_FOLDER OUTPUT_FOLDER offline=true|false}. Does nothing when the result is up to date.
 * Without npm or without a network the build goes on: one warning is printed and nothing is bundled.
 */
final class BundleLibraries {

  private static final String PACKAGE = "dev/attar/llama/native";

  private BundleLibraries() {}

  public static void main(String[] args) throws Exception {
    Path module = Path.of(args[0]);
    Path output = Path.of(args[1]);
    boolean offline = args[2].equals("offline=true");
    String platform = platform();
    String stamp = sha256(module.resolve("package-lock.json")) + " " + platform;
    if (read(output.resolve("up-to-date")).equals(stamp)) {
      return;
    }
    clear(output);
    Path installed = module.resolve("node_modules").resolve("@node-llama-cpp").resolve(String.valueOf(platform));
    String problem = platform == null
      ? "there are none for " + System.getProperty("os.name") + " " + System.getProperty("os.arch")
      : install(module, installed, stamp, offline);
    if (problem != null) {
      System.out.println(
        "[WARNING] llama.cpp's libraries are not bundled: " +
          problem +
          " (ATTAR_LLAMA_LIB can name their folder at run time)"
      );
      return;
    }
    bundle(installed, output.resolve("resources").resolve(PACKAGE).resolve(platform), platform);
    Files.writeString(output.resolve("up-to-date"), stamp);
  }

  /** The platform's name in the package names, or {@code null} if there is no package for it. */
  private static String platform() {
    String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
    String system = os.startsWith("linux")
      ? "linux"
      : os.startsWith("mac")
        ? "mac"
        : os.startsWith("windows")
          ? "win"
          : "";
    String machine = switch (System.getProperty("os.arch")) {
      case "amd64", "x86_64" -> "x64";
      case "aarch64", "arm64" -> "arm64";
      default -> "";
    };
    return switch (system + "-" + machine) {
      case "linux-x64" -> "linux-x64";
      case "linux-arm64" -> "linux-arm64";
      case "mac-arm64" -> "mac-arm64-metal";
      case "mac-x64" -> "mac-x64";
      case "win-x64" -> "win-x64";
      default -> null;
    };
  }

  /** Installs the packages unless they are there already; returns what went wrong, or {@code null}. */
  private static String install(Path module, Path installed, String stamp, boolean offline) throws Exception {
    Path done = module.resolve("node_modules").resolve(".attar-lock");
    if (read(done).equals(stamp) && Files.isDirectory(installed)) {
      return null;
    }
    boolean windows = System.getProperty("os.name").toLowerCase(Locale.ROOT).startsWith("windows");
    List<String> command = new ArrayList<>(List.of(windows ? "npm.cmd" : "npm", "ci"));
    // The packages need no scripts. Retries are cut short so that a build without a network does not hang.
    command.addAll(List.of("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"));
    command.addAll(List.of("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=60000"));
    if (offline) {
      command.add("--offline");
    }
    Process npm;
    try {
      npm = new ProcessBuilder(command).directory(module.toFile()).redirectErrorStream(true).start();
    } catch (IOException e) {
      return "npm cannot be run (it comes with Node.js 20 or newer)";
    }
    npm.getOutputStream().close();
    String log = new String(npm.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int code = npm.waitFor();
    if (code != 0) {
      String reason = log
        .lines()
        .filter(line -> line.startsWith("npm error"))
        .findFirst()
        .orElse("exit code " + code);
      return "npm ci failed: " + reason.replaceFirst("^npm error ?", "");
    }
    // A package that cannot be fetched is left out without an error, for it is optional.
    if (!Files.isDirectory(installed)) {
      return "npm ci left out " + installed.getFileName() + " (no network?)";
    }
    Files.writeString(done, stamp);
    return null;
  }

  private static void bundle(Path installed, Path target, String platform) throws Exception {
    Files.createDirectories(target);
    List<Path> files;
    try (Stream<Path> all = Files.list(installed.resolve("bins").resolve(platform))) {
      files = all.filter(BundleLibraries::isNeeded).sorted().toList();
    }
    StringBuilder index = new StringBuilder();
    for (Path file : files) {
      String name = file.getFileName().toString();
      Files.copy(file, target.resolve(name));
      index.append(sha256(file)).append(' ').append(Files.size(file)).append(' ').append(name).append('\n');
    }
    Files.copy(installed.resolve("LICENSE"), target.resolve("LICENSE-node-llama-cpp.txt"));
    Files.writeString(target.resolve("index"), index);
  }

  /** The libraries, without the tools' common code and the binding to Node.js. */
  private static boolean isNeeded(Path file) {
    String name = file.getFileName().toString();
    boolean library =
      name.endsWith(".so") || name.endsWith(".dylib") || name.endsWith(".dll") || name.endsWith(".metallib");
    return library && !name.contains("llama-common");
  }

  private static String read(Path file) throws IOException {
    return Files.exists(file) ? Files.readString(file) : "";
  }

  private static void clear(Path folder) throws IOException {
    if (Files.exists(folder)) {
      try (Stream<Path> all = Files.walk(folder)) {
        for (Path path : all.sorted(Comparator.reverseOrder()).toList()) {
          Files.delete(path);
        }
      }
    }
    Files.createDirectories(folder.resolve("resources"));
  }

  private static String sha256(Path file) throws Exception {
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
