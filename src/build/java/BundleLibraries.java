import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/**
 * Build step of {@code llama}: has npm install the prebuilt libraries of llama.cpp that {@code package-lock.json} pins, and
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
    String stamp = NodePackages.sha256(module.resolve("package-lock.json")) + " " + platform;
    if (NodePackages.read(output.resolve("up-to-date")).equals(stamp)) {
      return;
    }
    NodePackages.clear(output);
    Path installed = module.resolve("node_modules").resolve("@node-llama-cpp").resolve(String.valueOf(platform));
    String problem = platform == null
      ? "there are none for " + System.getProperty("os.name") + " " + System.getProperty("os.arch")
      : NodePackages.install(module, stamp, installed, offline);
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
      index
        .append(NodePackages.sha256(file))
        .append(' ')
        .append(Files.size(file))
        .append(' ')
        .append(name)
        .append('\n');
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
}
