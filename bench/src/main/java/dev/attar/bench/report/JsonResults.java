package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import dev.attar.bench.Estimate;
import dev.attar.bench.ModelResult;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.tensors.TensorError;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Presents a comparison as flat objects, one per model, for programs.
 *
 * <p>A key is absent if its value was not asked for or does not apply; the value is null if it was measured and is no finite number.
 * Units are in the keys; numbers without one are pure, KL divergences are in nats per token.
 *
 * <p>The first latency test of each kind has the keys {@code pp_tokens_per_second}, {@code tg_tokens_per_second} and
 * {@code first_token_seconds}, further ones have {@code pp1024_t2_tokens_per_second} (1024 tokens, 2 threads) and so on. Beside each of
 * these keys stand those with {@code _q1} and {@code _q3} for the quartiles, and with {@code _ratio}, {@code _ratio_low} and
 * {@code _ratio_high} for the ratio to the base and its 95 % confidence interval; the interval is absent if there were too few
 * repetitions to know it.
 */
public final class JsonResults {

  private final Comparison comparison;
  private final Map<String, Object> out = new LinkedHashMap<>();

  private JsonResults(Comparison comparison) {
    this.comparison = comparison;
  }

  /** The base's object, then the variants'. The values are strings, numbers or null. */
  public static List<Map<String, Object>> of(Comparison comparison) {
    return comparison
      .models()
      .stream()
      .map(model -> of(comparison, model))
      .toList();
  }

  /** The object of one of the models of a comparison; the values are strings, numbers or null. */
  public static Map<String, Object> of(Comparison comparison, ModelResult model) {
    JsonResults results = new JsonResults(comparison);
    results.add(model);
    return results.out;
  }

  private void add(ModelResult model) {
    out.put("model", model.subject().name());
    out.put("file", model.subject().origin().toString());
    if (!model.equals(comparison.base())) {
      out.put("base", comparison.base().subject().name());
    }
    model.failure().ifPresent(failure -> out.put("failed", failure.message()));
    model
      .facts()
      .ifPresent(facts -> {
        out.put("bytes", facts.bytes());
        put("bits_per_weight", facts.bitsPerWeight());
        out.put("parameters", facts.parameters());
      });
    model
      .perplexity()
      .ifPresent(p -> {
        put("perplexity", p.value());
        put("perplexity_error", p.error());
        out.put("tokens", p.tokens());
        out.put("windows", p.windows());
        out.put("context", p.context());
      });
    model
      .divergence()
      .ifPresent(d -> {
        put("perplexity_ratio", d.perplexityRatio(), 1);
        put("kld_mean", d.mean(), 1);
        put("kld_median", d.median());
        put("kld_p90", d.p90());
        put("kld_p99", d.p99());
        put("kld_p999", d.p999());
        put("kld_max", d.max());
        put("delta_p_mean_percent", d.meanDeltaP(), 100);
        put("delta_p_rms_percent", d.rmsDeltaP(), 100);
        put("same_top_percent", d.sameTop(), 100);
      });
    for (LatencyResult result : model.latency()) {
      put(key(result.test()), result);
    }
    model.loadSeconds().ifPresent(seconds -> put("load_seconds", seconds));
    model.peakRssBytes().ifPresent(bytes -> out.put("peak_rss_bytes", bytes));
    if (!model.tensorErrors().isEmpty()) {
      put(
        "tensor_error_max",
        model.tensorErrors().stream().mapToDouble(TensorError::relativeError).max().getAsDouble()
      );
    }
  }

  private String key(LatencyTest test) {
    boolean first = SummaryTable.firstTest(comparison, test.kind()).equals(Optional.of(test));
    String further = test.name() + "_t" + test.threads() + "_";
    return switch (test.kind()) {
      case PROMPT -> (first ? "pp_" : further) + "tokens_per_second";
      case GENERATION -> (first ? "tg_" : further) + "tokens_per_second";
      case FIRST_TOKEN -> (first ? "first_token_" : further) + "seconds";
    };
  }

  private void put(String key, LatencyResult result) {
    put(key, result.median());
    put(key + "_q1", result.low());
    put(key + "_q3", result.high());
    if (result.toBase().isPresent()) {
      Ratio ratio = result.toBase().get();
      put(key + "_ratio", ratio.value());
      if (SummaryTable.isKnown(ratio)) {
        put(key + "_ratio_low", ratio.low());
        put(key + "_ratio_high", ratio.high());
      }
    }
  }

  private void put(String key, Estimate estimate, double scale) {
    put(key, scale * estimate.value());
    put(key + "_error", scale * estimate.error());
  }

  private void put(String key, double value) {
    out.put(key, Double.isFinite(value) ? value : null);
  }
}
