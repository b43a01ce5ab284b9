package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import dev.attar.bench.Estimate;
import dev.attar.bench.ModelFacts;
import dev.attar.bench.ModelResult;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.DoubleFunction;
import java.util.function.Function;

/**
 * The table that sums a comparison up: one row per model, one column per measure that any of the models has. All presentations show
 * this table: terminal, Markdown and HTML.
 *
 * @param columns the first is the model's name
 * @param rows the base, then the variants in their order
 */
public record SummaryTable(List<Column> columns, List<Row> rows) {
  public SummaryTable {
    columns = List.copyOf(columns);
    rows = List.copyOf(rows);
  }

  /** Which of a column's values are the best. */
  public enum Best {
    NONE,
    LOWEST,
    HIGHEST
  }

  /**
   * A measure.
   *
   * @param key name for programs
   * @param title name for people
   * @param unit of the values; empty for pure numbers
   * @param meaning one sentence
   * @param best which value is the best; columns of {@link Best#NONE} are text and aligned to the left, the others are numbers and
   *     aligned to the right
   */
  public record Column(String key, String title, String unit, String meaning, Best best) {
    /** Title and unit: {@code Size (MB)}. */
    public String heading() {
      return unit.isEmpty() ? title : title + " (" + unit + ")";
    }

    /** Whether the values are numbers. */
    public boolean isNumber() {
      return best != Best.NONE;
    }
  }

  /**
   * A value.
   *
   * @param text the value in the column's unit, with as many decimals as the other values of the column; empty if there is none
   * @param note its uncertainty ({@code ± 0.33}) or its relation to the base ({@code 1.82×}, {@code no difference}); may be empty
   * @param value for sorting; NaN if there is none
   * @param best whether no variant is better, or better only within the uncertainty; never set for the base, nor where all variants
   *     are equal
   */
  public record Cell(String text, String note, double value, boolean best) {
    static final Cell EMPTY = new Cell("", "", Double.NaN, false);

    /** Value and note in one line: {@code 35.09 ± 0.32}, {@code 1203 (1.82×)}. */
    public String inline() {
      return note.isEmpty() ? text : note.startsWith(Numbers.PLUS_MINUS) ? text + " " + note : text + " (" + note + ")";
    }
  }

  /**
   * A model.
   *
   * @param name of the model, as it was given: not safe to print yet
   * @param base whether it is the base
   * @param cells one per column, the name among them; of a failed model the name alone
   * @param failure {@code failed: …} of a failed model
   */
  public record Row(String name, boolean base, List<Cell> cells, Optional<String> failure) {
    public Row {
      cells = List.copyOf(cells);
    }
  }

  /** The table of a comparison. */
  public static SummaryTable of(Comparison comparison) {
    List<ModelResult> models = comparison.models();
    List<Column> columns = new ArrayList<>();
    List<List<Cell>> cells = new ArrayList<>();
    columns.add(new Column("model", "Model", "", "Name of the model.", Best.NONE));
    for (ModelResult model : models) {
      cells.add(new ArrayList<>(List.of(new Cell(model.subject().name(), "", Double.NaN, false))));
    }
    for (Measure measure : measures(comparison)) {
      List<Cell> values = measure.cells(models);
      if (values.stream().anyMatch(cell -> !cell.text().isEmpty())) {
        columns.add(measure.column());
        for (int i = 0; i < values.size(); i++) {
          cells.get(i).add(values.get(i));
        }
      }
    }
    List<Row> rows = new ArrayList<>();
    for (int i = 0; i < models.size(); i++) {
      Optional<String> failure = models
        .get(i)
        .failure()
        .map(f -> "failed: " + f.message());
      List<Cell> row = failure.isPresent() ? cells.get(i).subList(0, 1) : cells.get(i);
      rows.add(new Row(models.get(i).subject().name(), i == 0, row, failure));
    }
    return new SummaryTable(columns, rows);
  }

  /**
   * What a model has of a measure.
   *
   * @param value in the column's unit
   * @param note as {@link Cell#note}
   * @param rank what decides which model is better: the value, or its ratio to the base, which is known better
   * @param margin half the width of the 95 % confidence interval of {@code rank}; 0 if it is exact or not known
   */
  private record Value(double value, String note, double rank, double margin) {
    static Value exact(double value, String note) {
      return new Value(value, note, value, 0);
    }
  }

  /** A column and how its cells come about; {@code format} is made for all values of the column, so that they are written alike. */
  private record Measure(
    Column column,
    Function<ModelResult, Optional<Value>> value,
    Function<double[], DoubleFunction<String>> format
  ) {
    List<Cell> cells(List<ModelResult> models) {
      // A failed model takes no part: what was measured before it failed is shown with the failure.
      List<Optional<Value>> values = models
        .stream()
        .map(model -> model.failure().isPresent() ? Optional.<Value>empty() : value.apply(model))
        .toList();
      DoubleFunction<String> text = format.apply(
        values.stream().flatMap(Optional::stream).mapToDouble(Value::value).filter(Double::isFinite).toArray()
      );
      List<Value> variants = values.stream().skip(1).flatMap(Optional::stream).toList();
      Optional<Value> best = variants
        .stream()
        .filter(v -> !Double.isNaN(v.rank()))
        .min((a, b) -> Double.compare(sign() * a.rank(), sign() * b.rank()));
      boolean differ = best.isPresent() && !variants.stream().allMatch(v -> equal(v, best.get(), text));
      List<Cell> cells = new ArrayList<>();
      for (int i = 0; i < values.size(); i++) {
        boolean variant = i > 0;
        cells.add(
          values
            .get(i)
            .map(v ->
              new Cell(text.apply(v.value()), v.note(), v.value(), variant && differ && equal(v, best.get(), text))
            )
            .orElse(Cell.EMPTY)
        );
      }
      return cells;
    }

    private int sign() {
      return column.best() == Best.HIGHEST ? -1 : 1;
    }

    private static boolean equal(Value a, Value b, DoubleFunction<String> text) {
      return (
        text.apply(a.value()).equals(text.apply(b.value())) ||
        Math.abs(a.rank() - b.rank()) <= Math.hypot(a.margin(), b.margin())
      );
    }
  }

  private static List<Measure> measures(Comparison comparison) {
    List<Measure> measures = new ArrayList<>();
    measures.addAll(sizes(comparison));
    measures.addAll(accuracy());
    for (LatencyTest.Kind kind : LatencyTest.Kind.values()) {
      firstTest(comparison, kind).ifPresent(test -> measures.add(latency(comparison, test)));
    }
    boolean fast = allBelow(comparison, 1, model -> model.loadSeconds().orElse(0));
    measures.add(
      new Measure(
        new Column("load", "Load", fast ? "ms" : "s", "Time that llama.cpp takes to load the model.", Best.LOWEST),
        model ->
          model.loadSeconds().isPresent()
            ? Optional.of(Value.exact(model.loadSeconds().getAsDouble() * (fast ? 1000 : 1), ""))
            : Optional.empty(),
        values -> alike(values, 2, 0, 2)
      )
    );
    boolean small = allBelow(comparison, 999.5e6, model -> model.peakRssBytes().orElse(0));
    measures.add(
      new Measure(
        new Column(
          "memory",
          "Memory",
          small ? "MB" : "GB",
          "Highest resident memory of the process that ran the model, with the mapped parts of its file and about 100 MB of the JVM.",
          Best.LOWEST
        ),
        model ->
          model.peakRssBytes().isPresent()
            ? Optional.of(Value.exact(model.peakRssBytes().getAsLong() / (small ? 1e6 : 1e9), ""))
            : Optional.empty(),
        values -> alike(values, 3, 0, 3)
      )
    );
    return measures;
  }

  private static List<Measure> sizes(Comparison comparison) {
    boolean small = allBelow(comparison, 999.5e6, model -> model.facts().map(ModelFacts::bytes).orElse(0L));
    Optional<Long> base = comparison.base().facts().map(ModelFacts::bytes);
    return List.of(
      new Measure(
        new Column("size", "Size", small ? "MB" : "GB", "Size of the file, and its share of the base's.", Best.LOWEST),
        model ->
          model
            .facts()
            .map(facts ->
              Value.exact(
                facts.bytes() / (small ? 1e6 : 1e9),
                model.equals(comparison.base()) || base.orElse(0L) <= 0
                  ? ""
                  : Numbers.percent((double) facts.bytes() / base.get(), 1)
              )
            ),
        values -> alike(values, 3, 0, 3)
      ),
      new Measure(
        new Column("bits_per_weight", "Bits per weight", "", "Bits of tensor data per weight.", Best.LOWEST),
        model -> model.facts().map(facts -> Value.exact(facts.bitsPerWeight(), "")),
        _ -> value -> Numbers.fixed(value, 2)
      )
    );
  }

  private static List<Measure> accuracy() {
    return List.of(
      new Measure(
        new Column(
          "perplexity",
          "Perplexity",
          "",
          "e to the mean negative log-likelihood of the text's tokens: the lower, the less the text surprises the model. With its standard error.",
          Best.LOWEST
        ),
        SummaryTable::perplexity,
        values -> alike(values, 4, 2, 4)
      ),
      new Measure(
        new Column(
          "perplexity_ratio",
          "PPL ÷ base",
          "",
          "Perplexity over the base's on the same tokens, with its standard error.",
          Best.LOWEST
        ),
        model -> model.divergence().map(d -> estimate(d.perplexityRatio(), 1, 4)),
        _ -> value -> Numbers.fixed(value, 4)
      ),
      new Measure(
        new Column(
          "kld_mean",
          "KL mean",
          "",
          "Mean Kullback-Leibler divergence of the predicted distribution from the base's, in nats per token, with its standard error: 0 if both predict the same.",
          Best.LOWEST
        ),
        model -> model.divergence().map(d -> estimate(d.mean(), 1, 4)),
        values -> alike(values, 2, 4, 5)
      ),
      new Measure(
        new Column(
          "kld_p99",
          "KL 99 %",
          "",
          "The KL divergence that 99 % of the tokens stay below: how bad the bad cases are.",
          Best.LOWEST
        ),
        model -> model.divergence().map(d -> Value.exact(d.p99(), "")),
        values -> alike(values, 2, 3, 5)
      ),
      new Measure(
        new Column(
          "same_top",
          "Same top",
          "%",
          "Share of the tokens for which model and base find the same token likeliest, with its standard error.",
          Best.HIGHEST
        ),
        model -> model.divergence().map(d -> estimate(d.sameTop(), 100, 2)),
        _ -> value -> Numbers.fixed(value, 2)
      )
    );
  }

  /** Perplexity ranks by its ratio to the base: both saw the same tokens, so most of the uncertainty is common to both. */
  private static Optional<Value> perplexity(ModelResult model) {
    return model
      .perplexity()
      .map((Perplexity p) -> {
        String note = p.error() > 0 ? Numbers.PLUS_MINUS + Numbers.significant(p.error(), 2) : "";
        return model
          .divergence()
          .map(Divergence::perplexityRatio)
          .map(ratio -> new Value(p.value(), note, ratio.value(), 1.96 * ratio.error()))
          .orElse(new Value(p.value(), note, p.value(), 1.96 * p.error()));
      });
  }

  /** A value with its error, which has at least these decimals, and more if it needs them not to vanish. */
  private static Value estimate(Estimate estimate, double scale, int decimals) {
    double value = scale * estimate.value();
    double error = scale * estimate.error();
    String note = error > 0
      ? Numbers.PLUS_MINUS + Numbers.fixed(error, Math.max(decimals, Numbers.decimals(error, 1)))
      : "";
    return new Value(value, note, value, 1.96 * error);
  }

  private static Measure latency(Comparison comparison, LatencyTest test) {
    boolean fast =
      !test.higherIsBetter() &&
      allBelow(comparison, 1, model -> result(model, test).map(LatencyResult::median).orElse(0.0));
    String what = switch (test.kind()) {
      case PROMPT -> "Prompt processing: tokens per second of a prompt of " + test.tokens() + " tokens";
      case GENERATION -> "Generation: tokens per second when " + test.tokens() + " are generated one after another";
      case FIRST_TOKEN -> "Time from a prompt of " + test.tokens() + " tokens to the first token after it";
    };
    return new Measure(
      new Column(
        test.name(),
        test.name(),
        fast ? "ms" : test.unit(),
        what + " (" + Numbers.plural(test.threads(), "thread") + "), median, and the ratio to the base.",
        test.higherIsBetter() ? Best.HIGHEST : Best.LOWEST
      ),
      model ->
        result(model, test).map(r -> {
          double value = r.median() * (fast ? 1000 : 1);
          return r
            .toBase()
            .map(ratio -> new Value(value, ratio(ratio), ratio.value(), (ratio.high() - ratio.low()) / 2))
            .orElse(Value.exact(value, ""));
        }),
      values -> alike(values, 3, 0, 3)
    );
  }

  /** The ratio to the base as people may take it: {@code 1.82×}, or that nothing is known. */
  static String ratio(Ratio ratio) {
    return isKnown(ratio) ? (ratio.isNoDifference() ? "no difference" : Numbers.times(ratio.value())) : "too few runs";
  }

  /** Whether there were enough repetitions for an interval. */
  static boolean isKnown(Ratio ratio) {
    return Double.isFinite(ratio.high());
  }

  /** The first test of a kind among those that were asked for: the one that sums the kind up. */
  static Optional<LatencyTest> firstTest(Comparison comparison, LatencyTest.Kind kind) {
    return comparison
      .settings()
      .latency()
      .stream()
      .filter(test -> test.kind() == kind)
      .findFirst();
  }

  /** What a model has of a test. */
  static Optional<LatencyResult> result(ModelResult model, LatencyTest test) {
    return model
      .latency()
      .stream()
      .filter(result -> result.test().equals(test))
      .findFirst();
  }

  private static boolean allBelow(Comparison comparison, double limit, Function<ModelResult, Number> value) {
    return comparison
      .models()
      .stream()
      .allMatch(model -> value.apply(model).doubleValue() < limit);
  }

  /** Equal decimals for all, within limits: enough to show this many digits of the smallest value. */
  private static DoubleFunction<String> alike(double[] values, int digits, int least, int most) {
    double smallest = Arrays.stream(values)
      .map(Math::abs)
      .filter(v -> v > 0)
      .min()
      .orElse(1);
    int decimals = Math.clamp(Numbers.decimals(smallest, digits), least, most);
    return value -> Numbers.fixed(value, decimals);
  }
}
