package dev.attar.calibration;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.TensorType;
import dev.attar.formats.imatrix.ImportanceMatrixWriter;
import dev.attar.llama.WorkerProcess;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * Measures what enters a model's linear layers while it reads texts: llama.cpp runs it, in a process of its own.
 *
 * <p>Texts become windows of tokens as with llama-imatrix: the documents of all texts follow one another in one stream, a token of the
 * beginning before each where the model wants that, and the stream is cut into windows, of each of which the first token gives way to
 * one of the beginning. A file is a document; one named {@code *.jsonl} holds one in the string {@code text} of the object on each
 * line.
 *
 * <p>Every method throws an {@link IOException} if what it is asked cannot be done, and a {@link dev.attar.llama.NativeFailure} with
 * llama.cpp's last words if its process ended; this is of no use then. For one thread.
 */
public final class Calibrator implements AutoCloseable {

  /** Tokens that are measured unless said otherwise. */
  public static final long DEFAULT_TOKENS = 65_536;

  /** Tokens in a window unless said otherwise. */
  public static final int DEFAULT_CONTEXT = 512;

  // Texts, their tokens and sums of squares; matrices are not in the heap.
  private static final List<String> JVM = List.of("-Xms32m", "-Xmx2g", "--add-modules", "jdk.incubator.vector");

  /** Tokens for each column of the widest input below which statistics are too uncertain to say nothing. */
  private static final int FEW_TOKENS = 4;

  /** The longest window, in tokens. */
  public static final int MOST_CONTEXT = 1 << 20;

  /** The most tokens that can be measured. */
  public static final long MOST_TOKENS = 1 << 30;

  /** The most threads that can compute. */
  public static final int MOST_THREADS = 512;

  /**
   * How to measure.
   *
   * @param texts files in UTF-8, at least one
   * @param tokens how many to measure, at most 2^30: rounded down to whole windows, at least one
   * @param context tokens in a window, 2 to 2^20
   * @param threads how many compute, 1 to 512
   * @param device what sums up Gram matrices and drifts; llama.cpp runs the model with the processor in any case
   * @param output whether to measure the output head too
   * @param writable whether weights will be replaced: the model is loaded into memory of its own then, instead of mapped
   * @param patience how long the worker may show no sign of life
   */
  public record Settings(
    List<Path> texts,
    long tokens,
    int context,
    int threads,
    DeviceChoice device,
    boolean output,
    boolean writable,
    Duration patience
  ) {
    public Settings {
      texts = List.copyOf(texts);
      if (texts.isEmpty()) {
        throw new IllegalArgumentException("no texts");
      }
      require("tokens", tokens, 1, MOST_TOKENS);
      require("context", context, 2, MOST_CONTEXT);
      require("threads", threads, 1, MOST_THREADS);
    }

    private static void require(String name, long value, long least, long most) {
      if (value < least || value > most) {
        throw new IllegalArgumentException(name + " " + value + ", expected " + least + " to " + most);
      }
    }
  }

  private final WorkerProcess process;
  private final Settings settings;
  private final CalibrationListener listener;
  private final Reply.Opened opened;

  private Calibrator(Path model, Settings settings, CalibrationListener listener) throws IOException {
    this.settings = settings;
    this.listener = listener;
    process = WorkerProcess.start(
      CalibrationMain.class,
      List.of(),
      new WorkerProcess.Options(jvm(), settings.patience)
    );
    try {
      process.send(Request.toFrame(new Request.Open(model.toAbsolutePath(), settings)));
      Reply reply = receive();
      while (reply instanceof Reply.Window) {
        reply = receive();
      }
      opened = expect(reply, Reply.Opened.class);
    } catch (IOException | RuntimeException e) {
      process.close();
      throw e;
    }
  }

  /** The worker is to find the same libraries as this process. */
  private static List<String> jvm() {
    List<String> options = new ArrayList<>(JVM);
    for (String property : List.of("attar.openblas", "attar.cuda")) {
      String value = System.getProperty(property);
      if (value != null) {
        options.add("-D" + property + "=" + value);
      }
    }
    return options;
  }

  /**
   * Loads a model, makes windows of the texts, and finds out what enters which layers.
   *
   * @param gguf the model, or the first file of a split one
   * @throws IOException if a text cannot be read, is malformed or shorter than a window, or has only tokens that the model does not
   *     know; or if llama.cpp cannot run the model
   */
  public static Calibrator open(Path gguf, Settings settings, CalibrationListener listener) throws IOException {
    return new Calibrator(gguf, settings, listener);
  }

  /**
   * Checks, before long work, that a text can be read, a plain one to its end.
   *
   * @throws IOException if it is missing, a folder or not UTF-8
   */
  public static void checkText(Path text) throws IOException {
    Documents.check(text);
  }

  /**
   * The beginning of texts as one plain text, for what else is to be measured on them.
   *
   * @param most the most bytes
   * @return UTF-8
   * @throws IOException if a text cannot be read or is malformed
   */
  public static byte[] beginning(List<Path> texts, int most) throws IOException {
    return Documents.beginning(texts, most);
  }

  /** Number of windows. */
  public int windows() {
    return opened.windows();
  }

  /** Number of tokens in all windows. */
  public long tokens() {
    return opened.tokens();
  }

  /**
   * What the user should know, one line, if the tokens are too few for statistics of some columns; empty if they are enough.
   *
   * @param widest the most columns of an input that is measured
   */
  public Optional<String> fewTokens(int widest) {
    long enough = (long) FEW_TOKENS * widest;
    return tokens() >= enough
      ? Optional.empty()
      : Optional.of(tokens() + " tokens are few for rows of " + widest + ", better take at least " + enough);
  }

  /** What enters linear layers, in the order of the computation. */
  public List<LinearInput> inputs() {
    return opened.inputs();
  }

  /**
   * What the user should know, one line each: fewer tokens than asked for, many unknown or few different ones, windows longer than in
   * training.
   */
  public List<String> warnings() {
    return opened.warnings();
  }

  /**
   * Runs all windows and writes the sum of the squares of every input column, in llama.cpp's GGUF form.
   *
   * @param out written whole or not at all; a file that is there is replaced
   */
  public void importance(Path out) throws IOException {
    process.send(Request.toFrame(new Request.CollectImportance()));
    List<ImportanceMatrixWriter.Entry> entries = new ArrayList<>();
    for (LinearInput input : inputs()) {
      Reply.Importance importance = expect(afterWindows(CalibrationListener.Phase.IMPORTANCE), Reply.Importance.class);
      if (
        importance.counts().length != input.experts() ||
        importance.squares().length != (long) input.experts() * input.columns()
      ) {
        throw new IOException("the worker gave " + importance.squares().length + " sums for " + input);
      }
      for (String weight : input.weights()) {
        entries.add(new ImportanceMatrixWriter.Entry(weight, importance.squares(), importance.counts()));
      }
    }
    expect(receive(), Reply.Done.class);
    List<String> texts = settings.texts.stream().map(Path::toString).toList();
    ImportanceMatrixWriter.write(out, entries, texts, windows(), settings.context, true);
  }

  /**
   * Runs all windows once, each as far as the last input needs, and puts Gram matrices into a store. They are held in memory
   * meanwhile: see {@link GramPlan}. A matrix does not depend on which others are collected with it.
   */
  public void grams(List<GramRequest> wanted, GramStore store) throws IOException {
    grams(wanted, List.of(), store);
  }

  /**
   * As {@link #grams(List, GramStore)}, and measures in the same pass how far the running model, in which weights were replaced, is
   * from the model in the file: see {@link Drift}. That one is opened too, mapped, when it is first needed, and runs each window first.
   * The settings must say that the model is writable.
   *
   * @param drifts weights of the inputs whose drift is wanted. None is measured of a weight with several matrices, such as experts:
   *     the store will not find it
   */
  public void grams(List<GramRequest> wanted, List<String> drifts, GramStore store) throws IOException {
    if (!drifts.isEmpty()) {
      requireWritable();
    }
    List<Request.Wanted> numbers = new ArrayList<>();
    for (GramRequest request : wanted) {
      int input = inputs().indexOf(request.input());
      if (input < 0) {
        throw new IllegalArgumentException(request + " is no input of this model");
      }
      numbers.add(new Request.Wanted(input, request.expert()));
    }
    List<String> measured = drifts
      .stream()
      .filter(weight -> inputOf(weight).experts() == 1)
      .toList();
    if (numbers.isEmpty() && measured.isEmpty()) {
      return;
    }
    process.send(
      Request.toFrame(new Request.CollectGrams(store.folder().toAbsolutePath(), store.identity(), numbers, measured))
    );
    expect(afterWindows(CalibrationListener.Phase.GRAMS), Reply.Done.class);
  }

  /**
   * Runs all windows and measures how much each block changes the direction of the residual stream: its block influence (Men et al.,
   * ShortGPT, 2024), 1 less the mean over tokens of the cosine between what enters the block and what leaves it. 0 for a block that
   * changes nothing, at most 2.
   *
   * @return a number for each block, in their order
   * @throws IOException also if llama.cpp's graph does not tell what leaves each block
   */
  public double[] influence() throws IOException {
    process.send(Request.toFrame(new Request.MeasureInfluence()));
    return expect(afterWindows(CalibrationListener.Phase.INFLUENCE), Reply.Influence.class).blocks();
  }

  private LinearInput inputOf(String weight) {
    return inputs()
      .stream()
      .filter(input -> input.weights().contains(weight))
      .findFirst()
      .orElseThrow(() -> new IllegalArgumentException(weight + " is no weight of this model's linear layers"));
  }

  private void requireWritable() {
    if (!settings.writable) {
      throw new IllegalStateException("the model is not writable");
    }
  }

  /**
   * Replaces a weight in the running model by what an encoding of it stands for, rounded to the type that it has there. What is
   * measured from now on is measured with it. The settings must say that the model is writable.
   *
   * @param tensor one of the inputs' weights, in F32, F16 or BF16
   * @param type how the values are encoded
   * @param encoded a file of all rows, and nothing else
   */
  public void replace(String tensor, TensorType type, Path encoded) throws IOException {
    requireWritable();
    process.send(Request.toFrame(new Request.Replace(tensor, type, encoded.toAbsolutePath())));
    expect(receive(), Reply.Done.class);
  }

  /** The next reply that is not about a window. */
  private Reply afterWindows(CalibrationListener.Phase phase) throws IOException {
    Reply reply = receive();
    while (reply instanceof Reply.Window window) {
      listener.window(phase, window.done(), windows());
      reply = receive();
    }
    return reply;
  }

  private Reply receive() throws IOException {
    return Reply.of(process.receive());
  }

  private static <R extends Reply> R expect(Reply reply, Class<R> type) throws IOException {
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
  public void close() {
    process.close();
  }
}
