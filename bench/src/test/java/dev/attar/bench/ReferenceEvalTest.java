package dev.attar.bench;

import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.accuracy.Perplexity;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.TestFactory;
import org.junit.jupiter.api.io.TempDir;

/**
 * Compares with what {@code llama-perplexity --kl-divergence} v0.5.0 gave: for the sample, in windows of several lengths, and for each
 * checkpoint of the folder {@code -Dattar.models} that has a {@code reference-eval.json}, on the text {@code ../text/test.txt} beside
 * it. The reference keeps the base's logits in 16 bits, which is seen in small divergences.
 */
class ReferenceEvalTest {

  @TempDir
  private Path folder;

  private record Case(String name, Path checkpoint, Path text, JsonNode reference) {}

  @TestFactory
  Stream<DynamicTest> agreesWithLlamaPerplexity() throws IOException {
    return cases()
      .stream()
      .map(c -> dynamicTest(c.name, () -> check(c)));
  }

  private static List<Case> cases() throws IOException {
    List<Case> cases = new ArrayList<>();
    for (JsonNode reference : read(Path.of("src/test/resources/dev/attar/bench/sample-eval.json"))) {
      String name = "sample, context " + reference.get("context");
      cases.add(new Case(name, SampleModels.CHECKPOINT, SampleModels.TEXT, reference));
    }
    String models = System.getProperty("attar.models");
    if (models != null) {
      try (Stream<Path> folders = Files.list(Path.of(models))) {
        for (Path checkpoint : folders.sorted().toList()) {
          Path reference = checkpoint.resolve("reference-eval.json");
          if (Files.exists(reference)) {
            Path text = Path.of(models).resolveSibling("text").resolve("test.txt");
            cases.add(new Case(checkpoint.toString(), checkpoint, text, read(reference)));
          }
        }
      }
    }
    return cases;
  }

  private static JsonNode read(Path json) throws IOException {
    return new ObjectMapper().readTree(Files.readString(json));
  }

  private void check(Case c) throws IOException, InterruptedException {
    Path base = SampleModels.convert(c.checkpoint, folder.resolve("base.gguf"));
    Map<Subject, JsonNode> variants = new LinkedHashMap<>();
    for (Map.Entry<String, JsonNode> entry : c.reference.get("variants").properties()) {
      variants.put(variant(c.checkpoint, base, entry.getKey()), entry.getValue());
    }
    Settings settings = new Settings(
      Optional.of(c.text),
      c.reference.get("context").intValue(),
      OptionalInt.empty(),
      List.of(),
      1,
      2,
      OptionalInt.empty(),
      false,
      Optional.empty(),
      Duration.ofMinutes(10)
    );
    Comparison comparison = Benchmark.run(
      Subject.of("base", base),
      List.copyOf(variants.keySet()),
      settings,
      "attar bench",
      (_, _, _, _) -> {}
    );
    compare("base", c.reference.get("base_ppl"), comparison.base());
    for (ModelResult variant : comparison.variants()) {
      compare(variant, variants.get(variant.subject()));
    }
  }

  private Path variantFile(String name) {
    return folder.resolve(name.replace('+', '-') + ".gguf");
  }

  private Subject variant(Path checkpoint, Path base, String name) throws IOException, InterruptedException {
    List<String> parts = List.of(name.split("\\+"));
    if (parts.getFirst().equals("BF16")) {
      return Subject.of(name, Files.copy(base, variantFile(name), StandardCopyOption.REPLACE_EXISTING));
    }
    QuantizeOptions options = QuantizeOptions.of(FileType.byName(parts.getFirst()).orElseThrow()).withPure(
      parts.contains("pure")
    );
    if (!parts.contains("imatrix")) {
      return Subject.of(name, SampleModels.quantize(base, options, variantFile(name)));
    }
    Path file = checkpoint.resolve("imatrix.gguf");
    try (ImportanceMatrix importance = ImportanceMatrix.open(file)) {
      options = options.withImportance(importance, file.toString());
      return Subject.of(name, SampleModels.quantize(base, options, variantFile(name)));
    }
  }

  private static void compare(String name, JsonNode reference, ModelResult model) {
    Perplexity perplexity = model.perplexity().orElseThrow();
    double expected = reference.get(0).doubleValue();
    assertEquals(expected, perplexity.value(), 0.002 * expected, name + ": perplexity");
    assertEquals(reference.get(1).doubleValue(), perplexity.error(), 0.01 * expected, name + ": its error");
  }

  private static void compare(ModelResult model, JsonNode reference) {
    String name = model.subject().name();
    assertEquals(Optional.empty(), model.failure(), name);
    Divergence divergence = model.divergence().orElseThrow();
    double kld = value(reference, "kld_mean");
    assertAll(
      name,
      () -> compare(name, reference.get("ppl"), model),
      () -> assertEquals(value(reference, "ppl_ratio"), divergence.perplexityRatio().value(), 0.001, "ratio"),
      () -> assertEquals(kld, divergence.mean().value(), Math.max(0.02 * kld, 0.0005), "mean KLD"),
      () -> near(reference, "kld_median", divergence.median()),
      () -> near(reference, "kld_99", divergence.p99()),
      () -> assertEquals(value(reference, "kld_max"), divergence.max(), 0.15 * value(reference, "kld_max") + 0.001),
      () -> assertEquals(value(reference, "mean_dp_percent"), 100 * divergence.meanDeltaP().value(), 0.02, "Δp"),
      () -> assertEquals(value(reference, "rms_dp_percent"), 100 * divergence.rmsDeltaP().value(), 0.05, "RMS Δp"),
      () -> assertEquals(value(reference, "same_top_percent"), 100 * divergence.sameTop().value(), 0.3, "same top")
    );
  }

  private static void near(JsonNode reference, String key, double found) {
    assertEquals(value(reference, key), found, Math.max(0.03 * value(reference, key), 0.0005), key);
  }

  private static double value(JsonNode reference, String key) {
    return reference.get(key).get(0).doubleValue();
  }
}
