package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import java.util.List;
import java.util.stream.Collectors;

/** Presents the summary of a comparison as a table in GitHub's Markdown; the best values are bold. */
public final class MarkdownTable {

  private MarkdownTable() {}

  /** The table, ending in a line break. */
  public static String of(Comparison comparison) {
    return of(SummaryTable.of(comparison));
  }

  static String of(SummaryTable table) {
    List<SummaryTable.Column> columns = table.columns();
    StringBuilder out = new StringBuilder();
    out.append(columns.stream().map(SummaryTable.Column::heading).collect(Collectors.joining(" | ", "| ", " |\n")));
    out.append(
      columns
        .stream()
        .map(c -> c.isNumber() ? "--:" : ":--")
        .collect(Collectors.joining(" | ", "| ", " |\n"))
    );
    for (SummaryTable.Row row : table.rows()) {
      out.append("| ").append(escape(row.name()));
      for (int i = 1; i < columns.size(); i++) {
        out.append(" | ");
        if (row.failure().isEmpty()) {
          SummaryTable.Cell cell = row.cells().get(i);
          out.append(cell.best() ? "**" + cell.inline() + "**" : cell.inline());
        } else if (i == 1) {
          out.append(escape(row.failure().get()));
        }
      }
      if (columns.size() == 1 && row.failure().isPresent()) {
        out.append(" (").append(escape(row.failure().get())).append(')');
      }
      out.append(" |\n");
    }
    return out.toString();
  }

  /** Text that Markdown shows as it is, in one line. An underscore within a word, as in {@code Q4_K_M}, needs no escape. */
  private static String escape(String text) {
    StringBuilder out = new StringBuilder();
    for (int i = 0; i < text.length(); i++) {
      char c = text.charAt(i);
      switch (c) {
        case '&' -> out.append("&amp;");
        case '<' -> out.append("&lt;");
        case '>' -> out.append("&gt;");
        case '\\', '|', '`', '*', '[', ']', '~', '$' -> out.append('\\').append(c);
        case '_' -> out.append(isInWord(text, i) ? "_" : "\\_");
        default -> out.append(Character.isISOControl(c) || c == '\u2028' || c == '\u2029' ? ' ' : c);
      }
    }
    return out.toString();
  }

  private static boolean isInWord(String text, int i) {
    return (
      i > 0 &&
      i + 1 < text.length() &&
      Character.isLetterOrDigit(text.charAt(i - 1)) &&
      Character.isLetterOrDigit(text.charAt(i + 1))
    );
  }
}
