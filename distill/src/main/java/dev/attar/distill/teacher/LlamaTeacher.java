package dev.attar.distill.teacher;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.attar.calibration.Calibrator;
import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.formats.OutputFiles;
import dev.attar.llama.SharedFile;
import dev.attar.llama.WorkerProcess;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Queue;

/**
 * A teacher that llama.cpp runs, in a process of its own. Texts become windows as {@link Calibrator} makes them.
 *
 * <p>Answers come through memory that both processes map: two slots, so that the next question is computed while an answer is in use. A
 * third one, put when an answer is in use and another is computed, waits until that answer is given up.
 *
 * <p>Every method throws a {@link dev.attar.llama.NativeFailure} with llama.cpp's last words if the worker ended; this is of no use then.
 */
public final class LlamaTeacher implements Teacher {

  // Texts and their tokens; answers are not in the heap.
  private static final List<String> JVM = List.of("-Xms32m", "-Xmx2g", "--add-modules", "jdk.incubator.vector");

  private static final int SLOTS = 2;

  /**
   * What to read, and how to run.
   *
   * @param training texts to train on, files in UTF-8, at least one
   * @param validation texts to validate with; if there are none, the last windows of those to train on are held out for it
   * @param tokens the most of the training texts, those that are held out among them, at most 2^30; empty for all
   * @param context tokens in a window, 2 to 2^20
   * @param validationWindows how many windows to validate with, at least 1: fewer if the validation texts have no more
   * @param vocabulary how many of the model's tokens distributions are over, from number 0 on; 0 for all
   * @param threads how many compute, 1 to 512
   * @param gpuLayers layers to put on a GPU; empty for llama.cpp's choice, which is all of them where there is a GPU
   * @param patience how long the worker may show no sign of life
   */
  public record Settings(
    List<Path> training,
    List<Path> validation,
    OptionalLong tokens,
    int context,
    int validationWindows,
    int vocabulary,
    int threads,
    OptionalInt gpuLayers,
    Duration patience
  ) {
    public Settings {
      training = List.copyOf(training);
      validation = List.copyOf(validation);
      if (training.isEmpty()) {
        throw new IllegalArgumentException("no texts");
      }
      if (tokens.isPresent()) {
        require("tokens", tokens.getAsLong(), 1, Calibrator.MOST_TOKENS);
      }
      require("context", context, 2, Calibrator.MOST_CONTEXT);
      require("windows to validate with", validationWindows, 1, Calibrator.MOST_TOKENS / context);
      require("vocabulary", vocabulary, 0, Integer.MAX_VALUE);
      require("threads", threads, 1, Calibrator.MOST_THREADS);
    }

    private static void require(String name, long value, long least, long most) {
      if (value < least || value > most) {
        throw new IllegalArgumentException(name + " " + value + ", expected " + least + " to " + most);
      }
    }
  }

  /** Memory for answers that the worker maps too; grows as questions do. */
  private static final class Slot {

    private Arena arena;
    private MemorySegment memory;
    private Path file; // null if its name is gone

    boolean holds(long bytes) {
      return memory != null && memory.byteSize() >= bytes;
    }

    /** Another file, of this many bytes. */
    Path replace(long bytes) throws IOException {
      close();
      file = SharedFile.create("answers", bytes);
      OutputFiles.addTemporary(file);
      arena = Arena.ofShared();
      memory = SharedFile.map(file, bytes, false, arena);
      return file;
    }

    /** The worker has mapped it. */
    void mapped() {
      if (file != null) {
        SharedFile.discard(file);
      }
    }

    void close() throws IOException {
      if (arena != null) {
        arena.close();
        arena = null;
        memory = null;
      }
      if (file != null) {
        Files.deleteIfExists(file);
        OutputFiles.removeTemporary(file);
        file = null;
      }
    }
  }

  private final WorkerProcess process;
  private final Settings settings;
  private final Reply.Opened opened;
  private final Arena arena = Arena.ofShared();
  private final Path tokensFile;
  private final MemorySegment tokens;
  private final Slot[] slots = { new Slot(), new Slot() };
  private final Queue<Question> asked = new ArrayDeque<>(); // without an answer, the oldest first
  private int sent; // of those, how many the worker has
  private long asks; // how many questions were sent so far
  private long answers; // how many were answered so far

  private LlamaTeacher(Path model, Settings settings) throws IOException {
    this.settings = settings;
    tokensFile = Files.createTempFile("attar-tokens-", ".bin");
    OutputFiles.addTemporary(tokensFile);
    process = WorkerProcess.start(TeacherMain.class, List.of(), new WorkerProcess.Options(JVM, settings.patience));
    try {
      process.send(Request.toFrame(new Request.Open(model.toAbsolutePath(), settings, tokensFile)));
      opened = receive(Reply.Opened.class);
      long bytes = 4L * settings.context * (opened.training() + opened.validation());
      tokens = SharedFile.map(tokensFile, bytes, false, arena);
      SharedFile.discard(tokensFile);
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  /**
   * Loads a model and reads the texts.
   *
   * @param gguf the model, or the first file of a split one
   * @throws IOException if a text cannot be read or is malformed, if there are not enough windows, if a token of the text is not among
   *     those that distributions are over, or if llama.cpp cannot run the model
   */
  public static LlamaTeacher open(Path gguf, Settings settings) throws IOException {
    return new LlamaTeacher(gguf, settings);
  }

  @Override
  public int training() {
    return opened.training();
  }

  @Override
  public int validation() {
    return opened.validation();
  }

  @Override
  public int context() {
    return settings.context;
  }

  @Override
  public int vocabulary() {
    return opened.vocabulary();
  }

  /** The model's blocks. */
  public int blocks() {
    return opened.blocks();
  }

  /** Numbers of a token in its residual stream. */
  public int embedding() {
    return opened.embedding();
  }

  /** What the user should know of the texts, one line each. */
  public List<String> warnings() {
    return opened.warnings();
  }

  @Override
  public int[] tokens(int window) {
    Objects.checkIndex(window, training() + validation());
    return tokens.asSlice(4L * settings.context * window, 4L * settings.context).toArray(JAVA_INT);
  }

  @Override
  public void ask(Question question) throws IOException {
    if (asked.size() == SLOTS) {
      throw new IllegalStateException("two questions have no answer yet");
    }
    check(question);
    asked.add(question);
    // The last answer is in use as long as no other one was taken.
    if (answers == 0 || sent == 0) {
      send(question);
    }
  }

  private void check(Question question) {
    for (int window : question.windows()) {
      Objects.checkIndex(window, training() + validation());
    }
    int before = -2;
    for (int block : question.states()) {
      if (block <= before || block >= blocks()) {
        throw new IllegalArgumentException("state " + block + ", expected ascending ones below " + blocks());
      }
      before = block;
    }
    if (question.distribution() instanceof Distribution.Top(int k, float temperature)) {
      if (k < 1 || k >= vocabulary()) {
        throw new IllegalArgumentException("top " + k + " of " + vocabulary() + " tokens, expected fewer, at least 1");
      }
      if (!(temperature > 0 && temperature <= Float.MAX_VALUE)) {
        throw new IllegalArgumentException("temperature " + temperature + ", expected more than 0");
      }
    }
  }

  private AnswerLayout layout(Question question) {
    return AnswerLayout.of(question, context(), vocabulary(), embedding());
  }

  private void send(Question question) throws IOException {
    int number = (int) (asks % SLOTS);
    Slot slot = slots[number];
    long bytes = layout(question).bytes();
    Path file = slot.holds(bytes) ? null : slot.replace(Math.max(1, bytes));
    process.send(Request.toFrame(new Request.Ask(number, Optional.ofNullable(file), slot.memory.byteSize(), question)));
    asks++;
    sent++;
  }

  @Override
  public Answer answer() throws IOException {
    if (asked.isEmpty()) {
      throw new IllegalStateException("nothing was asked");
    }
    int waiting = 0;
    for (Question question : asked) {
      if (waiting++ >= sent) {
        send(question); // into the slot of the answer that is given up
      }
    }
    receive(Reply.Answered.class);
    Slot slot = slots[(int) (answers % SLOTS)];
    answers++;
    sent--;
    slot.mapped();
    return layout(asked.remove()).answer(slot.memory);
  }

  private <R extends Reply> R receive(Class<R> type) throws IOException {
    Reply reply = Reply.of(process.receive());
    if (!type.isInstance(reply)) {
      throw new IOException("the worker gave an answer to another question: " + reply);
    }
    return type.cast(reply);
  }

  /** The operating system's number of the worker. */
  long pid() {
    return process.pid();
  }

  /** Ends the worker. */
  @Override
  public void close() throws IOException {
    process.close();
    for (Slot slot : slots) {
      slot.close();
    }
    if (arena.scope().isAlive()) {
      arena.close();
    }
    Files.deleteIfExists(tokensFile);
    OutputFiles.removeTemporary(tokensFile);
  }
}
