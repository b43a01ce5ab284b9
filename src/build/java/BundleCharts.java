import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/**
 * Build step of {@code bench}: has npm install the charting library that {@code package-lock.json} pins, and lays what the report uses
 * of it out as one script, with its licences at the top.
 *
 * <p>Run as {@code java BundleCharts.java MODULE_FOLDER OUTPUT_FOLDER offline=true|false}. Does nothing when the result is up to date.
 * Without npm or without a network the build goes on: one warning is printed and nothing is bundled.
 */
final class BundleCharts {

  private static final String SCRIPT = "dev/attar/bench/report/echarts.js";

  private BundleCharts() {}

  public static void main(String[] args) throws Exception {
    Path module = Path.of(args[0]);
    Path output = Path.of(args[1]);
    boolean offline = args[2].equals("offline=true");
    String lock = NodePackages.sha256(module.resolve("package-lock.json"));
    String stamp =
      lock +
      " " +
      NodePackages.sha256(module.resolve("package.json")) +
      " " +
      NodePackages.sha256(module.resolve("src/build/charts.js"));
    if (NodePackages.read(output.resolve("up-to-date")).equals(stamp)) {
      return;
    }
    NodePackages.clear(output);
    Path packages = module.resolve("node_modules");
    Path script = output.resolve("charts.js");
    String problem = NodePackages.install(module, lock, packages.resolve("echarts"), offline);
    if (problem == null) {
      problem = NodePackages.npm(module, List.of("run", "bundle", "--", "--outfile=" + script.toAbsolutePath()));
    }
    if (problem != null) {
      System.out.println("[WARNING] The charting library is not bundled, so no HTML report can be written: " + problem);
      return;
    }
    Path target = output.resolve("resources").resolve(SCRIPT);
    Files.createDirectories(target.getParent());
    Files.writeString(target, licences(packages) + Files.readString(script));
    Files.writeString(output.resolve("up-to-date"), stamp);
  }

  /** What the licences of the parts ask to be kept with them, as a comment. */
  private static String licences(Path packages) throws Exception {
    String text = String.join(
      "\n\n",
      Files.readString(packages.resolve("echarts/NOTICE")).strip(),
      """
      Licensed under the Apache License, Version 2.0; you may not use this file except in compliance with the License.
      You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
      Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on
      an "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.

      Changes: only the parts that are used here, minified.

      Contains zrender:""",
      Files.readString(packages.resolve("zrender/LICENSE")).strip(),
      "Contains code of d3.js:",
      Files.readString(packages.resolve("echarts/licenses/LICENSE-d3")).strip(),
      "Contains tslib:",
      Files.readString(packages.resolve("tslib/LICENSE.txt")).strip()
    );
    // The licences are those of the pinned versions; a sign that ends the comment or the script would be a surprise.
    if (text.contains("*/") || text.contains("</")) {
      throw new IllegalStateException("a licence in " + packages + " cannot stand in a comment");
    }
    return "/*!\n" + text + "\n*/\n";
  }
}
