package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

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
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

class ResultTextTest {

  private static final LatencyTest PROMPT = new LatencyTest(LatencyTest.Kind.PROMPT, 512, 2);
  private static final LatencyTest FIRST = new LatencyTest(LatencyTest.Kind.FIRST_TOKEN, 512, 2);

  @Test
  void everyValueOfAModel() {
    Comparison comparison = comparison();
    String text = text(out -> ResultText.printModel(comparison, comparison.variants().getFirst(), out));
    assertEquals(
      """
      Q4_K\\u001b
        size                2.38 MB, 5.35 bits per weight
        parameters          3.41 M
        perplexity          61.23 ± 0.46
                            25600 tokens in 100 windows of 512
        against             base
          perplexity ratio  1.0123 ± 0.0034
          KL divergence     0.03210 ± 0.00020 mean, 0.0210 median
                            0.0700 at 90 %, 0.210 at 99 %
                            0.510 at 99.9 %, 1.20 maximum
          same top token    89.12 ± 0.19 %
          correct token     -0.310 ± 0.020 points of probability, mean change
                            3.100 ± 0.050 points, RMS
        pp512               1830 t/s (1800 to 1860), 1.82 (1.79 to 1.85) times the base
        ttft512             0.281 s (0.279 to 0.290), no difference to the base
        load time           0.0512 s
        peak memory         187 MB
        tensor error        0.110  blk.1.ffn_up.weight (Q4_K)
        tensor error        0.0900  blk.0.ffn_up.weight (Q4_K)
        tensor error        0.0400  output.weight (Q6_K)
      """,
      text
    );
  }

  @Test
  void theSummaryFitsATerminalAndTellsOfFailures() {
    String text = text(out -> ResultText.printSummary(comparison(), out));
    List<String> lines = text.lines().toList();
    assertTrue(lines.stream().allMatch(line -> line.length() <= 100), text);
    assertTrue(
      lines
          .stream()
          .filter(line -> line.startsWith("  base "))
          .count() >
        1,
      text
    );
    assertTrue(lines.stream().anyMatch(line -> line.matches("  broken +failed")), text);
    assertTrue(
      text.contains("\n\nbroken failed, loading: llama.cpp ended: signal 6\n  llama.cpp: GGML_ASSERT(a) \\u001b\n"),
      text
    );
    assertTrue(text.contains("61.23 ± 0.46"), text);
  }

  private static String text(Consumer<PrintStream> printer) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (PrintStream out = new PrintStream(bytes, true, StandardCharsets.UTF_8)) {
      printer.accept(out);
    }
    return bytes.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n");
  }

  private static Comparison comparison() {
    Settings settings = new Settings(
      Optional.of(Path.of("test.txt")),
      512,
      OptionalInt.empty(),
      List.of(PROMPT, FIRST),
      5,
      2,
      OptionalInt.empty(),
      true,
      Optional.empty(),
      Duration.ofMinutes(10)
    );
    Environment environment = new Environment(
      "1",
      "v0.5.0",
      "25",
      "Linux",
      "CPU",
      2,
      1L << 33,
      List.of("CPU"),
      "attar bench",
      Instant.EPOCH
    );
    ModelResult base = model(
      Subject.of("base", Path.of("base.gguf")),
      6_920_000,
      16.01,
      new Perplexity(60.49, 0.45, 25600, 100, 512),
      Optional.empty(),
      List.of(
        new LatencyResult(PROMPT, List.of(1005.0), 1005, 1000, 1010, Optional.empty()),
        new LatencyResult(FIRST, List.of(0.5), 0.5, 0.4, 0.6, Optional.empty())
      ),
      List.of()
    );
    ModelResult variant = model(
      Subject.of("Q4_K\u001b", Path.of("q4.gguf")),
      2_380_000,
      5.35,
      new Perplexity(61.23, 0.46, 25600, 100, 512),
      Optional.of(divergence()),
      List.of(
        new LatencyResult(PROMPT, List.of(1830.0), 1830, 1800, 1860, Optional.of(new Ratio(1.82, 1.79, 1.85))),
        new LatencyResult(FIRST, List.of(0.281), 0.281, 0.279, 0.29, Optional.of(new Ratio(0.99, 0.9, 1.1)))
      ),
      List.of(
        tensor("blk.0.ffn_up.weight", "Q4_K", 0.09),
        tensor("blk.1.ffn_up.weight", "Q4_K", 0.11),
        tensor("token_embd.weight", "Q4_K", 0.03),
        tensor("output.weight", "Q6_K", 0.04)
      )
    );
    ModelResult broken = new ModelResult(
      Subject.of("broken", Path.of("broken.gguf")),
      Optional.empty(),
      OptionalDouble.empty(),
      OptionalLong.empty(),
      Optional.empty(),
      Optional.empty(),
      List.of(),
      List.of(),
      Optional.of(new Failure("loading", "llama.cpp ended: signal 6", List.of("GGML_ASSERT(a) \u001b")))
    );
    return new Comparison(environment, settings, base, List.of(variant, broken));
  }

  private static ModelResult model(
    Subject subject,
    long bytes,
    double bitsPerWeight,
    Perplexity perplexity,
    Optional<Divergence> divergence,
    List<LatencyResult> latency,
    List<TensorError> tensorErrors
  ) {
    return new ModelResult(
      subject,
      Optional.of(
        new ModelFacts(subject.name(), "llama", bytes, 3_410_000, bitsPerWeight, 4, 512, Map.of("Q4_K", 24), Map.of())
      ),
      OptionalDouble.of(0.0512),
      OptionalLong.of(187_000_000),
      Optional.of(perplexity),
      divergence,
      latency,
      tensorErrors,
      Optional.empty()
    );
  }

  private static Divergence divergence() {
    return new Divergence(
      new Estimate(0.0321, 0.0002),
      0.021,
      0.07,
      0.21,
      0.51,
      1.2,
      new Estimate(1.0123, 0.0034),
      new Estimate(-0.0031, 0.0002),
      new Estimate(0.031, 0.0005),
      new Estimate(0.8912, 0.0019),
      new Histogram(new double[] { 0.001, 1 }, new long[] { 25600 })
    );
  }

  private static TensorError tensor(String name, String type, double error) {
    return new TensorError(name, OptionalInt.empty(), name, type, 1000, error, false);
  }
}
