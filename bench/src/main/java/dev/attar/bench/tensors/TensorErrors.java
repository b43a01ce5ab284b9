package dev.attar.bench.tensors;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.CompletionService;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.function.LongConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Measures how far each tensor of a model is from the base's. Every thread takes the next band of rows, whichever tensor it belongs to,
 * and decodes both, so memory is a band per thread whatever the size of the models. The sums of the bands are added in their order:
 * the result does not depend on the number of threads.
 */
public final class TensorErrors {

  /** Values in a band: half a MiB of each model. A longer row is a band of its own. */
  private static final int BAND_VALUES = 1 << 17;

  /** A longer row, which no model has, is not read into memory. */
  private static final int MAX_ROW_LENGTH = 1 << 20;

  private static final Pattern IN_LAYER = Pattern.compile("((?:.*\\.)?)blk\\.(\\d{1,9})\\.(.+)", Pattern.DOTALL);
  private static final String WEIGHT = ".weight";

  /** A tensor in both models, and the sums of its bands. */
  private static final class Pair {

    private final Tensor base;
    private final Tensor variant;
    private final boolean weighted;
    private final long planeRows;
    private final int rowsPerBand;
    private final long bandsPerPlane;
    private final double[] errors;
    private final double[] norms;

    Pair(Tensor base, Tensor variant, boolean weighted) {
      TensorInfo info = base.info();
      this.base = base;
      this.variant = variant;
      this.weighted = weighted;
      // Bands do not cross planes that have their own importance.
      planeRows = weighted ? info.dimension(1) : info.rows();
      rowsPerBand = (int) Math.max(1, BAND_VALUES / Math.max(1, info.rowLength()));
      bandsPerPlane = Math.ceilDiv(planeRows, rowsPerBand);
      boolean empty = info.elements() == 0;
      errors = new double[empty ? 0 : Math.toIntExact(bandsPerPlane * (info.rows() / planeRows))];
      norms = new double[errors.length];
    }

    Band band(int index, float[] importance) {
      long plane = index / bandsPerPlane;
      long first = (index % bandsPerPlane) * rowsPerBand;
      int rows = (int) Math.min(rowsPerBand, planeRows - first);
      int firstWeight = importance == null ? 0 : Math.toIntExact(plane * base.info().rowLength());
      return new Band(this, index, plane * planeRows + first, rows, importance, firstWeight);
    }

    TensorError result() {
      TensorInfo info = variant.info();
      Matcher inLayer = IN_LAYER.matcher(info.name());
      boolean matches = inLayer.matches();
      OptionalInt layer = matches ? OptionalInt.of(Integer.parseInt(inLayer.group(2))) : OptionalInt.empty();
      String kind = matches ? inLayer.group(1) + inLayer.group(3) : info.name();
      if (kind.endsWith(WEIGHT)) {
        kind = kind.substring(0, kind.length() - WEIGHT.length());
      }
      return new TensorError(info.name(), layer, kind, info.type().name(), info.bytes(), relativeError(), weighted);
    }

    private double relativeError() {
      double error = 0;
      double norm = 0;
      for (int i = 0; i < errors.length; i++) {
        error += errors[i];
        norm += norms[i];
      }
      if (error == 0) {
        return 0;
      }
      // In double precision no finite value overflows, so this is NaN only if a value is, or if infinite ones meet.
      double relative = Math.sqrt(error / norm);
      return Double.isNaN(relative) ? Double.POSITIVE_INFINITY : relative;
    }
  }

  /**
   * Rows of one tensor.
   *
   * @param index among the tensor's bands
   * @param importance weights of the columns, plane after plane; {@code null} if all are 1
   * @param firstWeight where in them those of this band begin
   */
  private record Band(Pair pair, int index, long firstRow, int rows, float[] importance, int firstWeight) {}

  private final Model base;
  private final Model variant;
  private final Optional<ImportanceMatrix> importance;
  private final LongConsumer progress;
  private final List<Pair> pairs = new ArrayList<>();

  private int nextPair;
  private int nextBand;
  private float[] weights;
  private boolean stopped;
  private long bytesDone;

  private TensorErrors(Model base, Model variant, Optional<ImportanceMatrix> importance, LongConsumer progress) {
    this.base = base;
    this.variant = variant;
    this.importance = importance;
    this.progress = progress;
    Map<String, Tensor> ofVariant = new HashMap<>();
    for (Tensor tensor : variant.tensors()) {
      ofVariant.put(tensor.info().name(), tensor);
      bytesDone += tensor.info().bytes();
    }
    for (Tensor tensor : base.tensors()) {
      Tensor other = ofVariant.get(tensor.info().name());
      if (other != null && comparable(tensor.info(), other.info())) {
        pairs.add(new Pair(tensor, other, hasWeights(tensor.info())));
        bytesDone -= other.info().bytes();
      }
    }
  }

  private static boolean comparable(TensorInfo a, TensorInfo b) {
    boolean sameShape = true;
    for (int i = 0; i < 4; i++) {
      sameShape &= a.dimension(i) == b.dimension(i);
    }
    return sameShape && a.type().isFloat() && b.type().isFloat() && a.rowLength() <= MAX_ROW_LENGTH;
  }

  /** Whether the importance matrix has a weight for each column of each expert. */
  private boolean hasWeights(TensorInfo info) {
    OptionalInt columns = importance.map(m -> m.columns(info.name())).orElse(OptionalInt.empty());
    return (
      columns.isPresent() &&
      columns.getAsInt() == Math.multiplyExact(info.rowLength(), info.dimension(2)) &&
      info.dimension(3) == 1
    );
  }

  /**
   * Compares the tensors that both models have. Left out are tensors that one of them lacks, that differ in shape (as in a pruned
   * model), that hold integers, or that have rows of more than 2^20 values. An importance matrix does not count for a tensor whose
   * shape it does not fit.
   *
   * @param base the model to compare with, GGUF or Hugging Face
   * @param variant the model that is compared
   * @param importance importance of the columns of the tensors
   * @param threads how many threads work, at least 1
   * @param progressBytes told how many bytes of the variant's tensors are done, those left out included: rising up to the bytes of all
   *     of them; called by several threads, one at a time
   * @return the errors, in the order of the base's tensors
   * @throws IOException if a file cannot be read
   * @throws InterruptedException if the thread is interrupted; no thread reads the models any more then
   */
  public static List<TensorError> compare(
    Model base,
    Model variant,
    Optional<ImportanceMatrix> importance,
    int threads,
    LongConsumer progressBytes
  ) throws IOException, InterruptedException {
    TensorErrors errors = new TensorErrors(base, variant, importance, progressBytes);
    errors.run(threads);
    return errors.pairs.stream().map(Pair::result).toList();
  }

  private void run(int threads) throws IOException, InterruptedException {
    progress.accept(bytesDone);
    try (
      ExecutorService pool = Executors.newFixedThreadPool(
        threads,
        Thread.ofPlatform().name("attar-tensors-", 0).daemon().factory()
      )
    ) {
      CompletionService<Void> workers = new ExecutorCompletionService<>(pool);
      try {
        for (int i = 0; i < threads; i++) {
          workers.submit(new Worker()::work);
        }
        for (int i = 0; i < threads; i++) {
          workers.take().get();
        }
      } finally {
        stop();
      }
    } catch (ExecutionException e) {
      switch (e.getCause()) {
        case IOException cause -> throw cause;
        case RuntimeException cause -> throw cause;
        case Error cause -> throw cause;
        default -> throw new AssertionError(e);
      }
    }
  }

  /** The next band to work on; {@code null} if there is none. */
  private synchronized Band next() {
    while (!stopped && nextPair < pairs.size()) {
      Pair pair = pairs.get(nextPair);
      if (nextBand == pair.errors.length) {
        nextPair++;
        nextBand = 0;
        continue;
      }
      if (nextBand == 0) {
        weights = pair.weighted ? importance.orElseThrow().weights(pair.base.info().name()).orElseThrow() : null;
      }
      return pair.band(nextBand++, weights);
    }
    return null;
  }

  private synchronized void stop() {
    stopped = true;
  }

  private synchronized void done(Band band) {
    bytesDone += band.rows * band.pair.variant.info().rowBytes();
    if (!stopped) {
      progress.accept(bytesDone);
    }
  }

  /** One thread's buffers, which grow to the largest band and are used again. */
  private final class Worker {

    private float[] baseValues = {};
    private float[] variantValues = {};
    private double[] errors = {};
    private double[] norms = {};

    Void work() throws IOException {
      for (Band band = next(); band != null; band = next()) {
        compare(band);
        done(band);
      }
      return null;
    }

    private void compare(Band band) throws IOException {
      int length = (int) band.pair.base.info().rowLength();
      int values = band.rows * length;
      if (baseValues.length < values) {
        baseValues = new float[values];
        variantValues = new float[values];
      }
      if (errors.length < length) {
        errors = new double[length];
        norms = new double[length];
      }
      decode(base, band.pair.base, band, baseValues);
      decode(variant, band.pair.variant, band, variantValues);
      Arrays.fill(errors, 0, length, 0);
      Arrays.fill(norms, 0, length, 0);
      for (int row = 0; row < band.rows; row++) {
        addSquares(baseValues, variantValues, row * length, length, errors, norms);
      }
      double error = 0;
      double norm = 0;
      for (int i = 0; i < length; i++) {
        double weight = band.importance == null ? 1 : band.importance[band.firstWeight + i];
        error += weight * errors[i];
        norm += weight * norms[i];
      }
      band.pair.errors[band.index] = error;
      band.pair.norms[band.index] = norm;
    }

    private static void decode(Model model, Tensor tensor, Band band, float[] out) throws IOException {
      try {
        tensor.decodeRows(band.firstRow, band.rows, out, 0);
      } catch (InternalError e) {
        // What a mapped file gives when it has become shorter than it was.
        throw new IOException(
          model.source() + ": tensor " + tensor.info().name() + ": cannot be read, the file has changed",
          e
        );
      }
    }
  }

  /**
   * Adds a row to the sums of each column. The columns do not depend on one another, so the compiler turns the loop into vectors, which
   * it does not for a sum over the row, and does more values a second than decoding yields.
   */
  private static void addSquares(float[] base, float[] variant, int at, int length, double[] errors, double[] norms) {
    for (int i = 0; i < length; i++) {
      double b = base[at + i];
      double difference = b - variant[at + i];
      errors[i] += difference * difference;
      norms[i] += b * b;
    }
  }
}
