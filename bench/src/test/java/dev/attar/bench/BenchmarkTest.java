package dev.attar.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.bench.accuracy.Divergence;
import dev.attar.bench.latency.LatencyResult;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.LatencyTest.Kind;
import dev.attar.formats.MetadataValue;
import dev.attar.quant.FileType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BenchmarkTest {

  @TempDir
  private static Path folder;

  private static Path base;
  private static Path small;

  @BeforeAll
  static void makeModels() throws IOException, InterruptedException {
    base = SampleModels.convert(SampleModels.CHECKPOINT, folder.resolve("base.gguf"));
    small = SampleModels.quantize(base, FileType.Q4_K_M, folder.resolve("small.gguf"));
  }

  private static Settings settings(int context, OptionalInt windows) {
    return new Settings(
      Optional.of(SampleModels.TEXT),
      context,
      windows,
      List.of(),
      1,
      2,
      OptionalInt.empty(),
      false,
      Optional.empty(),
      Duration.ofMinutes(2)
    );
  }

  private static Settings timing(List<LatencyTest> tests, int repetitions) {
    return new Settings(
      Optional.empty(),
      512,
      OptionalInt.empty(),
      tests,
      repetitions,
      2,
      OptionalInt.empty(),
      false,
      Optional.empty(),
      Duration.ofMinutes(2)
    );
  }

  private static Comparison run(Settings settings, Subject... variants) throws IOException, InterruptedException {
    return Benchmark.run(Subject.of("base", base), List.of(variants), settings, "attar bench", (_, _, _, _) -> {});
  }

  @Test
  void aModelDoesNotDivergeFromItself() throws IOException, InterruptedException {
    Comparison comparison = run(settings(512, OptionalInt.of(3)), Subject.of("same", base));
    ModelResult same = comparison.variants().getFirst();
    assertEquals(Optional.empty(), same.failure());
    Divergence divergence = same.divergence().orElseThrow();
    assertEquals(0, divergence.mean().value());
    assertEquals(0, divergence.max());
    assertEquals(1, divergence.sameTop().value());
    assertEquals(new Estimate(1, 0), divergence.perplexityRatio());
    assertEquals(comparison.base().perplexity(), same.perplexity());
    assertEquals(3 * 255, same.perplexity().orElseThrow().tokens());
  }

  @Test
  void resultsDoNotDependOnHowTheyWereDecoded() throws IOException, InterruptedException {
    // 256 tokens: two windows at once; 1024: a window in two steps; with a base or alone.
    for (int context : new int[] { 256, 1024 }) {
      Comparison both = run(settings(context, OptionalInt.of(4)), Subject.of("small", small));
      Comparison alone = Benchmark.run(
        Subject.of("small", small),
        List.of(),
        settings(context, OptionalInt.of(4)),
        "attar eval",
        (_, _, _, _) -> {}
      );
      assertEquals(4, alone.base().perplexity().orElseThrow().windows());
      assertEquals(
        alone.base().perplexity().orElseThrow().value(),
        both.variants().getFirst().perplexity().orElseThrow().value(),
        1e-4
      );
    }
  }

  @Test
  void aVariantThatAbortsIsReportedAndTheOthersAreMeasured() throws IOException, InterruptedException {
    // An assertion of llama.cpp: experts are used, but there are none.
    Path aborting = SampleModels.withMetadata(
      base,
      metadata -> metadata.with("llama.expert_used_count", MetadataValue.uint32(2)),
      folder.resolve("aborting.gguf")
    );
    Path noModel = Files.writeString(folder.resolve("text.gguf"), "GGUF is what this file is not");
    Comparison comparison = run(
      settings(512, OptionalInt.of(2)),
      Subject.of("aborting", aborting),
      Subject.of("no model", noModel),
      Subject.failed("refused", folder.resolve("none.gguf"), "not to be had"),
      Subject.of("small", small)
    );
    Failure abort = comparison.variants().get(0).failure().orElseThrow();
    assertEquals("loading", abort.phase());
    assertTrue(abort.message().contains("GGML_ASSERT"), abort.message());
    assertFalse(abort.nativeLog().isEmpty());
    Failure unread = comparison.variants().get(1).failure().orElseThrow();
    assertEquals("opening", unread.phase());
    assertTrue(unread.message().contains("text.gguf"), unread.message());
    assertEquals("not to be had", comparison.variants().get(2).failure().orElseThrow().message());
    ModelResult measured = comparison.variants().get(3);
    assertEquals(Optional.empty(), measured.failure());
    assertTrue(measured.divergence().orElseThrow().mean().value() > 0);
    assertTrue(measured.peakRssBytes().orElse(1) > 0);
  }

  @Test
  void aBaseThatAbortsIsAnError() throws IOException {
    Path aborting = SampleModels.withMetadata(
      base,
      metadata -> metadata.with("llama.expert_used_count", MetadataValue.uint32(2)),
      folder.resolve("aborting-base.gguf")
    );
    IOException error = assertThrows(IOException.class, () ->
      Benchmark.run(
        Subject.of("base", aborting),
        List.of(Subject.of("small", small)),
        settings(512, OptionalInt.of(2)),
        "attar bench",
        (_, _, _, _) -> {}
      )
    );
    assertTrue(error.getMessage().contains("GGML_ASSERT"), error.getMessage());
  }

  @Test
  void anotherVocabularyIsRefused() throws IOException, InterruptedException {
    Path other = SampleModels.withMetadata(
      base,
      metadata -> {
        String[] tokens = ((String[]) metadata.get("tokenizer.ggml.tokens").orElseThrow().value()).clone();
        tokens[300] = "elsewhere";
        return metadata.with("tokenizer.ggml.tokens", MetadataValue.strings(List.of(tokens)));
      },
      folder.resolve("other.gguf")
    );
    Comparison comparison = run(settings(512, OptionalInt.of(2)), Subject.of("other", other));
    String message = comparison.variants().getFirst().failure().orElseThrow().message();
    assertTrue(message.contains("other.gguf: another vocabulary than the base's: token 300 is 'elsewhere'"), message);
  }

  @Test
  void logitsThatAreNoNumbersAreAFailure() throws IOException, InterruptedException {
    Path broken = SampleModels.withMetadata(
      base,
      metadata -> metadata.with("llama.rope.freq_base", MetadataValue.float32(Float.NaN)),
      folder.resolve("broken.gguf")
    );
    Comparison comparison = run(settings(512, OptionalInt.of(2)), Subject.of("broken", broken));
    Failure failure = comparison.variants().getFirst().failure().orElseThrow();
    assertEquals("evaluating", failure.phase());
    assertTrue(failure.message().contains("not finite numbers, first in window 1"), failure.message());
  }

  @Test
  void aTextThatIsTooShortIsAnError() throws IOException {
    Path text = Files.writeString(folder.resolve("short.txt"), "Call me Ishmael.");
    Settings settings = new Settings(
      Optional.of(text),
      512,
      OptionalInt.empty(),
      List.of(),
      1,
      2,
      OptionalInt.empty(),
      false,
      Optional.empty(),
      Duration.ofMinutes(2)
    );
    IOException error = assertThrows(IOException.class, () -> run(settings));
    assertTrue(error.getMessage().matches(".*short.txt: \\d+ tokens, expected at least .*512.*"), error.getMessage());
  }

  @Test
  void timesInTurnAndCompares() throws IOException, InterruptedException {
    List<LatencyTest> tests = List.of(
      new LatencyTest(Kind.PROMPT, 64, 2),
      new LatencyTest(Kind.FIRST_TOKEN, 64, 2),
      new LatencyTest(Kind.GENERATION, 8, 1)
    );
    List<Long> counts = new ArrayList<>();
    Set<String> phases = new LinkedHashSet<>();
    Comparison comparison = Benchmark.run(
      Subject.of("base", base),
      List.of(Subject.of("small", small)),
      timing(tests, 3),
      "attar bench",
      (phase, done, total, _) -> {
        phases.add(phase);
        if (phase.equals("timing")) {
          assertEquals(2 * 4 * 2, total);
          counts.add(done);
        }
      }
    );
    assertEquals(16, counts.size());
    assertEquals(Set.of("loading", "timing"), phases);
    for (ModelResult model : comparison.models()) {
      assertEquals(tests, model.latency().stream().map(LatencyResult::test).toList());
      for (LatencyResult result : model.latency()) {
        assertEquals(3, result.samples().size());
        assertTrue(result.median() > 0);
      }
      // The first token comes after the prompt has been processed, in the same run.
      double prompt = model.latency().get(0).samples().getFirst();
      double firstToken = model.latency().get(1).samples().getFirst();
      assertTrue(firstToken >= 64 / prompt);
      assertTrue(model.loadSeconds().orElseThrow() > 0);
    }
    assertTrue(comparison.base().latency().getFirst().toBase().isEmpty());
    assertTrue(comparison.variants().getFirst().latency().getFirst().toBase().isPresent());
  }

  @Test
  void anInterruptEndsTheWorkers() throws InterruptedException {
    List<Throwable> thrown = new ArrayList<>();
    Set<Long> before = ProcessHandle.current()
      .children()
      .map(ProcessHandle::pid)
      .collect(java.util.stream.Collectors.toSet());
    Thread runner = Thread.ofPlatform().start(() -> {
      try {
        Benchmark.run(
          Subject.of("base", base),
          List.of(Subject.of("small", small)),
          settings(512, OptionalInt.empty()),
          "attar bench",
          (phase, _, _, _) -> {
            if (phase.equals("evaluating")) {
              Thread.currentThread().interrupt();
            }
          }
        );
      } catch (IOException | InterruptedException e) {
        thrown.add(e);
      }
    });
    runner.join();
    assertEquals(1, thrown.size());
    assertTrue(
      thrown.getFirst() instanceof InterruptedException || thrown.getFirst() instanceof java.io.InterruptedIOException,
      thrown.toString()
    );
    assertTrue(
      ProcessHandle.current()
        .children()
        .allMatch(child -> before.contains(child.pid()))
    );
  }
}
