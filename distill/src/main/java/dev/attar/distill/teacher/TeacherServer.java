package dev.attar.distill.teacher;

import dev.attar.calibration.Activations;
import dev.attar.calibration.StateObserver;
import dev.attar.calibration.TokenWindows;
import dev.attar.compute.Workers;
import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.llama.Batch;
import dev.attar.llama.Frame;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.SharedFile;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

/**
 * Carries out a parent's requests on one model. One thread decodes; all of them together find the likeliest tokens afterwards, while
 * llama.cpp rests: its threads end with each computation.
 */
final class TeacherServer implements AutoCloseable {

  /** The most tokens that are computed together: llama.cpp's own. Of shorter windows, several are. */
  private static final int BATCH = 512;

  private static final int MOST_SEQUENCES = 256; // llama.cpp's

  /** Rows that a thread takes at a time. */
  private static final int ROWS = 16;

  private final WorkerChannel channel;
  private Path file;
  private LlamaTeacher.Settings settings;
  private LlamaModel model;
  private TokenWindows training;
  private TokenWindows validation; // null if the last ones of those to train on are it
  private int vocabulary;
  private Workers workers;
  private final List<Arena> arenas = new ArrayList<>(Arrays.asList(null, null));
  private final List<MemorySegment> slots = new ArrayList<>(Arrays.asList(null, null));

  private LlamaContext context;
  private Batch batch;
  private int[] states; // that the context's observer looks for
  private boolean goesOn; // whether it lets the graph be computed to its end
  private StateObserver observer; // null if no states are wanted

  /** The question under way. */
  private Question question;

  private AnswerLayout layout;
  private MemorySegment slot;
  private int firstRow; // of the batch, among the answer's rows

  TeacherServer(WorkerChannel channel) {
    this.channel = channel;
  }

  void serve() throws IOException {
    for (Optional<Frame> frame = channel.receive(); frame.isPresent(); frame = channel.receive()) {
      channel.send(
        Reply.toFrame(
          switch (Request.of(frame.get())) {
            case Request.Open open -> open(open);
            case Request.Ask ask -> answer(ask);
          }
        )
      );
    }
  }

  private void alive() {
    try {
      channel.alive();
    } catch (IOException _) {
      // The parent is gone; the end of the input will say so.
    }
  }

  private Reply open(Request.Open open) throws IOException {
    file = open.model();
    settings = open.settings();
    workers = new Workers(settings.threads());
    // The text first: it is sooner known to be of no use than the weights are loaded.
    try (LlamaModel words = load(true)) {
      readTexts(words, open.tokens());
    } catch (IllegalStateException e) {
      throw new IOException(e.getMessage(), e); // there is no vocabulary
    }
    model = load(false);
    List<String> warnings = new ArrayList<>(training.warnings());
    if (validation != null) {
      warnings.addAll(validation.warnings());
    }
    if (settings.context() > model.trainedContext()) {
      warnings.add(
        "windows of " + settings.context() + " tokens, the teacher was trained on " + model.trainedContext()
      );
    }
    return new Reply.Opened(
      trainingWindows(),
      validationWindows(),
      vocabulary,
      model.layers(),
      model.embeddingLength(),
      warnings
    );
  }

  private LlamaModel load(boolean vocabularyOnly) throws IOException {
    return LlamaModel.open(file, new LlamaModel.Options(settings.gpuLayers(), vocabularyOnly, true, _ -> alive()));
  }

  // --- Texts.

  private void readTexts(LlamaModel words, Path out) throws IOException {
    int size = words.tokens().size();
    vocabulary = settings.vocabulary() == 0 ? size : settings.vocabulary();
    if (vocabulary > size) {
      throw new IOException(file + ": " + size + " tokens, expected at least " + vocabulary + ", the shared ones");
    }
    int window = settings.context();
    training = TokenWindows.read(words.tokens(), settings.training(), settings.tokens(), window, this::alive);
    if (!settings.validation().isEmpty()) {
      long most = (long) settings.validationWindows() * window;
      validation = TokenWindows.read(words.tokens(), settings.validation(), OptionalLong.of(most), window, this::alive);
    } else if (training.count() <= settings.validationWindows()) {
      throw new IOException(
        names(settings.training()) +
          ": " +
          training.count() +
          " windows of " +
          window +
          " tokens, expected more than the " +
          settings.validationWindows() +
          " that are held out for validation"
      );
    }
    ByteBuffer tokens = ByteBuffer.allocate(4 * window).order(ByteOrder.nativeOrder());
    try (FileChannel channel = FileChannel.open(out, StandardOpenOption.WRITE)) {
      for (int i = 0; i < trainingWindows() + validationWindows(); i++) {
        tokens.clear();
        for (int position = 0; position < window; position++) {
          int token = token(i, position);
          if (token >= vocabulary) {
            throw new IOException(
              names(isHeldOut(i) ? settings.validation() : settings.training()) +
                ": token " +
                token +
                " of the teacher, " +
                words.tokens().text(token) +
                ", is in the text, expected only tokens below " +
                vocabulary +
                ", the shared ones"
            );
          }
          tokens.putInt(token);
        }
        tokens.flip();
        while (tokens.hasRemaining()) {
          channel.write(tokens);
        }
        alive();
      }
    }
  }

  private static String names(List<Path> texts) {
    return texts.stream().map(Path::toString).collect(Collectors.joining(", "));
  }

  private int trainingWindows() {
    return validation == null ? training.count() - settings.validationWindows() : training.count();
  }

  private int validationWindows() {
    return validation == null ? settings.validationWindows() : validation.count();
  }

  /** Whether a window is one of texts to validate with. */
  private boolean isHeldOut(int window) {
    return validation != null && window >= training.count();
  }

  private int token(int window, int position) {
    return isHeldOut(window) ? validation.token(window - training.count(), position) : training.token(window, position);
  }

  // --- Answers.

  private Reply answer(Request.Ask ask) throws IOException {
    if (ask.file().isPresent()) {
      map(ask.slot(), ask.file().get(), ask.bytes());
    }
    slot = slots.get(ask.slot());
    question = ask.question();
    layout = AnswerLayout.of(question, settings.context(), vocabulary, model.embeddingLength());
    boolean predicts = !(question.distribution() instanceof Distribution.None);
    if (predicts || question.states().length > 0) {
      openContext(question.states(), predicts);
      int together = sequences();
      for (int from = 0; from < question.windows().length; from += together) {
        decode(from, Math.min(question.windows().length, from + together));
      }
    }
    return new Reply.Answered();
  }

  private void map(int number, Path shared, long bytes) throws IOException {
    if (arenas.get(number) != null) {
      arenas.get(number).close();
    }
    arenas.set(number, Arena.ofShared());
    slots.set(number, SharedFile.map(shared, bytes, true, arenas.get(number)));
  }

  /** Windows that are computed together. */
  private int sequences() {
    return Math.clamp(BATCH / settings.context(), 1, MOST_SEQUENCES);
  }

  /** A context that is not observed where no states are wanted is a little faster. */
  private void openContext(int[] wanted, boolean predicts) throws IOException {
    if (context != null && Arrays.equals(states, wanted) && (goesOn == predicts || wanted.length == 0)) {
      return;
    }
    closeContext();
    int size = Math.min(BATCH, sequences() * settings.context());
    LlamaContext.Options options = new LlamaContext.Options(
      sequences() * settings.context(),
      size,
      size,
      sequences(),
      settings.threads()
    );
    states = wanted;
    goesOn = predicts;
    observer = wanted.length == 0 ? null : new StateObserver(wanted, predicts, this::takeState);
    context = observer == null ? model.context(options) : model.context(options, observer);
    batch = new Batch(size);
  }

  /** Computes windows of the question. */
  private void decode(int from, int to) throws IOException {
    int window = settings.context();
    context.clear();
    int length = Math.min(BATCH, window);
    for (int begin = 0; begin < window; begin += length) {
      int end = Math.min(window, begin + length);
      batch.clear();
      for (int i = from; i < to; i++) {
        for (int position = begin; position < end; position++) {
          // Where a token's output is not wanted, the last block leaves it out before its feed-forward part.
          batch.add(token(question.windows()[i], position), position, i - from, true);
        }
      }
      firstRow = from * window + begin;
      decodeBatch();
    }
  }

  private void decodeBatch() throws IOException {
    if (observer != null) {
      observer.begin();
    }
    try {
      context.decode(batch);
      context.synchronize();
    } catch (IllegalArgumentException e) {
      // More positions than the model has.
      throw new IOException(file + ": windows of " + settings.context() + " tokens: " + e.getMessage(), e);
    }
    if (observer != null) {
      Optional<String> missing = observer.missing();
      if (missing.isPresent()) {
        throw new IOException(file + ": " + missing.get() + ", so states of this model cannot be had");
      }
    }
    switch (question.distribution()) {
      case Distribution.None _ -> {}
      case Distribution.Logits _ -> copyLogits();
      case Distribution.Top top -> findTop(top);
    }
    alive();
  }

  private void copyLogits() throws IOException {
    MemorySegment logits = context.logits();
    MemorySegment to = layout.logits(slot);
    long from = 4L * context.vocabularySize();
    long bytes = 4L * vocabulary;
    eachRow("logits", row -> {
      if (!TopTokens.areFinite(logits, row * from, vocabulary)) {
        return false;
      }
      MemorySegment.copy(logits, row * from, to, (firstRow + row) * bytes, bytes);
      return true;
    });
  }

  private void findTop(Distribution.Top top) throws IOException {
    MemorySegment logits = context.logits();
    MemorySegment tokens = layout.tokens(slot);
    MemorySegment logProbabilities = layout.logProbabilities(slot);
    ThreadLocal<TopTokens> finders = ThreadLocal.withInitial(() ->
      new TopTokens(vocabulary, top.k(), top.temperature())
    );
    long from = 4L * context.vocabularySize();
    eachRow("logits", row -> {
      if (!TopTokens.areFinite(logits, row * from, vocabulary)) {
        return false;
      }
      long to = firstRow + row;
      finders.get().find(logits, row * from, tokens, 4L * to * top.k(), logProbabilities, 4L * to * (top.k() + 1));
      return true;
    });
  }

  private void takeState(int block, Activations rows) {
    int index = Arrays.binarySearch(states, block);
    int width = layout.embedding();
    if (rows.columns() != width || rows.count(0) != batch.size()) {
      throw new UncheckedIOException(
        new IOException(
          file +
            ": " +
            stateName(block) +
            " has " +
            rows.count(0) +
            " rows of " +
            rows.columns() +
            " in llama.cpp's graph, expected " +
            batch.size() +
            " of " +
            width
        )
      );
    }
    MemorySegment to = layout.state(slot, index);
    try {
      eachRow(stateName(block), row -> {
        long place = 4L * width * (firstRow + row);
        rows.copyRow(0, row, to, place);
        return TopTokens.areFinite(to, place, width);
      });
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private static String stateName(int block) {
    return block == StateObserver.ENTERS ? "what enters block 0" : "what leaves block " + block;
  }

  /** Work on a row of the batch; gives whether its numbers are finite. */
  @FunctionalInterface
  private interface RowTask {
    boolean run(int row);
  }

  private void eachRow(String what, RowTask task) throws IOException {
    AtomicInteger bad = new AtomicInteger(Integer.MAX_VALUE);
    workers.share(0, batch.size(), ROWS, (from, to) -> {
      for (int row = from; row < to; row++) {
        if (!task.run(row)) {
          bad.accumulateAndGet(row, Math::min);
        }
      }
    });
    if (bad.get() < Integer.MAX_VALUE) {
      int row = firstRow + bad.get();
      int window = question.windows()[row / settings.context()] + 1;
      throw new IOException(
        file +
          ": " +
          what +
          (what.equals("logits") ? " are" : " is") +
          " not finite in window " +
          window +
          ", token " +
          ((row % settings.context()) + 1)
      );
    }
  }

  private void closeContext() {
    if (context != null) {
      batch.close();
      context.close();
      context = null;
    }
  }

  @Override
  public void close() {
    closeContext();
    if (model != null) {
      model.close();
    }
    if (workers != null) {
      workers.close();
    }
  }
}
