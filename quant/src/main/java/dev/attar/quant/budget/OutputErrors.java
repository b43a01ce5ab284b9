package dev.attar.quant.budget;

import dev.attar.compute.Device;
import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.RowValidator;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.Encoders;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.RowSample;
import dev.attar.quant.TypeCandidates;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Measures what types do to the outputs of tensors: with W the weights, E what encoding changes in them and H the Gram matrix of the
 * input, a token's output changes by tr(E H E') in the mean of squares.
 *
 * <p>All types of a tensor are measured together, band of rows after band, so that weights and Gram matrix are read once: the errors of
 * all types, and the weights themselves, are stacked to one matrix for the device. Of a large tensor a sample of rows stands for all.
 * The result does not depend on the number of threads.
 */
public final class OutputErrors {

  /**
   * How measuring goes about it.
   *
   * @param rows how many rows of a tensor are measured at most; rows have similar errors, so the mean of a thousand is within some
   *     percent of that of all
   * @param threads how many threads encode
   */
  public record Settings(int rows, int threads) {
    /** The rows of a tensor that are measured unless said otherwise. */
    public static final int DEFAULT_ROWS = 1024;

    public Settings {
      if (rows < 1 || threads < 1) {
        throw new IllegalArgumentException(rows + " rows, " + threads + " threads, expected at least 1");
      }
    }
  }

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Weights in a band: 1 MiB in single precision, as often as there are types. A longer row is a band of its own. */
  private static final int BAND_WEIGHTS = 1 << 18;

  /** The fewest rows that stand for an expert. */
  private static final int EXPERT_ROWS = 32;

  private final Path source;
  private final GramSource grams;
  private final Device device;
  private final Settings settings;
  private final ExecutorService threads;

  private OutputErrors(Path source, GramSource grams, Device device, Settings settings, ExecutorService threads) {
    this.source = source;
    this.grams = grams;
    this.device = device;
    this.settings = settings;
    this.threads = threads;
  }

  /**
   * Measures tensors.
   *
   * @param model the model
   * @param tensors which, and the types of each
   * @param importance weighs the columns when tensors are encoded, and in the error where there is no Gram matrix; {@code null} for none
   * @param grams the Gram matrices that there are
   * @param device where products are computed
   * @param settings how
   * @param progress told of the weights done
   * @return in the order of the tensors
   * @throws QuantizationException if a Gram matrix does not fit its tensor or is not finite
   * @throws FormatException if a tensor holds NaN or infinity
   * @throws IOException if something cannot be read, or a type needs llama.cpp's library and there is none
   * @throws InterruptedException if the calling thread is interrupted
   */
  public static List<TensorErrors> measure(
    Model model,
    List<TypeCandidates> tensors,
    ImportanceMatrix importance,
    GramSource grams,
    Device device,
    Settings settings,
    QuantizationRun.Progress progress
  ) throws IOException, InterruptedException {
    Map<String, Tensor> byName = new HashMap<>();
    model.tensors().forEach(t -> byName.put(t.info().name(), t));
    Set<TensorType> types = EnumSet.noneOf(TensorType.class);
    tensors.forEach(t -> types.addAll(changes(t)));
    Encoders encoders = new Encoders(types);
    long total = tensors
      .stream()
      .mapToLong(t -> t.tensor().elements())
      .sum();
    long done = 0;
    List<TensorErrors> all = new ArrayList<>();
    try (
      ExecutorService threads = Executors.newFixedThreadPool(
        settings.threads(),
        Thread.ofPlatform().name("attar-errors-", 0).daemon().factory()
      )
    ) {
      OutputErrors errors = new OutputErrors(model.source(), grams, device, settings, threads);
      for (TypeCandidates candidates : tensors) {
        TensorInfo info = candidates.tensor();
        progress.report(done, total, info.name());
        float[] weights = importance == null ? null : weights(importance, info);
        List<BlockEncoder> tried = changes(candidates).stream().map(encoders::of).toList();
        all.add(errors.measure(byName.get(info.name()), tried, weights));
        done += info.elements();
      }
    }
    progress.report(total, total, "");
    return all;
  }

  private static List<TensorType> changes(TypeCandidates candidates) {
    return candidates
      .types()
      .stream()
      .filter(type -> type != candidates.tensor().type())
      .toList();
  }

  /** The importance of a tensor's columns, plane after plane; {@code null} if there is none that fits. */
  private static float[] weights(ImportanceMatrix importance, TensorInfo info) {
    float[] weights = importance.weights(info.name()).orElse(null);
    return weights != null && weights.length == info.rowLength() * planes(info) ? weights : null;
  }

  /** The number of experts; 1 for a plain matrix. */
  private static int planes(TensorInfo info) {
    return Math.toIntExact(info.rows() / info.dimension(1));
  }

  private TensorErrors measure(Tensor tensor, List<BlockEncoder> encoders, float[] importance)
    throws IOException, InterruptedException {
    TensorInfo info = tensor.info();
    int columns = Math.toIntExact(info.rowLength());
    int planes = planes(info);
    long planeRows = info.dimension(1);
    int sampled = (int) Math.min(planeRows, Math.max(settings.rows() / planes, Math.min(settings.rows(), EXPERT_ROWS)));
    double[] shares = shares(info);
    // The error of each type, and last what is compared with: the output without error.
    double[] sums = new double[encoders.size() + 1];
    int bandRows = Math.clamp(BAND_WEIGHTS / columns, 1, sampled);
    try (Arena arena = Arena.ofShared()) {
      Stack stack = new Stack(tensor, encoders, bandRows, arena);
      for (int plane = 0; plane < planes; plane++) {
        long[] rows = RowSample.of(plane * planeRows, planeRows, sampled);
        float[] weights = importance == null
          ? null
          : Arrays.copyOfRange(importance, plane * columns, (plane + 1) * columns);
        if (shares == null) {
          stack.add(rows, weights, columnNorm(columns, weights), 1.0 / ((double) planes * sampled), sums);
        } else {
          try (
            GramSource.Gram gram = grams.gram(info.name(), plane).orElseThrow();
            GramNorm norm = new GramNorm(device, gram, stack.rows())
          ) {
            stack.add(rows, weights, norm, (shares[plane] * planeRows) / sampled, sums);
          }
        }
      }
    }
    return result(info, shares != null, encoders, sums);
  }

  private static TensorErrors result(TensorInfo info, boolean observed, List<BlockEncoder> encoders, double[] sums)
    throws QuantizationException {
    double energy = sums[encoders.size()];
    if (!(energy >= 0 && energy < Double.POSITIVE_INFINITY)) {
      String norm = observed ? "the Gram matrix of its input" : "its importance";
      throw new QuantizationException(info.name() + ": " + norm + " gives its output an energy of " + energy);
    }
    Map<TensorType, Double> relative = new EnumMap<>(TensorType.class);
    relative.put(info.type(), 0.0);
    for (int i = 0; i < encoders.size(); i++) {
      relative.put(encoders.get(i).type(), energy == 0 ? 0 : Math.max(0, sums[i]) / energy);
    }
    return new TensorErrors(info, observed, energy, relative);
  }

  /**
   * How often each expert is asked, as a part of all; 1 for a plain matrix. {@code null} if a Gram matrix is missing.
   *
   * @throws QuantizationException if one does not fit the tensor
   */
  private double[] shares(TensorInfo info) throws IOException {
    double[] tokens = new double[planes(info)];
    for (int plane = 0; plane < tokens.length; plane++) {
      Optional<GramSource.Gram> found = grams.gram(info.name(), plane);
      if (found.isEmpty()) {
        return null;
      }
      try (GramSource.Gram gram = found.get()) {
        tokens[plane] = gram.tokens();
        long expected = ((info.rowLength() * (info.rowLength() + 1)) / 2) * Float.BYTES;
        if (gram.columns() != info.rowLength() || gram.upper().byteSize() != expected) {
          throw new QuantizationException(
            info.name() +
              ": a Gram matrix of " +
              gram.columns() +
              " columns in " +
              gram.upper().byteSize() +
              " bytes, expected " +
              info.rowLength() +
              " in " +
              expected
          );
        }
      }
    }
    double total = Arrays.stream(tokens).sum();
    return Arrays.stream(tokens)
      .map(n -> total == 0 ? 1.0 / tokens.length : n / total)
      .toArray();
  }

  private static RowNorm columnNorm(int columns, float[] weights) {
    return (rows, count, out) -> {
      for (int row = 0; row < count; row++) {
        double sum = 0;
        for (int i = 0; i < columns; i++) {
          double x = rows.getAtIndex(FLOAT, (long) row * columns + i);
          sum += weights == null ? x * x : weights[i] * x * x;
        }
        out[row] = sum;
      }
    };
  }

  /** A band of rows: what each type changes in them, type after type, and last the rows themselves. */
  private final class Stack {

    private final Tensor tensor;
    private final List<BlockEncoder> encoders;
    private final int columns;
    private final int bandRows;
    private final float[] values;
    private final MemorySegment stack;
    private final double[] squares;

    Stack(Tensor tensor, List<BlockEncoder> encoders, int bandRows, Arena arena) {
      this.tensor = tensor;
      this.encoders = encoders;
      this.bandRows = bandRows;
      columns = (int) tensor.info().rowLength();
      values = new float[Math.multiplyExact(bandRows, columns)];
      stack = arena.allocate((long) rows() * columns * Float.BYTES, Float.BYTES);
      squares = new double[rows()];
    }

    /** Number of rows, of all types together. */
    int rows() {
      return bandRows * (encoders.size() + 1);
    }

    /**
     * Adds up what a norm says of some rows.
     *
     * @param rows the rows in the tensor, ascending
     * @param importance of the columns, or {@code null}
     * @param norm the norm
     * @param factor what its squares are multiplied with
     * @param sums a sum for each type, and one for the rows themselves
     */
    void add(long[] rows, float[] importance, RowNorm norm, double factor, double[] sums)
      throws IOException, InterruptedException {
      for (int first = 0; first < rows.length; first += bandRows) {
        int count = Math.min(bandRows, rows.length - first);
        read(Arrays.copyOfRange(rows, first, first + count));
        List<Callable<Boolean>> tasks = new ArrayList<>();
        for (int part = 0; part < encoders.size(); part++) {
          int index = part;
          tasks.add(() -> putError(index, count, importance));
        }
        MemorySegment.copy(values, 0, stack, FLOAT, offset(encoders.size(), count), count * columns);
        List<Boolean> finite = all(tasks);
        norm.squares(stack, count * (encoders.size() + 1), squares);
        for (int part = 0; part <= encoders.size(); part++) {
          boolean held = part == encoders.size() || finite.get(part);
          double sum = Arrays.stream(squares, part * count, (part + 1) * count).sum();
          sums[part] += held ? factor * sum : Double.POSITIVE_INFINITY;
        }
      }
    }

    private long offset(int part, int count) {
      return (long) part * count * columns * Float.BYTES;
    }

    private void read(long[] rows) throws IOException {
      for (int i = 0, n; i < rows.length; i += n) {
        n = 1;
        while (i + n < rows.length && rows[i + n] == rows[i] + n) {
          n++;
        }
        tensor.decodeRows(rows[i], n, values, i * columns);
      }
      int at = RowValidator.firstNonFinite(values, 0, rows.length * columns);
      if (at >= 0) {
        String place = "tensor " + tensor.info().name() + ", row " + rows[at / columns] + ", column " + (at % columns);
        throw new FormatException(source, place, Float.toString(values[at]), "finite values");
      }
    }

    /** Puts what a type changes into the stack; false, and zeros, if the type cannot hold a value. */
    private boolean putError(int part, int count, float[] importance) {
      BlockEncoder encoder = encoders.get(part);
      int n = count * columns;
      byte[] encoded = new byte[Math.toIntExact(encoder.type().rowBytes(columns) * count)];
      float[] error = new float[n];
      boolean finite;
      try {
        encoder.encode(values, 0, columns, count, importance, 0, encoded, 0);
        BlockDecoders.of(encoder.type()).decode(encoded, 0, error, 0, n);
        finite = RowValidator.firstNonFinite(error, 0, n) < 0;
      } catch (IllegalArgumentException _) {
        // What an encoder says of a value that is too large.
        finite = false;
      }
      for (int i = 0; i < n; i++) {
        error[i] = finite ? values[i] - error[i] : 0;
      }
      MemorySegment.copy(error, 0, stack, FLOAT, offset(part, count), n);
      return finite;
    }

    private List<Boolean> all(List<Callable<Boolean>> tasks) throws InterruptedException {
      List<Boolean> results = new ArrayList<>();
      try {
        for (Future<Boolean> task : threads.invokeAll(tasks)) {
          results.add(task.get());
        }
      } catch (ExecutionException e) {
        switch (e.getCause()) {
          case RuntimeException cause -> throw cause;
          case Error cause -> throw cause;
          case null, default -> throw new AssertionError(e);
        }
      }
      return results;
    }
  }
}
