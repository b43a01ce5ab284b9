package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import dev.attar.bench.Estimate;
import dev.attar.bench.ModelFacts;
import dev.attar.bench.ModelResult;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;

/** What a comparison shows, in a few sentences. Names of models stand in them as they were given. */
final class Findings {

  /** A variant is near its base up to this ratio of their perplexities. */
  private static final double NEAR = 1.01;

  private final Comparison comparison;
  private final List<ModelResult> variants;
  private final List<String> sentences = new ArrayList<>();

  private Findings(Comparison comparison) {
    this.comparison = comparison;
    this.variants = comparison
      .variants()
      .stream()
      .filter(variant -> variant.failure().isEmpty() && variant.facts().isPresent())
      .toList();
  }

  /** The sentences, the most important first; may be none. */
  static List<String> of(Comparison comparison) {
    Findings findings = new Findings(comparison);
    if (comparison.variants().isEmpty()) {
      findings.single();
    } else {
      findings.failures();
      findings.accuracy();
      findings.dominated();
      findings.speed();
    }
    return findings.sentences;
  }

  private void single() {
    ModelResult model = comparison.base();
    List<String> parts = new ArrayList<>();
    model.facts().ifPresent(f -> parts.add(Numbers.fixed(f.bitsPerWeight(), 2) + " bits per weight"));
    model
      .perplexity()
      .ifPresent(p ->
        parts.add("perplexity " + Numbers.fixed(p.value(), 2) + " ± " + Numbers.significant(p.error(), 2))
      );
    for (LatencyTest.Kind kind : List.of(LatencyTest.Kind.PROMPT, LatencyTest.Kind.GENERATION)) {
      SummaryTable.firstTest(comparison, kind)
        .flatMap(test -> SummaryTable.result(model, test))
        .ifPresent(r -> parts.add(Numbers.significant(r.median(), 3) + " tokens per second (" + r.test().name() + ")"));
    }
    if (!parts.isEmpty()) {
      sentences.add(capitalized(String.join(", ", parts)) + ".");
    }
  }

  private static String capitalized(String text) {
    return Character.toUpperCase(text.charAt(0)) + text.substring(1);
  }

  private void failures() {
    List<String> failed = comparison
      .variants()
      .stream()
      .filter(variant -> variant.failure().isPresent())
      .map(Findings::name)
      .toList();
    if (!failed.isEmpty()) {
      sentences.add(list(failed) + " could not be measured.");
    }
  }

  private void accuracy() {
    Optional<ModelFacts> base = comparison
      .base()
      .facts()
      .filter(facts -> facts.bytes() > 0);
    if (variants.isEmpty() || base.isEmpty()) {
      return;
    }
    Comparator<ModelResult> bySize = Comparator.comparingLong(Findings::bytes);
    List<ModelResult> measured = variants
      .stream()
      .filter(v -> v.divergence().isPresent())
      .toList();
    if (measured.isEmpty()) {
      ModelResult smallest = variants.stream().min(bySize).orElseThrow();
      sentences.add(
        name(smallest) +
          (variants.size() > 1 ? ", the smallest variant, has " : " has ") +
          share(smallest) +
          " of the base's size."
      );
      return;
    }
    Optional<ModelResult> near = measured
      .stream()
      .filter(v -> ratio(v) <= NEAR)
      .min(bySize);
    ModelResult shown = near.orElseGet(() -> measured.stream().min(Comparator.comparingDouble(Findings::ratio)).get());
    sentences.add(
      name(shown) +
        " keeps " +
        Numbers.percent(shown.divergence().orElseThrow().sameTop().value(), 1) +
        " of the top tokens at " +
        share(shown) +
        " of the size" +
        (measured.size() == 1
          ? "; its perplexity is " + change(ratio(shown)) + "."
          : near.isPresent()
            ? ": the smallest variant whose perplexity is within 1 % of the base's."
            : ". No variant's perplexity is within 1 % of the base's; its is nearest, " + change(ratio(shown)) + ".")
    );
  }

  /** Perplexity over the base's, in words; infinite if it is no number. */
  private static double ratio(ModelResult variant) {
    double ratio = variant.divergence().map(Divergence::perplexityRatio).map(Estimate::value).orElse(Double.NaN);
    return Double.isNaN(ratio) ? Double.POSITIVE_INFINITY : ratio;
  }

  private static String change(double ratio) {
    double percent = 100 * (ratio - 1);
    return Math.abs(percent) < 0.005
      ? "the base's"
      : Numbers.significant(Math.abs(percent), 2) + " % " + (percent > 0 ? "higher" : "lower") + " than the base's";
  }

  private String share(ModelResult variant) {
    return Numbers.percent((double) bytes(variant) / bytes(comparison.base()), 0);
  }

  /** Names variants that another beats in both size and accuracy. */
  private void dominated() {
    List<String> names = new ArrayList<>();
    ModelResult better = null;
    for (ModelResult variant : variants) {
      Optional<ModelResult> other = variants
        .stream()
        .filter(o -> bytes(o) < bytes(variant) && isCloser(o, variant))
        .min(Comparator.comparingDouble(o -> o.divergence().orElseThrow().mean().value()));
      if (other.isPresent()) {
        better = other.get();
        names.add(name(variant));
      }
    }
    if (names.size() == 1) {
      sentences.add(names.getFirst() + " is larger than " + name(better) + " and further from the base.");
    } else if (!names.isEmpty()) {
      sentences.add(list(names) + " are each larger than another variant and further from the base.");
    }
  }

  private static boolean isCloser(ModelResult a, ModelResult b) {
    if (a.divergence().isEmpty() || b.divergence().isEmpty()) {
      return false;
    }
    Estimate x = a.divergence().get().mean();
    Estimate y = b.divergence().get().mean();
    return y.value() - x.value() > 1.96 * Math.hypot(x.error(), y.error());
  }

  private void speed() {
    Optional<LatencyTest> test = SummaryTable.firstTest(comparison, LatencyTest.Kind.GENERATION);
    List<ModelResult> known = variants
      .stream()
      .filter(v -> test.flatMap(t -> toBase(v, t)).isPresent())
      .toList();
    Optional<LatencyResult> base = test.flatMap(t -> SummaryTable.result(comparison.base(), t));
    if (known.isEmpty() || base.isEmpty()) {
      return;
    }
    Optional<ModelResult> fastest = known
      .stream()
      .filter(v -> toBase(v, test.get()).orElseThrow().low() > 1)
      .max(Comparator.comparingDouble(v -> toBase(v, test.get()).orElseThrow().value()));
    sentences.add(
      fastest
        .map(
          v ->
            name(v) +
            (known.size() == 1 ? " generates " : " generates fastest: ") +
            Numbers.fixed(toBase(v, test.get()).orElseThrow().value(), 2) +
            " times the base's " +
            Numbers.significant(base.get().median(), 3) +
            " tokens per second."
        )
        .orElse(
          known.size() == 1
            ? name(known.getFirst()) + " does not generate measurably faster than the base."
            : "No variant generates measurably faster than the base."
        )
    );
  }

  private static Optional<Ratio> toBase(ModelResult model, LatencyTest test) {
    return SummaryTable.result(model, test).flatMap(LatencyResult::toBase).filter(SummaryTable::isKnown);
  }

  private static long bytes(ModelResult model) {
    return model.facts().orElseThrow().bytes();
  }

  private static String name(ModelResult model) {
    return model.subject().name();
  }

  private static String list(List<String> names) {
    int last = names.size() - 1;
    return last == 0 ? names.getFirst() : String.join(", ", names.subList(0, last)) + " and " + names.get(last);
  }
}
