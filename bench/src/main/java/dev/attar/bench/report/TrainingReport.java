package dev.attar.bench.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import dev.attar.bench.Environment;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.stream.Collectors;

/**
 * What a report shows of a training; texts are ready to be shown.
 *
 * @param title what was trained
 * @param about what it was trained on, in a few words each
 * @param findings sentences
 * @param table what was measured, the first row is the heading; all rows are of one length
 * @param curves how it went, the most important first
 * @param settings names and values
 * @param environment where and with what
 */
public record TrainingReport(
  String title,
  List<String> about,
  List<String> findings,
  List<List<String>> table,
  List<Curve> curves,
  List<List<String>> settings,
  Environment environment
) {
  /** More points than this on a curve are joined to as many: a screen has no more. */
  private static final int MOST_POINTS = 1200;

  public TrainingReport {
    about = List.copyOf(about);
    findings = List.copyOf(findings);
    table = List.copyOf(table);
    curves = List.copyOf(curves);
    settings = List.copyOf(settings);
  }

  /**
   * A point of a curve.
   *
   * @param step from 0
   * @param value any number; those that are not finite are left out
   */
  public record Point(int step, double value) {}

  /**
   * How a value went over the steps.
   *
   * @param title what it is of
   * @param note its unit
   * @param what the value, to go before a number
   * @param steps its value in each step
   * @param validations its value in validations; one of the two may be empty
   * @param level what it might reach, with a name; empty for nothing
   */
  public record Curve(
    String title,
    String note,
    String what,
    List<Point> steps,
    List<Point> validations,
    Optional<Level> level
  ) {
    public Curve {
      steps = List.copyOf(steps);
      validations = List.copyOf(validations);
    }

    /** Whether there is anything to show. */
    public boolean isEmpty() {
      return finite(steps).isEmpty() && finite(validations).isEmpty();
    }
  }

  /**
   * A value to compare with.
   *
   * @param name of it
   */
  public record Level(String name, double value) {}

  /** The table for Markdown. */
  String markdown() {
    List<String> lines = new ArrayList<>(table.stream().map(TrainingReport::line).toList());
    lines.add(
      1,
      line(
        table
          .getFirst()
          .stream()
          .map(_ -> "---")
          .toList()
      )
    );
    return String.join("\n", lines) + "\n";
  }

  private static String line(List<String> cells) {
    return cells
      .stream()
      .map(cell -> cell.replace("|", "\\|"))
      .collect(Collectors.joining(" | ", "| ", " |"));
  }

  /** JSON that can stand in a {@code script} element: no {@code <} in it. */
  String json() {
    Map<String, Object> all = new LinkedHashMap<>();
    all.put("title", title);
    all.put("about", about);
    all.put("findings", findings);
    all.put("table", table);
    all.put("markdown", markdown());
    all.put(
      "curves",
      curves
        .stream()
        .filter(curve -> !curve.isEmpty())
        .map(TrainingReport::curve)
        .toList()
    );
    all.put("settings", settings);
    all.put("environment", ReportData.environment(environment));
    all.put("command", environment.commandLine());
    try {
      return ReportData.script(all);
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Map<String, Object> curve(Curve curve) {
    Map<String, Object> out = new LinkedHashMap<>();
    out.put("title", curve.title);
    out.put("note", curve.note);
    out.put("what", curve.what);
    out.put("steps", joined(finite(curve.steps)));
    out.put("validations", joined(finite(curve.validations)));
    OptionalDouble level = curve.level
      .map(Level::value)
      .filter(Double::isFinite)
      .map(OptionalDouble::of)
      .orElse(OptionalDouble.empty());
    out.put("level", level.isPresent() ? level.getAsDouble() : null);
    out.put("levelName", curve.level.map(Level::name).orElse(""));
    return out;
  }

  private static List<Point> finite(List<Point> points) {
    return points
      .stream()
      .filter(point -> Double.isFinite(point.value))
      .toList();
  }

  /** The points, or means of as many as one after the other. */
  private static List<List<Number>> joined(List<Point> points) {
    int group = Math.ceilDiv(points.size(), MOST_POINTS);
    List<List<Number>> out = new ArrayList<>();
    for (int from = 0; from < points.size(); from += group) {
      List<Point> some = points.subList(from, Math.min(points.size(), from + group));
      double mean = some.stream().mapToDouble(Point::value).average().orElseThrow();
      out.add(List.of(some.getLast().step, mean));
    }
    return out;
  }
}
