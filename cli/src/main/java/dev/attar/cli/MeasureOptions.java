package dev.attar.cli;

import dev.attar.bench.Machine;
import dev.attar.bench.Settings;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.bench.latency.LatencyTest.Kind;
import dev.attar.formats.FormatException;
import dev.attar.formats.Utf8;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for what the commands that run models measure, and how. */
final class MeasureOptions {

  private static final int MAX_THREADS = 512; // llama.cpp's GGML_MAX_N_THREADS

  private static final int MAX_TOKENS = 1 << 20;
  private static final int MAX_REPETITIONS = 1000;
  private static final int DEFAULT_CONTEXT = 512;
  private static final int DEFAULT_PROMPT = 512;
  private static final int DEFAULT_GENERATION = 128;
  /** Repetitions of each test unless the user says otherwise. */
  static final int DEFAULT_REPETITIONS = 5;
  /** Seconds without a sign of life after which a model is given up. */
  static final int DEFAULT_TIMEOUT = 600;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--text",
    paramLabel = "FILE",
    description = "Measure perplexity on this UTF-8 text, and KL divergence from the base."
  )
  private Path text;

  @Option(names = "--ctx", paramLabel = "N", description = "Tokens in a window of a text (default: 512).")
  private Integer context;

  @Option(names = "--chunks", paramLabel = "N", description = "Evaluate the first N windows only (default: all).")
  private Integer windows;

  @Option(
    names = "--pp",
    paramLabel = "N",
    split = ",",
    description = "Time the processing of prompts of N tokens (default: 512; 0: not)."
  )
  private List<Integer> prompts;

  @Option(
    names = "--tg",
    paramLabel = "N",
    split = ",",
    description = "Time the generation of N tokens (default: 128; 0: not)."
  )
  private List<Integer> generations;

  @Option(names = "--no-latency", description = "Time nothing.")
  private boolean noLatency;

  @Option(names = { "-r", "--repetitions" }, paramLabel = "N", description = "Time each test N times (default: 5).")
  private Integer repetitions;

  @Option(
    names = "--threads",
    paramLabel = "N",
    split = ",",
    description = {
      "How many threads compute (default: one per physical core). Of several numbers, tests are timed",
      "with each and the text is evaluated with the first."
    }
  )
  private List<Integer> threads;

  @Option(
    names = { "-ngl", "--gpu-layers" },
    paramLabel = "N",
    description = "Layers to put on a GPU, if llama.cpp has one (default: as llama.cpp decides)."
  )
  private Integer gpuLayers;

  @Option(names = "--no-tensors", description = "Do not compare the tensors with those of the base.")
  private boolean noTensors;

  @Option(
    names = "--imatrix",
    paramLabel = "FILE",
    description = "Weigh the errors of tensors by this importance matrix of llama-imatrix (GGUF or .dat)."
  )
  private Path importanceFile;

  @Option(
    names = "--timeout",
    paramLabel = "SECONDS",
    description = "Give a model up that shows no sign of life for so long (default: 600)."
  )
  private Integer timeout;

  @Option(
    names = "--report",
    paramLabel = "OUT.html",
    description = "Write a report with charts, one file for a browser."
  )
  private Path report;

  @Option(names = "--overwrite", description = "Replace outputs that exist.")
  private boolean overwrite;

  @Option(names = "--quiet", description = "Print results and errors only: no progress, no warnings.")
  private boolean quiet;

  /** The text to measure on, if there is one. */
  Optional<Path> text() {
    return Optional.ofNullable(text);
  }

  /** The importance matrix's file, if there is one. */
  Optional<Path> importanceFile() {
    return Optional.ofNullable(importanceFile);
  }

  /**
   * Checks, before long work, that the files of these options can be read.
   *
   * @return the importance matrix; {@code null} if there is none
   */
  ImportanceMatrix open() throws IOException {
    if (text != null) {
      requireText(text);
    }
    return importanceFile == null ? null : ImportanceMatrix.open(importanceFile);
  }

  /** Checks, before long work, that a text can be measured on. */
  static void requireText(Path text) throws IOException {
    if (Files.isDirectory(text)) {
      throw new FormatException(text, "a folder, expected a UTF-8 text file");
    }
    if (Files.size(text) == 0) {
      throw new FormatException(text, "an empty file, expected UTF-8 text");
    }
    // A file of another kind would give a perplexity too, one without meaning.
    Utf8.requireValid(text);
  }

  /** What is timed unless the user says otherwise. */
  static List<LatencyTest> usualLatency(int threads) {
    return List.of(
      new LatencyTest(Kind.PROMPT, DEFAULT_PROMPT, threads),
      new LatencyTest(Kind.FIRST_TOKEN, DEFAULT_PROMPT, threads),
      new LatencyTest(Kind.GENERATION, DEFAULT_GENERATION, threads)
    );
  }

  /** The HTML file to write, if one is wanted. */
  Optional<Path> report() {
    return Optional.ofNullable(report);
  }

  /** Whether existing outputs may be replaced. */
  boolean overwrite() {
    return overwrite;
  }

  /** Whether only results and errors are wanted. */
  boolean quiet() {
    return quiet;
  }

  /** How many threads may work on making models. */
  int makingThreads() {
    return threads == null ? Runtime.getRuntime().availableProcessors() : threads().getFirst();
  }

  /**
   * What to measure.
   *
   * @param hasBase whether there is a base to compare with
   * @param quantizes whether the command quantizes models too, which an importance matrix can serve
   * @param calibrates whether it runs the base on calibration texts for that, in windows too
   * @throws ParameterException if the options make no sense
   */
  Settings settings(boolean hasBase, boolean quantizes, boolean calibrates) {
    boolean tensors = hasBase && !noTensors;
    List<LatencyTest> latency = latency();
    if (text == null && !calibrates) {
      forbid("--ctx", context, "needs a --text");
    }
    if (text == null) {
      forbid("--chunks", windows, "needs a --text");
    }
    if (!tensors && !quantizes) {
      forbid("--imatrix", importanceFile, "weighs the errors of tensors, which are not to be measured");
    }
    if (text == null && latency.isEmpty() && !tensors) {
      throw usage("nothing to measure, expected a --text, or --pp or --tg above 0");
    }
    return new Settings(
      text(),
      window(),
      windows == null ? OptionalInt.empty() : OptionalInt.of(range("--chunks", windows, 1, 1, Integer.MAX_VALUE)),
      latency,
      range("--repetitions", repetitions, DEFAULT_REPETITIONS, 1, MAX_REPETITIONS),
      threads().getFirst(),
      gpuLayers == null ? OptionalInt.empty() : OptionalInt.of(range("--gpu-layers", gpuLayers, 0, 0, MAX_TOKENS)),
      tensors,
      tensors ? importanceFile() : Optional.empty(),
      patience()
    );
  }

  /**
   * How to measure what enters the layers of the base: in windows of the same length as the text's.
   *
   * @throws ParameterException if the options make no sense
   */
  Calibration calibration(CalibrationTexts texts) {
    int window = window();
    return new Calibration(texts.texts(), texts.tokens(window), window, threads().getFirst(), patience());
  }

  private int window() {
    return range("--ctx", context, DEFAULT_CONTEXT, 4, MAX_TOKENS);
  }

  private Duration patience() {
    return Duration.ofSeconds(range("--timeout", timeout, DEFAULT_TIMEOUT, 1, Integer.MAX_VALUE));
  }

  /** For each number of threads: prompts and the time to the first token after each, then generations. */
  private List<LatencyTest> latency() {
    List<LatencyTest> tests = new ArrayList<>();
    if (noLatency) {
      forbid("--pp", prompts, "and --no-latency exclude each other");
      forbid("--tg", generations, "and --no-latency exclude each other");
      forbid("--repetitions", repetitions, "and --no-latency exclude each other");
      return tests;
    }
    for (int count : threads()) {
      List<Integer> prompted = lengths("--pp", prompts, DEFAULT_PROMPT);
      prompted.forEach(tokens -> tests.add(new LatencyTest(Kind.PROMPT, tokens, count)));
      prompted.forEach(tokens -> tests.add(new LatencyTest(Kind.FIRST_TOKEN, tokens, count)));
      lengths("--tg", generations, DEFAULT_GENERATION).forEach(tokens ->
        tests.add(new LatencyTest(Kind.GENERATION, tokens, count))
      );
    }
    return tests;
  }

  /** The lengths of an option without zeros, which stand for nothing. */
  private List<Integer> lengths(String option, List<Integer> values, int byDefault) {
    List<Integer> given = Objects.requireNonNullElse(values, List.of(byDefault));
    given.forEach(value -> range(option, value, byDefault, 0, MAX_TOKENS));
    return given
      .stream()
      .filter(value -> value > 0)
      .distinct()
      .toList();
  }

  private List<Integer> threads() {
    List<Integer> given = threads == null ? List.of(Machine.computeThreads()) : threads;
    given.forEach(value -> range("--threads", value, 1, 1, MAX_THREADS));
    return given.stream().distinct().toList();
  }

  private int range(String option, Integer value, int byDefault, int min, int max) {
    return Usage.range(command, option, value, byDefault, min, max);
  }

  private void forbid(String option, Object value, String why) {
    if (value != null) {
      throw usage(option + " " + why);
    }
  }

  private ParameterException usage(String message) {
    return Usage.error(command, message);
  }
}
