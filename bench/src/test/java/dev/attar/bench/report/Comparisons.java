package dev.attar.bench.report;

import dev.attar.bench.Comparison;
import dev.attar.bench.Environment;
import dev.attar.bench.Estimate;
import dev.attar.bench.Failure;
import dev.attar.bench.ModelFacts;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Settings;
import dev.attar.bench.Subject;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Histogram;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.Ratio;
import dev.attar.bench.tensors.TensorError;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Random;

/** Comparisons that nobody measured, with numbers as they occur. */
final class Comparisons {

  /** Types with their bits per weight, mean KL divergence and speed of generation relative to F16. */
  private record Kind(String name, double bits, double kld, double speed) {}

  private static final List<Kind> KINDS = List.of(
    new Kind("Q8_0", 8.5, 0.0006, 1.71),
    new Kind("Q6_K", 6.57, 0.0021, 2.02),
    new Kind("Q5_K_M", 5.69, 0.0062, 2.19),
    new Kind("Q4_K_M", 4.85, 0.0189, 2.51),
    new Kind("Q3_K_M", 3.91, 0.0617, 2.42),
    new Kind("Q2_K", 3.16, 0.1891, 2.97),
    new Kind("Q5_K_S", 5.54, 0.0074, 2.24),
    new Kind("Q5_1", 6.0, 0.0098, 2.04),
    new Kind("Q5_0", 5.54, 0.0121, 2.08),
    new Kind("Q4_K_S", 4.58, 0.0238, 2.58),
    new Kind("Q4_1", 5.0, 0.0392, 2.41),
    new Kind("Q4_0", 4.55, 0.0448, 2.63),
    new Kind("IQ4_NL", 4.5, 0.0247, 2.39),
    new Kind("IQ4_XS", 4.25, 0.0252, 2.35),
    new Kind("Q3_K_L", 4.27, 0.0521, 2.36),
    new Kind("Q3_K_S", 3.5, 0.1012, 2.44),
    new Kind("IQ3_S", 3.44, 0.0834, 1.88),
    new Kind("IQ3_XXS", 3.06, 0.1302, 1.91),
    new Kind("IQ2_S", 2.5, 0.3011, 1.93),
    new Kind("IQ2_XXS", 2.06, 0.6214, 1.97)
  );

  static final List<LatencyTest> TESTS = List.of(
    new LatencyTest(LatencyTest.Kind.PROMPT, 512, 4),
    new LatencyTest(LatencyTest.Kind.GENERATION, 128, 4),
    new LatencyTest(LatencyTest.Kind.GENERATION, 128, 2),
    new LatencyTest(LatencyTest.Kind.FIRST_TOKEN, 512, 4)
  );

  private static final long PARAMETERS = 1_100_048_384L;
  private static final int LAYERS = 22;

  private final Random random = new Random(20);
  private Settings settings = settings(true, TESTS, true);
  private String base = "F16";
  private final List<ModelResult> variants = new ArrayList<>();

  /** A base and this many variants, at most 20. */
  static Comparison of(int variants) {
    return new Comparisons().variants(variants).build();
  }

  /** What was asked for; what was not is absent in all models that are added from then on. */
  Comparisons settings(Settings settings) {
    this.settings = settings;
    return this;
  }

  Comparisons base(String name) {
    base = name;
    return this;
  }

  Comparisons variants(int count) {
    for (Kind kind : KINDS.subList(0, count)) {
      variants.add(model(kind.name(), kind, false));
    }
    return this;
  }

  /** A variant with the numbers of {@code Q4_K_M} and another name. */
  Comparisons variant(String name) {
    variants.add(model(name, KINDS.get(3), false));
    return this;
  }

  Comparisons variant(ModelResult variant) {
    variants.add(variant);
    return this;
  }

  Comparisons failed(String name, String message, String... log) {
    variants.add(
      new ModelResult(
        Subject.failed(name, file(name), message),
        Optional.empty(),
        OptionalDouble.empty(),
        OptionalLong.empty(),
        Optional.empty(),
        Optional.empty(),
        List.of(),
        List.of(),
        Optional.of(new Failure("loading", message, List.of(log)))
      )
    );
    return this;
  }

  Comparison build() {
    Environment environment = new Environment(
      "0.1.0",
      "v0.5.0",
      "25.0.3",
      "Linux 6.12 amd64",
      "AMD Ryzen 9 7950X 16-Core Processor",
      32,
      67_108_864_000L,
      List.of("CPU (AMD Ryzen 9 7950X 16-Core Processor)"),
      "attar bench tinyllama-1.1b-f16.gguf --types Q8_0,Q6_K,Q5_K_M,Q4_K_M,Q3_K_M,Q2_K --text wiki.test.txt --report report.html",
      Instant.parse("2026-03-14T09:26:53Z")
    );
    ModelResult first = model(base, new Kind(base, 16.01, 0, 1), true);
    return new Comparison(environment, settings, first, variants);
  }

  static Settings settings(boolean text, List<LatencyTest> latency, boolean tensors) {
    return new Settings(
      text ? Optional.of(Path.of("texts", "wiki.test.txt")) : Optional.empty(),
      512,
      OptionalInt.empty(),
      latency,
      5,
      8,
      OptionalInt.empty(),
      tensors,
      Optional.of(Path.of("imatrix.gguf")),
      Duration.ofMinutes(2)
    );
  }

  /** A path that every system takes, whatever the name. */
  private static Path file(String name) {
    return Path.of("models", name.replaceAll("[^\\w.-]", "_") + ".gguf");
  }

  private ModelResult model(String name, Kind kind, boolean isBase) {
    boolean text = settings.text().isPresent();
    double rise = 1 + 0.9 * kind.kld();
    long bytes = Math.round((PARAMETERS * kind.bits()) / 8) + 1_733_024;
    List<LatencyResult> latency = new ArrayList<>();
    for (LatencyTest test : settings.latency()) {
      latency.add(latency(test, kind, isBase));
    }
    return new ModelResult(
      Subject.of(name, file(name)),
      Optional.of(
        new ModelFacts(
          "TinyLlama 1.1B",
          "llama",
          bytes,
          PARAMETERS,
          kind.bits(),
          LAYERS,
          2048,
          types(kind.name(), isBase),
          isBase ? Map.of() : history(kind.name())
        )
      ),
      OptionalDouble.of((0.05 + 0.19 * (kind.bits() / 16)) * (1 + 0.1 * random.nextDouble())),
      OptionalLong.of(bytes + 210_000_000L + random.nextInt(20_000_000)),
      text ? Optional.of(new Perplexity(7.7129 * rise, 0.0491 * rise, 164_352, 642, 512)) : Optional.empty(),
      text && !isBase ? Optional.of(divergence(kind.kld(), rise)) : Optional.empty(),
      latency,
      settings.tensorErrors() && !isBase ? tensors(kind.name(), kind.bits()) : List.of(),
      Optional.empty()
    );
  }

  private LatencyResult latency(LatencyTest test, Kind kind, boolean isBase) {
    double threads = test.threads() / 4.0;
    double noise = 1 + 0.004 * random.nextGaussian();
    double prompt = 212 * (isBase ? 1 : 0.93 + (0.16 * (kind.bits() - 2)) / 6.5) * threads;
    double value =
      noise *
      switch (test.kind()) {
        case PROMPT -> (prompt * 600.0) / (test.tokens() + 88);
        case GENERATION -> 14.6 * kind.speed() * Math.pow(threads, 0.35);
        case FIRST_TOKEN -> test.tokens() / prompt + 0.06;
      };
    double ratio = switch (test.kind()) {
      case PROMPT -> prompt / (212 * threads);
      case GENERATION -> kind.speed();
      case FIRST_TOKEN -> (212 * threads) / prompt;
    };
    return new LatencyResult(
      test,
      List.of(value * 0.99, value, value * 1.02),
      value,
      value * 0.988,
      value * 1.014,
      isBase ? Optional.empty() : Optional.of(new Ratio(ratio, ratio * 0.978, ratio * 1.023))
    );
  }

  /** A distribution whose logarithm is normal, with a few tokens of no divergence at all. */
  private Divergence divergence(double mean, double rise) {
    double sigma = 1.25;
    double mu = Math.log(mean) - (sigma * sigma) / 2;
    double[] edges = new double[181];
    for (int i = 0; i < edges.length; i++) {
      edges[i] = Math.pow(10, -7 + i * 0.05);
    }
    long[] counts = new long[180];
    for (int i = 0; i < 164_352; i++) {
      double value = Math.exp(mu + sigma * random.nextGaussian());
      counts[Math.clamp((int) Math.floor((Math.log10(value) + 7) / 0.05), 0, 179)]++;
    }
    double root = Math.sqrt(mean);
    return new Divergence(
      new Estimate(mean, mean * 0.006),
      Math.exp(mu),
      Math.exp(mu + 1.2816 * sigma),
      Math.exp(mu + 2.3263 * sigma),
      Math.exp(mu + 3.0902 * sigma),
      Math.exp(mu + 4.4 * sigma),
      new Estimate(rise, 0.0021 * root),
      new Estimate(-0.021 * root * root, 0.0003 * root),
      new Estimate(0.192 * root, 0.002 * root),
      new Estimate(1 - 0.46 * root, 0.0021 * root),
      new Histogram(edges, counts)
    );
  }

  private static Map<String, Integer> types(String name, boolean isBase) {
    Map<String, Integer> types = new LinkedHashMap<>();
    if (isBase) {
      types.put("F16", 156);
    } else {
      types.put(name.replaceFirst("_[SML]$", ""), 135);
      types.put("Q6_K", 21);
    }
    types.put("F32", 45);
    return types;
  }

  private static Map<String, String> history(String type) {
    Map<String, String> history = new LinkedHashMap<>();
    history.put("attar.version", "0.1.0");
    history.put("attar.source", "TinyLlama-1.1B");
    history.put("attar.method", "rtn");
    history.put("attar.quantize.type", type);
    history.put("quantize.imatrix.file", "imatrix.gguf");
    history.put("quantize.imatrix.dataset", "calibration.txt");
    history.put("quantize.imatrix.entries_count", "155");
    return history;
  }

  private List<TensorError> tensors(String name, double bits) {
    List<TensorError> errors = new ArrayList<>();
    String type = name.replaceFirst("_[SML]$", "");
    double typical = 0.0052 * Math.pow(2, 8.5 - bits) * 0.75;
    errors.add(new TensorError("token_embd.weight", OptionalInt.empty(), "token_embd", type, 1 << 20, typical, false));
    for (int layer = 0; layer < LAYERS; layer++) {
      for (String kind : List.of(
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down"
      )) {
        boolean norm = kind.endsWith("_norm");
        boolean more = (kind.equals("attn_v") || kind.equals("ffn_down")) && layer % 3 == 0 && bits < 6;
        double depth = 1 + 0.5 * Math.exp(-layer) + 0.25 * Math.exp(layer - LAYERS + 1);
        double error = norm ? 0 : (more ? 0.4 : 1) * typical * depth * (1 + 0.12 * random.nextGaussian());
        errors.add(
          new TensorError(
            "blk." + layer + "." + kind + ".weight",
            OptionalInt.of(layer),
            kind,
            norm ? "F32" : more ? "Q6_K" : type,
            1 << 20,
            Math.abs(error),
            !norm
          )
        );
      }
    }
    errors.add(new TensorError("output_norm.weight", OptionalInt.empty(), "output_norm", "F32", 8192, 0, false));
    errors.add(new TensorError("output.weight", OptionalInt.empty(), "output", "Q6_K", 1 << 20, 0.0101, false));
    return errors;
  }
}
