package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * Presents a comparison as comma-separated values (RFC 4180): a header of the keys of {@link JsonResults}, then a line per model. A cell
 * is empty where the key is absent or null.
 *
 * <p>Text that a spreadsheet would take for a formula gets an apostrophe in front, which spreadsheets do not show.
 */
public final class CsvResults {

  private CsvResults() {}

  /** The lines, each ending in CR LF. */
  public static String of(Comparison comparison) {
    List<Map<String, Object>> models = JsonResults.of(comparison);
    // The model with the most keys first: its order is the order of all.
    Set<String> keys = new LinkedHashSet<>();
    models
      .stream()
      .sorted(Comparator.comparingInt(model -> -model.size()))
      .forEach(model -> keys.addAll(model.keySet()));
    return (
      line(keys) +
      models
        .stream()
        .map(model ->
          line(
            keys
              .stream()
              .map(key -> text(model.get(key)))
              .toList()
          )
        )
        .collect(Collectors.joining())
    );
  }

  private static String line(Collection<String> cells) {
    return cells.stream().map(CsvResults::quoted).collect(Collectors.joining(",", "", "\r\n"));
  }

  private static String text(Object value) {
    return switch (value) {
      case null -> "";
      case String text when !text.isEmpty() && "=+-@\t\r\n".indexOf(text.charAt(0)) >= 0 -> "'" + text;
      default -> value.toString();
    };
  }

  private static String quoted(String cell) {
    return cell.chars().anyMatch(c -> c == ',' || c == '"' || c == '\r' || c == '\n')
      ? '"' + cell.replace("\"", "\"\"") + '"'
      : cell;
  }
}
