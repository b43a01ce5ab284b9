package dev.attar.bench.report;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.json.JsonWriteFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import dev.attar.bench.Comparison;
import dev.attar.bench.Environment;
import dev.attar.bench.Estimate;
import dev.attar.bench.ModelFacts;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Settings;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Histogram;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.tensors.TensorError;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.file.Path;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Function;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** The data of the HTML report, as {@code report.js} reads it: texts that are ready to be shown, and numbers for the charts. */
final class ReportData {

  // With escapes for all that is not ASCII, even text that is no valid UTF-16 survives.
  private static final JsonMapper MAPPER = JsonMapper.builder().enable(JsonWriteFeature.ESCAPE_NON_ASCII).build();

  private static final DateTimeFormatter DATE = DateTimeFormatter.ofPattern("d MMMM uuuu, HH:mm 'UTC'", Locale.ENGLISH);

  private final Comparison comparison;

  private ReportData(Comparison comparison) {
    this.comparison = comparison;
  }

  /** The title of the report, to be escaped. */
  static String title(Comparison comparison) {
    String base = comparison.base().subject().name();
    int variants = comparison.variants().size();
    String names = variants == 0
      ? base
      : variants == 1
        ? base + " and " + comparison.variants().getFirst().subject().name()
        : base + " and " + variants + " variants";
    Optional<String> title = comparison.base().facts().map(ModelFacts::title);
    return title.isEmpty() || title.get().isBlank() || base.contains(title.get()) ? names : title.get() + ": " + names;
  }

  /** JSON that can stand in a {@code script} element: no {@code <} in it. */
  static String json(Comparison comparison, List<String> findings, SummaryTable table) {
    try {
      return script(new ReportData(comparison).all(findings, table));
    } catch (JsonProcessingException e) {
      throw new IllegalStateException(e);
    }
  }

  /** JSON that can stand in a {@code script} element: no {@code <} in it. */
  static String script(Map<String, Object> data) throws JsonProcessingException {
    return MAPPER.writeValueAsString(data).replace("<", "\\u003c");
  }

  private Map<String, Object> all(List<String> findings, SummaryTable table) {
    Map<String, Object> all = new LinkedHashMap<>();
    all.put("title", title(comparison));
    all.put("about", about());
    all.put("findings", Stream.concat(findings.stream(), Findings.of(comparison).stream()).toList());
    all.put("columns", table.columns());
    all.put("rows", table.rows().stream().map(ReportData::row).toList());
    all.put("markdown", MarkdownTable.of(table));
    all.put("tests", tests().stream().map(this::test).toList());
    all.put("speedTest", speedTest().map(LatencyTest::name).orElse(null));
    all.put("kinds", kinds());
    all.put("types", types());
    all.put(
      "weighted",
      comparison
        .variants()
        .stream()
        .anyMatch(v -> v.tensorErrors().stream().anyMatch(TensorError::weighted))
    );
    all.put("models", comparison.models().stream().map(this::model).toList());
    all.put("environment", environment(comparison.environment()));
    all.put("settings", settings());
    all.put("command", comparison.environment().commandLine());
    return all;
  }

  private List<String> about() {
    List<String> about = new ArrayList<>();
    comparison
      .base()
      .facts()
      .ifPresent(f -> about.add(Numbers.rough(f.parameters()) + " parameters"));
    comparison
      .settings()
      .text()
      .ifPresent(text ->
        about.add(
          name(text) +
            comparison
              .base()
              .perplexity()
              .map(p -> ", " + Numbers.count(p.tokens()) + " tokens scored in " + Numbers.plural(p.windows(), "window"))
              .orElse("")
        )
      );
    about.add(DATE.format(comparison.environment().started().atOffset(ZoneOffset.UTC)));
    return about;
  }

  private static Map<String, Object> row(SummaryTable.Row row) {
    Map<String, Object> out = new LinkedHashMap<>();
    out.put("name", row.name());
    out.put("base", row.base());
    out.put("failure", row.failure().orElse(null));
    out.put(
      "cells",
      row
        .cells()
        .stream()
        .map(c -> Arrays.asList(c.text(), c.note(), number(c.value()), c.best()))
        .toList()
    );
    return out;
  }

  /** The tests that some model has a result of. */
  private List<LatencyTest> tests() {
    return comparison
      .models()
      .stream()
      .flatMap(model -> model.latency().stream())
      .map(LatencyResult::test)
      .distinct()
      .toList();
  }

  private Map<String, Object> test(LatencyTest test) {
    return Map.of(
      "name",
      test.name(),
      "what",
      switch (test.kind()) {
        case PROMPT -> "Prompt processing, " + test.tokens() + " tokens";
        case GENERATION -> "Generation, " + test.tokens() + " tokens";
        case FIRST_TOKEN -> "Time to first token after " + test.tokens();
      },
      "threads",
      Numbers.plural(test.threads(), "thread"),
      "unit",
      test.unit(),
      "higherIsBetter",
      test.higherIsBetter()
    );
  }

  /** The test whose values stand for a model's speed. */
  private Optional<LatencyTest> speedTest() {
    return SummaryTable.firstTest(comparison, LatencyTest.Kind.GENERATION).or(() ->
      SummaryTable.firstTest(comparison, LatencyTest.Kind.PROMPT)
    );
  }

  private Set<String> kinds() {
    return tensorErrors(TensorError::kind);
  }

  private Set<String> types() {
    return tensorErrors(TensorError::type);
  }

  private Set<String> tensorErrors(Function<TensorError, String> part) {
    return comparison
      .variants()
      .stream()
      .flatMap(v -> v.tensorErrors().stream())
      .map(part)
      .collect(Collectors.toCollection(LinkedHashSet::new));
  }

  private Map<String, Object> model(ModelResult model) {
    Map<String, Object> out = new LinkedHashMap<>();
    out.put("name", model.subject().name());
    out.put(
      "bytes",
      model
        .facts()
        .map(f -> f.bytes())
        .orElse(null)
    );
    model
      .divergence()
      .ifPresent(d -> {
        out.put("kld", number(d.mean().value()));
        out.put("kldError", number(d.mean().error()));
        out.put("median", number(d.median()));
        out.put("p99", number(d.p99()));
        out.put("histogram", histogram(d.histogram()));
      });
    speedTest()
      .flatMap(test -> SummaryTable.result(model, test))
      .ifPresent(r -> out.put("speed", Arrays.asList(number(r.median()), number(r.low()), number(r.high()))));
    List<LatencyTest> tests = tests();
    out.put(
      "latency",
      model
        .latency()
        .stream()
        .map(r ->
          Arrays.asList(
            tests.indexOf(r.test()),
            number(r.median()),
            number(r.low()),
            number(r.high()),
            r.toBase().map(SummaryTable::ratio).orElse("")
          )
        )
        .toList()
    );
    if (!model.tensorErrors().isEmpty()) {
      out.put("tensors", tensors(model.tensorErrors()));
    }
    out.put("card", card(model));
    return out;
  }

  /** The bins that are not empty, with the decimal logarithms of their first edge and of their width. */
  private static Map<String, Object> histogram(Histogram histogram) {
    long[] counts = histogram.counts();
    int from = 0;
    int to = counts.length;
    while (from < to && counts[from] == 0) {
      from++;
    }
    while (to > from && counts[to - 1] == 0) {
      to--;
    }
    double[] edges = histogram.edges();
    double first = Math.log10(edges[0]);
    double step = (Math.log10(edges[edges.length - 1]) - first) / Math.max(1, counts.length);
    return Map.of("first", first + from * step, "step", step, "counts", Arrays.copyOfRange(counts, from, to));
  }

  /** One array per property, for there are many tensors. A layer of -1 is outside the layers, a null error is infinite. */
  private Map<String, Object> tensors(List<TensorError> errors) {
    List<String> kinds = List.copyOf(kinds());
    List<String> types = List.copyOf(types());
    return Map.of(
      "kind",
      errors
        .stream()
        .map(e -> kinds.indexOf(e.kind()))
        .toList(),
      "layer",
      errors
        .stream()
        .map(e -> e.layer().orElse(-1))
        .toList(),
      "type",
      errors
        .stream()
        .map(e -> types.indexOf(e.type()))
        .toList(),
      "error",
      errors
        .stream()
        .map(e -> number(e.relativeError()))
        .toList()
    );
  }

  private Map<String, Object> card(ModelResult model) {
    Map<String, Object> card = new LinkedHashMap<>();
    List<List<String>> facts = new ArrayList<>();
    facts.add(List.of("File", model.subject().origin().toString()));
    if (!model.subject().adapters().isEmpty()) {
      facts.add(
        List.of("Adapters", model.subject().adapters().stream().map(Path::toString).collect(Collectors.joining(", ")))
      );
    }
    model
      .facts()
      .ifPresent(f -> {
        facts.add(List.of("Title", f.title()));
        facts.add(List.of("Architecture", f.architecture()));
        facts.add(List.of("Parameters", Numbers.count(f.parameters())));
        facts.add(List.of("Size", Numbers.size(f.bytes()) + " (" + Numbers.count(f.bytes()) + " bytes)"));
        facts.add(List.of("Bits per weight", Numbers.fixed(f.bitsPerWeight(), 3)));
        if (f.layers() > 0) {
          facts.add(List.of("Layers", Numbers.count(f.layers())));
        }
        if (f.context() > 0) {
          facts.add(List.of("Trained context", Numbers.count(f.context()) + " tokens"));
        }
        card.put(
          "types",
          f
            .types()
            .entrySet()
            .stream()
            .map(e -> List.of(e.getKey(), Numbers.count(e.getValue())))
            .toList()
        );
        card.put(
          "history",
          f
            .history()
            .entrySet()
            .stream()
            .map(e -> List.of(e.getKey(), e.getValue()))
            .toList()
        );
      });
    model.loadSeconds().ifPresent(s -> facts.add(List.of("Load time", Numbers.seconds(s))));
    model.peakRssBytes().ifPresent(b -> facts.add(List.of("Peak memory", Numbers.size(b))));
    card.put(
      "brief",
      model.failure().isPresent()
        ? "failed"
        : model
            .facts()
            .map(f -> Numbers.size(f.bytes()) + ", " + Numbers.fixed(f.bitsPerWeight(), 2) + " bits per weight")
            .orElse("")
    );
    card.put("facts", facts);
    card.put("accuracy", accuracy(model));
    card.put("latency", model.latency().stream().map(ReportData::timing).toList());
    model
      .failure()
      .ifPresent(f -> card.put("failure", Map.of("phase", f.phase(), "message", f.message(), "log", f.nativeLog())));
    return card;
  }

  private static List<List<String>> accuracy(ModelResult model) {
    List<List<String>> rows = new ArrayList<>();
    model
      .perplexity()
      .ifPresent(p -> rows.add(List.of("Perplexity", estimate(new Estimate(p.value(), p.error()), 1, ""))));
    if (model.divergence().isPresent()) {
      Divergence d = model.divergence().get();
      rows.add(List.of("Perplexity ÷ base's", estimate(d.perplexityRatio(), 1, "")));
      rows.add(List.of("KL divergence, mean", estimate(d.mean(), 1, "")));
      rows.add(List.of("KL divergence, median", Numbers.significant(d.median(), 3)));
      rows.add(List.of("KL divergence, 90 %", Numbers.significant(d.p90(), 3)));
      rows.add(List.of("KL divergence, 99 %", Numbers.significant(d.p99(), 3)));
      rows.add(List.of("KL divergence, 99.9 %", Numbers.significant(d.p999(), 3)));
      rows.add(List.of("KL divergence, maximum", Numbers.significant(d.max(), 3)));
      rows.add(List.of("Same top token", estimate(d.sameTop(), 100, " %")));
      rows.add(List.of("Δp, mean", estimate(d.meanDeltaP(), 100, " %")));
      rows.add(List.of("Δp, RMS", estimate(d.rmsDeltaP(), 100, " %")));
    }
    return rows;
  }

  /** Value and error with the decimals that show two digits of the error. */
  private static String estimate(Estimate estimate, double scale, String unit) {
    double value = scale * estimate.value();
    double error = scale * estimate.error();
    return error > 0 && Double.isFinite(error)
      ? Numbers.fixed(value, Numbers.decimals(error, 2)) + " ± " + Numbers.significant(error, 2) + unit
      : Numbers.significant(value, 4) + unit;
  }

  /** Test, median, quartiles, ratio to the base, interval of the ratio. */
  private static List<String> timing(LatencyResult result) {
    LatencyTest test = result.test();
    boolean seconds = !test.higherIsBetter();
    Optional<Ratio> ratio = result.toBase();
    return List.of(
      test.name() + ", " + Numbers.plural(test.threads(), "thread"),
      seconds ? Numbers.seconds(result.median()) : Numbers.significant(result.median(), 3) + " t/s",
      seconds
        ? Numbers.seconds(result.low()) + " – " + Numbers.seconds(result.high())
        : Numbers.significant(result.low(), 3) + " – " + Numbers.significant(result.high(), 3),
      ratio.map(SummaryTable::ratio).orElse(""),
      ratio
        .filter(SummaryTable::isKnown)
        .map(r -> Numbers.fixed(r.low(), 3) + " – " + Numbers.fixed(r.high(), 3))
        .orElse("")
    );
  }

  /** Names and values of what was computed with. */
  static List<List<String>> environment(Environment e) {
    List<List<String>> rows = new ArrayList<>();
    rows.add(List.of("Processor", e.processor() + ", " + Numbers.plural(e.cores(), "core")));
    rows.add(List.of("Memory", Numbers.size(e.memoryBytes())));
    if (!e.devices().isEmpty()) {
      rows.add(List.of("Devices", String.join(", ", e.devices())));
    }
    rows.add(List.of("System", e.system()));
    rows.add(List.of("Attar", e.attar()));
    rows.add(List.of("llama.cpp", e.llama()));
    rows.add(List.of("Java", e.java()));
    rows.add(List.of("Started", DATE.format(e.started().atOffset(ZoneOffset.UTC))));
    return rows;
  }

  private List<List<String>> settings() {
    Settings s = comparison.settings();
    List<List<String>> rows = new ArrayList<>();
    if (s.text().isPresent()) {
      rows.add(List.of("Text", s.text().get().toString()));
      rows.add(List.of("Tokens per window", Numbers.count(s.context())));
      s.windows().ifPresent(n -> rows.add(List.of("Windows at most", Numbers.count(n))));
      rows.add(List.of("Threads for the text", Numbers.count(s.threads())));
    }
    if (!s.latency().isEmpty()) {
      rows.add(
        List.of(
          "Timed",
          s
            .latency()
            .stream()
            .map(t -> t.name() + " (" + Numbers.plural(t.threads(), "thread") + ")")
            .collect(Collectors.joining(", "))
        )
      );
      rows.add(List.of("Repetitions", Numbers.count(s.repetitions()) + ", after one that does not count"));
    }
    s.gpuLayers().ifPresent(n -> rows.add(List.of("Layers on a GPU", Numbers.count(n))));
    if (s.tensorErrors() && !comparison.variants().isEmpty()) {
      rows.add(
        List.of(
          "Tensor errors",
          s
            .importance()
            .map(i -> "weighted by " + i)
            .orElse("not weighted")
        )
      );
    }
    return rows;
  }

  private static String name(Path file) {
    return Objects.requireNonNullElse(file.getFileName(), file).toString();
  }

  /** A number with the digits that a chart can show; null if it is none. */
  private static Number number(double value) {
    return Double.isFinite(value) ? new BigDecimal(value).round(new MathContext(6)).doubleValue() : null;
  }
}
