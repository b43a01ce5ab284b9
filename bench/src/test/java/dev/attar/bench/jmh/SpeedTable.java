package dev.attar.bench.jmh;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * Prints, from the JSON that JMH wrote for {@link EncodeBenchmark}, how many times as fast as ggml's encoder ours is: a line per
 * type, without and with importance, each with the range that the two scores' errors allow. Can draw the same as a bar chart.
 */
public final class SpeedTable {

  private static final int BAR = 16;
  private static final int LEFT = 84;
  private static final int WIDTH = 760;

  /**
   * How many times as fast.
   *
   * @param low by the lower end of our score's interval and the upper end of ggml's
   * @param high the reverse
   */
  private record Ratio(double value, double low, double high) {}

  private record Line(String type, Ratio plain, Ratio weighted) {}

  private SpeedTable() {}

  /**
   * @param args the JSON file; then, if wanted, the SVG file to write
   */
  public static void main(String[] args) throws IOException {
    List<Line> lines = read(new File(args[0]));
    System.out.printf(Locale.ROOT, "%-8s %26s %26s%n", "type", "without importance", "with importance");
    for (Line line : lines) {
      System.out.printf(Locale.ROOT, "%-8s %26s %26s%n", line.type, text(line.plain), text(line.weighted));
    }
    if (args.length > 1) {
      Files.writeString(Path.of(args[1]), chart(lines));
    }
  }

  private static List<Line> read(File json) throws IOException {
    Map<String, JsonNode> metrics = new TreeMap<>();
    List<String> types = new ArrayList<>();
    for (JsonNode run : new ObjectMapper().readTree(json)) {
      String benchmark = run.path("benchmark").asText();
      String method = benchmark.substring(benchmark.lastIndexOf('.') + 1);
      String type = run.path("params").path("type").asText();
      metrics.put(key(type, run.path("params").path("importance").asText(), method), run.path("primaryMetric"));
      if (!types.contains(type)) {
        types.add(type);
      }
    }
    return types
      .stream()
      .map(type -> new Line(type, ratio(metrics, type, "false"), ratio(metrics, type, "true")))
      .toList();
  }

  private static String key(String type, String importance, String method) {
    return type + " " + importance + " " + method;
  }

  private static Ratio ratio(Map<String, JsonNode> metrics, String type, String importance) {
    JsonNode ours = metrics.get(key(type, importance, "attar"));
    JsonNode theirs = metrics.get(key(type, importance, "ggml"));
    if (ours == null || theirs == null) {
      return null;
    }
    double a = ours.path("score").asDouble();
    double b = theirs.path("score").asDouble();
    double da = ours.path("scoreError").asDouble(0);
    double db = theirs.path("scoreError").asDouble(0);
    return new Ratio(a / b, Math.max(0, a - da) / (b + db), (a + da) / Math.max(b - db, b / 100));
  }

  private static String text(Ratio ratio) {
    return ratio == null ? "-" : String.format(Locale.ROOT, "%.2f (%.2f to %.2f)", ratio.value, ratio.low, ratio.high);
  }

  private static String chart(List<Line> lines) {
    double most = lines
      .stream()
      .mapToDouble(line -> Math.max(value(line.plain), value(line.weighted)))
      .max()
      .orElse(1);
    double scale = (WIDTH - LEFT - 60) / most;
    int height = 58 + lines.size() * (2 * BAR + 8);
    StringBuilder svg = new StringBuilder();
    svg.append(
      """
      <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %1$d %2$d" width="%1$d" height="%2$d" role="img" \
      aria-label="Speed of encoding on one core, as a multiple of ggml_quantize_chunk's">
      <style>
      text { font: 13px system-ui, sans-serif; fill: #24292f }
      .plain { fill: #2f6f9f } .weighted { fill: #d18f2c } .one { stroke: #8c959f; stroke-dasharray: 4 3 }
      @media (prefers-color-scheme: dark) { text { fill: #d0d7de } .plain { fill: #5aa2d6 } .weighted { fill: #e0a94f } }
      </style>
      """.formatted(WIDTH, height)
    );
    svg.append(
      "<text x='%d' y='18'>Encoding on one core, times as fast as ggml_quantize_chunk</text>%n".formatted(LEFT)
    );
    svg.append("<rect class='plain' x='%d' y='28' width='12' height='12'/>".formatted(LEFT));
    svg.append("<text x='%d' y='39'>without importance</text>".formatted(LEFT + 18));
    svg.append("<rect class='weighted' x='%d' y='28' width='12' height='12'/>".formatted(LEFT + 160));
    svg.append("<text x='%d' y='39'>with importance</text>%n".formatted(LEFT + 178));
    int y = 52;
    for (Line line : lines) {
      svg.append("<text x='%d' y='%d' text-anchor='end'>%s</text>".formatted(LEFT - 8, y + BAR + 4, line.type));
      bar(svg, "plain", line.plain, y, scale);
      bar(svg, "weighted", line.weighted, y + BAR, scale);
      y += 2 * BAR + 8;
    }
    double one = LEFT + scale;
    svg.append(
      String.format(
        Locale.ROOT,
        "<line class='one' x1='%.1f' y1='46' x2='%.1f' y2='%d'/>%n</svg>%n",
        one,
        one,
        height - 4
      )
    );
    return svg.toString();
  }

  private static double value(Ratio ratio) {
    return ratio == null ? 0 : ratio.value;
  }

  private static void bar(StringBuilder svg, String kind, Ratio ratio, int y, double scale) {
    if (ratio != null) {
      double width = ratio.value * scale;
      svg.append(
        String.format(
          Locale.ROOT,
          "<rect class='%s' x='%d' y='%d' width='%.1f' height='%d'/><text x='%.1f' y='%d'>%.1f</text>%n",
          kind,
          LEFT,
          y,
          width,
          BAR - 2,
          LEFT + width + 6,
          y + BAR - 4,
          ratio.value
        )
      );
    }
  }
}
