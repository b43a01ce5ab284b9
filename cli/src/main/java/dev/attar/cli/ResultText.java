package dev.attar.cli;

import dev.attar.bench.Comparison;
import dev.attar.bench.Estimate;
import dev.attar.bench.Failure;
import dev.attar.bench.ModelResult;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.report.SummaryTable;
import dev.attar.bench.tensors.TensorError;
import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.Stream;

/** Shows people what was measured. */
final class ResultText {

  /** What a table's rows may take, so that a terminal does not break them. */
  private static final int WIDTH = 100;

  private static final String STAR = " *";
  private static final String NO_STAR = "  ";

  private static final int WORST_TENSORS = 3;
  private static final int LOG_LINES = 10;

  private ResultText() {}

  /** Prints everything that is known of one model of a comparison, a line per value. */
  static void printModel(Comparison comparison, ModelResult model, PrintStream out) {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT);
    model
      .facts()
      .ifPresent(facts ->
        table
          .row("size", Text.size(facts.bytes()) + ", " + Text.number(facts.bitsPerWeight(), 3) + " bits per weight")
          .row("parameters", Text.count(facts.parameters()))
      );
    model
      .perplexity()
      .ifPresent(p ->
        table
          .row("perplexity", Text.estimate(p.value(), p.error()))
          .row("", p.tokens() + " tokens in " + Text.plural(p.windows(), "window") + " of " + p.context())
      );
    model.divergence().ifPresent(d -> addDivergence(table, comparison.base().subject().name(), d));
    boolean severalThreads =
      model
        .latency()
        .stream()
        .map(r -> r.test().threads())
        .distinct()
        .count() >
      1;
    for (LatencyResult result : model.latency()) {
      String threads = severalThreads ? ", " + Text.plural(result.test().threads(), "thread") : "";
      table.row(result.test().name() + threads, latency(result));
    }
    model.loadSeconds().ifPresent(seconds -> table.row("load time", Text.number(seconds, 3) + " s"));
    model.peakRssBytes().ifPresent(bytes -> table.row("peak memory", Text.size(bytes)));
    worst(model).forEach(error ->
      table.row(
        "tensor error",
        Text.number(error.relativeError(), 3) + "  " + Text.escape(error.name()) + " (" + error.type() + ")"
      )
    );
    out.println(Text.escape(model.subject().name()));
    table.print(out);
  }

  private static void addDivergence(Table table, String base, Divergence d) {
    table
      .row("against", Text.escape(base))
      .row("  perplexity ratio", estimate(d.perplexityRatio(), 1))
      .row("  KL divergence", estimate(d.mean(), 1) + " mean, " + Text.number(d.median(), 3) + " median")
      .row("", Text.number(d.p90(), 3) + " at 90 %, " + Text.number(d.p99(), 3) + " at 99 %")
      .row("", Text.number(d.p999(), 3) + " at 99.9 %, " + Text.number(d.max(), 3) + " maximum")
      .row("  same top token", estimate(d.sameTop(), 100) + " %")
      .row("  correct token", estimate(d.meanDeltaP(), 100) + " points of probability, mean change")
      .row("", estimate(d.rmsDeltaP(), 100) + " points, RMS");
  }

  private static String estimate(Estimate estimate, double scale) {
    return Text.estimate(scale * estimate.value(), scale * estimate.error());
  }

  /** {@code 1203 t/s (1190 to 1210), 1.82 (1.79 to 1.85) times the base}. */
  private static String latency(LatencyResult result) {
    String spread = " (" + Text.number(result.low(), 3) + " to " + Text.number(result.high(), 3) + ")";
    String measured = Text.number(result.median(), 3) + " " + result.test().unit() + spread;
    return (
      measured +
      result
        .toBase()
        .map(ratio -> ", " + ratio(ratio))
        .orElse("")
    );
  }

  private static String ratio(Ratio ratio) {
    if (!Double.isFinite(ratio.high())) {
      return "too few runs to compare with the base";
    }
    String interval = " (" + Text.number(ratio.low(), 3) + " to " + Text.number(ratio.high(), 3) + ")";
    return ratio.isNoDifference()
      ? "no difference to the base"
      : Text.number(ratio.value(), 3) + interval + " times the base";
  }

  private static List<TensorError> worst(ModelResult model) {
    return model
      .tensorErrors()
      .stream()
      .sorted(Comparator.comparingDouble(TensorError::relativeError).reversed())
      .limit(WORST_TENSORS)
      .toList();
  }

  /** Prints the summary of a comparison, a row per model, and why models failed. */
  static void printSummary(Comparison comparison, PrintStream out) {
    SummaryTable summary = SummaryTable.of(comparison);
    int nameWidth = summary
      .rows()
      .stream()
      .mapToInt(row -> Text.escape(row.name()).length())
      .max()
      .orElse(0);
    List<Integer> part = new ArrayList<>();
    int width = nameWidth + 2;
    boolean first = true;
    for (int i = 1; i < summary.columns().size(); i++) {
      int column = width(summary, i) + 2;
      if (!part.isEmpty() && width + column > WIDTH) {
        print(summary, part, out, first);
        first = false;
        part.clear();
        width = nameWidth + 2;
      }
      part.add(i);
      width += column;
    }
    print(summary, part, out, first);
    if (
      summary
        .rows()
        .stream()
        .flatMap(row -> row.cells().stream())
        .anyMatch(SummaryTable.Cell::best)
    ) {
      out.println();
      out.println("* the best of the variants, or not known to be worse");
    }
    for (ModelResult model : comparison.variants()) {
      model.failure().ifPresent(failure -> print(model, failure, out));
    }
  }

  private static int width(SummaryTable summary, int column) {
    Stream<String> cells = summary
      .rows()
      .stream()
      .map(row -> cell(row, column));
    return Stream.concat(Stream.of(heading(summary, column)), cells).mapToInt(String::length).max().orElseThrow();
  }

  private static String heading(SummaryTable summary, int column) {
    return summary.columns().get(column).heading() + NO_STAR;
  }

  /** A value with what belongs to it; the best of a column has a star. */
  private static String cell(SummaryTable.Row row, int column) {
    if (row.failure().isPresent()) {
      return column == 1 ? "failed" + NO_STAR : "";
    }
    SummaryTable.Cell cell = row.cells().get(column);
    return cell.inline() + (cell.best() ? STAR : NO_STAR);
  }

  /** Prints some of the columns, each row beginning with the model's name. */
  private static void print(SummaryTable summary, List<Integer> columns, PrintStream out, boolean first) {
    if (!first) {
      out.println();
    }
    Table.Align[] aligns = new Table.Align[columns.size() + 1];
    Arrays.fill(aligns, Table.Align.RIGHT);
    aligns[0] = Table.Align.LEFT;
    Table table = new Table(aligns);
    table.row(row("", columns.stream().map(i -> heading(summary, i))));
    for (SummaryTable.Row row : summary.rows()) {
      table.row(row(Text.escape(row.name()), columns.stream().map(i -> cell(row, i))));
    }
    table.print(out);
  }

  private static String[] row(String name, Stream<String> cells) {
    return Stream.concat(Stream.of(name), cells).toArray(String[]::new);
  }

  private static void print(ModelResult model, Failure failure, PrintStream out) {
    out.println();
    out.println(Text.escape(model.subject().name() + " failed, " + failure.phase() + ": " + failure.message()));
    List<String> log = failure.nativeLog();
    log
      .subList(Math.max(0, log.size() - LOG_LINES), log.size())
      .forEach(line -> out.println("  llama.cpp: " + Text.escape(line)));
  }
}
