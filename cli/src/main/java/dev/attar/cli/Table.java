package dev.attar.cli;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.List;

/** Rows of text in columns, with two blanks between them. A column without any text is left out. */
final class Table {

  /** Which side of a column the text keeps to. */
  enum Align {
    LEFT,
    RIGHT
  }

  private final Align[] aligns;
  private final List<String[]> rows = new ArrayList<>();

  /** A table with these columns. */
  Table(Align... aligns) {
    this.aligns = aligns;
  }

  /** Adds a row; texts must be safe to print. */
  Table row(String... cells) {
    if (cells.length != aligns.length) {
      throw new IllegalArgumentException(cells.length + " cells for " + aligns.length + " columns");
    }
    rows.add(cells);
    return this;
  }

  /** Prints the rows, each indented by two blanks. */
  void print(PrintStream out) {
    int[] widths = new int[aligns.length];
    for (String[] row : rows) {
      for (int i = 0; i < row.length; i++) {
        widths[i] = Math.max(widths[i], width(row[i]));
      }
    }
    for (String[] row : rows) {
      StringBuilder line = new StringBuilder(" ");
      for (int i = 0; i < row.length; i++) {
        if (widths[i] == 0) {
          continue;
        }
        String padding = " ".repeat(widths[i] - width(row[i]));
        line.append(' ').append(aligns[i] == Align.LEFT ? row[i] + padding : padding + row[i]).append(' ');
      }
      out.println(line.toString().stripTrailing());
    }
  }

  private static int width(String text) {
    return text.codePointCount(0, text.length());
  }
}
