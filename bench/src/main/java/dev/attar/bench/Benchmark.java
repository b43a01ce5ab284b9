package dev.attar.bench;

import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.tensors.TensorErrors;
import dev.attar.bench.worker.ModelWorker;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Utf8;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalDouble;

/** Measures models, each in llama.cpp in a process of its own, and compares them with a base. */
public final class Benchmark {

  private static final String TOKENS = "tokenizer.ggml.tokens";

  // Of the memory that is free now; the rest is for llama.cpp's buffers and other programs.
  private static final double MEMORY_SHARE = 0.8;

  private final Settings settings;
  private final ProgressListener listener;
  private final Entrant base;
  private final List<Entrant> variants;
  private final Optional<ImportanceMatrix> importance;

  private ModelWorker.Loaded loadedBase;
  private Windows windows;

  private Benchmark(
    Subject base,
    List<Subject> variants,
    Settings settings,
    Optional<ImportanceMatrix> importance,
    ProgressListener listener
  ) {
    this.settings = settings;
    this.importance = importance;
    this.listener = listener;
    this.base = new Entrant(base, true);
    this.variants = variants
      .stream()
      .map(variant -> new Entrant(variant, false))
      .toList();
  }

  /**
   * Measures a base and its variants. A variant that fails, even one that makes llama.cpp abort, is a result like the others; the rest
   * goes on.
   *
   * <p>Models run at the same time as long as they fit in memory together; if they do not, groups of them run one after another, each
   * with the base.
   *
   * @param base the model that the others are compared with; or the only model
   * @param variants the others; may be empty
   * @param settings what to measure and how
   * @param commandLine the command as the user gave it, for the result
   * @param listener hears of progress
   * @throws IOException if the base cannot be measured, if the text or the importance matrix cannot be read, or if the thread is
   *     interrupted ({@link java.io.InterruptedIOException}); the workers are ended
   * @throws InterruptedException if the thread is interrupted; the workers are ended
   */
  public static Comparison run(
    Subject base,
    List<Subject> variants,
    Settings settings,
    String commandLine,
    ProgressListener listener
  ) throws IOException, InterruptedException {
    if (base.problem().isPresent()) {
      throw new IOException(base.problem().get());
    }
    Optional<Path> file = settings.importance();
    try (ImportanceMatrix importance = file.isPresent() ? ImportanceMatrix.open(file.get()) : null) {
      return new Benchmark(base, variants, settings, Optional.ofNullable(importance), listener).run(commandLine);
    }
  }

  private Comparison run(String commandLine) throws IOException, InterruptedException {
    try (Model baseModel = Models.open(base.subject().file())) {
      readFacts(baseModel);
      if (settings.text().isPresent()) {
        tokenize(settings.text().get());
      }
      List<List<Entrant>> groups = groups();
      for (int i = 0; i < groups.size(); i++) {
        new Group(
          groups.get(i),
          groups.size() == 1 ? "" : " (group " + (i + 1) + " of " + groups.size() + ")"
        ).measure();
      }
      compareTensors(baseModel);
    }
    return new Comparison(
      Environment.of(loadedBase.llama(), loadedBase.devices(), commandLine),
      settings,
      base.result(),
      variants.stream().map(Entrant::result).toList()
    );
  }

  /** Also finds the variants that are no models, or of another kind than the base. */
  private void readFacts(Model baseModel) throws IOException {
    base.facts = Optional.of(ModelFacts.of(baseModel, base.subject().adapters()));
    for (Entrant variant : variants) {
      variant.attempt("opening", () -> {
        try (Model model = Models.open(variant.subject().file())) {
          variant.facts = Optional.of(ModelFacts.of(model, variant.subject().adapters()));
          if (settings.text().isPresent()) {
            checkVocabulary(baseModel, model);
          }
        }
      });
    }
  }

  /** Before anything else: a text that is too short is told at once. */
  private void tokenize(Path text) throws IOException {
    listener.at("tokenizing", 0, 1, "texts");
    long most = (long) settings.windows().orElse(Integer.MAX_VALUE) * settings.context();
    ModelWorker.Tokenized tokenized = ModelWorker.tokenize(
      base.subject().file().toAbsolutePath(),
      text.toAbsolutePath(),
      (int) Math.min(most, Integer.MAX_VALUE),
      settings.patience()
    );
    windows = new Windows(tokenized.tokens(), settings.context(), settings.windows(), tokenized.vocabulary());
    if (windows.count() == 0) {
      throw new IOException(
        text +
          ": " +
          tokenized.tokens().length +
          " tokens, expected at least one window of " +
          settings.context() +
          " (--ctx)"
      );
    }
  }

  private static void checkVocabulary(Model base, Model variant) throws IOException {
    String[] expected = vocabulary(base);
    String[] found = vocabulary(variant);
    for (int i = 0; i < Math.max(expected.length, found.length); i++) {
      String e = i < expected.length ? Utf8.quote(expected[i]) : "none";
      String f = i < found.length ? Utf8.quote(found[i]) : "none";
      if (!e.equals(f)) {
        throw new IOException(
          variant.source() + ": another vocabulary than the base's: token " + i + " is " + f + ", expected " + e
        );
      }
    }
  }

  private static String[] vocabulary(Model model) {
    return model
      .metadata()
      .get(TOKENS)
      .map(MetadataValue::value)
      .map(value -> value instanceof String[] tokens ? tokens : null)
      .orElse(new String[0]);
  }

  /** The variants that run at the same time, as many as fit beside the base. */
  private List<List<Entrant>> groups() {
    double room = MEMORY_SHARE * Machine.availableMemoryBytes() - bytes(base);
    List<List<Entrant>> groups = new ArrayList<>();
    List<Entrant> group = new ArrayList<>();
    double left = room;
    for (Entrant variant : variants) {
      if (!group.isEmpty() && bytes(variant) > left) {
        groups.add(group);
        group = new ArrayList<>();
        left = room;
      }
      group.add(variant);
      left -= bytes(variant);
    }
    groups.add(group);
    return groups;
  }

  private static long bytes(Entrant model) {
    return model.facts.map(ModelFacts::bytes).orElse(0L);
  }

  private void compareTensors(Model baseModel) throws IOException, InterruptedException {
    if (!settings.tensorErrors()) {
      return;
    }
    long perVariant = bytes(base);
    long total = perVariant * variants.size();
    for (int i = 0; i < variants.size(); i++) {
      Entrant variant = variants.get(i);
      if (variant.hasFailed()) {
        continue;
      }
      long before = i * perVariant;
      try (Model model = Models.open(variant.subject().file())) {
        variant.tensorErrors = TensorErrors.compare(baseModel, model, importance, settings.threads(), bytes ->
          listener.at("comparing tensors", (before + bytes) / 1_000_000, total / 1_000_000, "MB")
        );
      }
    }
  }

  /** Models that run at the same time. */
  private final class Group {

    private final List<Entrant> models = new ArrayList<>();
    private final String note;

    Group(List<Entrant> variants, String note) {
      models.add(base);
      models.addAll(variants);
      this.note = note;
    }

    void measure() throws IOException {
      try {
        load();
        if (settings.latency().isEmpty()) {
          evaluate();
          measureMemory();
        } else {
          time();
          measureMemory(); // before evaluation, whose logits are no part of what a model needs
          evaluate();
        }
      } finally {
        models.forEach(Entrant::close);
      }
    }

    private void measureMemory() throws IOException {
      for (Entrant model : models) {
        model.attempt("measuring memory", () -> model.peakRssBytes = model.worker.peakResidentBytes());
      }
    }

    private void load() throws IOException {
      for (int i = 0; i < models.size(); i++) {
        Entrant model = models.get(i);
        listener.at("loading" + note, i, models.size(), "models");
        model.attempt("loading", () -> load(model));
      }
    }

    private void load(Entrant model) throws IOException {
      model.worker = ModelWorker.start(settings.patience());
      ModelWorker.Loaded loaded = model.worker.load(
        model.subject().file().toAbsolutePath(),
        model.subject().adapters(),
        settings.gpuLayers()
      );
      model.loadSeconds = OptionalDouble.of(loaded.seconds());
      if (model.isBase()) {
        loadedBase = loaded;
      } else if (settings.text().isPresent() && loaded.vocabulary() != loadedBase.vocabulary()) {
        throw new IOException(
          model.subject().file() +
            ": " +
            loaded.vocabulary() +
            " tokens in its vocabulary, expected the base's " +
            loadedBase.vocabulary()
        );
      }
    }

    private void time() throws IOException {
      LatencyRounds rounds = new LatencyRounds(settings);
      long total = rounds.size(models.size());
      long[] done = new long[1];
      rounds.measure(models, () -> listener.at("timing" + note, ++done[0], total, "runs"));
    }

    private void evaluate() throws IOException {
      if (windows == null) {
        return;
      }
      List<Entrant> running = models
        .stream()
        .filter(model -> !model.isBase() && !model.hasFailed())
        .toList();
      new Lockstep(windows, base, running).evaluate(loadedBase.vocabulary(), settings.threads(), done ->
        listener.at("evaluating" + note, done, windows.count(), "windows")
      );
    }
  }
}
