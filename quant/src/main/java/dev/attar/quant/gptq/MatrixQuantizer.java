package dev.attar.quant.gptq;

import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.calibration.linear.Pruning;
import dev.attar.compute.BlockCoder;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.block.BlockGrid;
import dev.attar.quant.RowSample;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Optional;

/**
 * Quantizes matrices of one type by GPTQ, and removes weights before if that is wanted: the walk makes up for what is removed and for what
 * is rounded alike. To a type that is not quantized, weights are only removed. The importance-weighted encoder, the device's or the
 * processor's, finds the scales, the device walks the columns and refines, and the blocks get the levels that it chose. Rows do not depend
 * on each other and go through in bands.
 */
final class MatrixQuantizer {

  /** Rows of a band of which errors are reported: all of them would cost a third of a plain walk's time. */
  private static final int SAMPLED_ROWS = 128;

  /** Rows that a thread encodes at a time. */
  private static final int ENCODED_ROWS = 16;

  /** The part of the drift that a layer makes up for: measured on small models, where less and more are worse. */
  private static final float PART = 0.5f;

  /** Where encoded rows go, in order. */
  @FunctionalInterface
  interface RowSink {
    void write(byte[] encoded, int length) throws IOException;
  }

  private final Device device;
  private final Workers workers;
  private final Effort effort;
  private final TensorType type;
  private final BlockEncoder encoder;
  private final BlockGrid format; // null where weights are only removed
  private final BlockCoder coder; // null where the processor encodes
  private final Pruning pruning; // null where no weights are removed

  /** Removes no weights. */
  MatrixQuantizer(Device device, Workers workers, Effort effort, TensorType type) {
    this(device, workers, effort, type, Optional.empty());
  }

  /**
   * @param workers encode rows, and turn them into what the device takes and back
   * @param pruning removes weights
   * @throws IllegalArgumentException if the type has no grid, or pruned weights are not exactly 0 in it
   */
  MatrixQuantizer(Device device, Workers workers, Effort effort, TensorType type, Optional<Pruning> pruning) {
    this.device = device;
    this.workers = workers;
    this.effort = effort;
    this.type = type;
    this.pruning = pruning.orElse(null);
    boolean only = pruning.isPresent() && isPlain(type);
    boolean exact = pruning.isPresent() && !only;
    this.encoder = (exact ? BlockEncoders.withExactZero(type) : BlockEncoders.of(type)).orElseThrow(() ->
      new IllegalArgumentException(type + " has no encoder")
    );
    this.format = only
      ? null
      : (exact ? BlockGrid.withExactZero(type) : BlockGrid.of(type)).orElseThrow(() ->
          new IllegalArgumentException(type + " has no grid")
        );
    // The device's encoders know the whole grid of a type only.
    boolean whole = !only && BlockGrid.of(type).map(BlockGrid::hasMinimum).equals(Optional.of(format.hasMinimum()));
    this.coder = whole ? device.coder(type.name()).orElse(null) : null;
  }

  private static boolean isPlain(TensorType type) {
    return type.isFloat() && !type.isQuantized();
  }

  /** Whether matrices of this type can hold pruned weights: as exactly 0. */
  static boolean keepsZeros(TensorType type) {
    return isPlain(type) ? BlockEncoders.of(type).isPresent() : BlockEncoders.withExactZero(type).isPresent();
  }

  /** Whether matrices of this type can be quantized. */
  static boolean supports(TensorType type) {
    return BlockGrid.of(type).isPresent() && BlockEncoders.of(type).isPresent();
  }

  /**
   * Quantizes a matrix.
   *
   * @param input the Gram matrix of what enters it
   * @param bands gives the matrix's bands
   * @param drift how far the outputs are from the base's, times the inputs, on average: {@code (Y_base - Y)' X / n}, of the matrix's
   *     shape. The weights are moved so that they make up for a part of it. {@code null} if it is not known
   * @param importance a weight per column, for the search of the scales
   * @return the error after rounding, and after all, of a sample of the rows
   */
  MatrixError quantize(
    PreparedGram input,
    BandReader bands,
    BandReader.RowSource drift,
    long rows,
    float[] importance,
    RowSink out
  ) throws IOException {
    MatrixError error = MatrixError.ZERO;
    for (long done = 0; done < rows; ) {
      try (BandReader.Band band = bands.next()) {
        if (drift != null) {
          makeUp(input, drift, band);
        }
        byte[] encoded = new byte[Math.multiplyExact(Math.toIntExact(type.rowBytes(input.columns())), band.rows())];
        error = error.plus(
          pruning == null ? quantize(input, band, importance, encoded) : prune(input, band, importance, encoded)
        );
        out.write(encoded, encoded.length);
        done += band.rows();
      }
    }
    return error;
  }

  /**
   * Moves weights W by {@code PART D H^-1}, where D is the drift: with the whole of it, the outputs would come as near to the base's as
   * this layer can bring them on the calibration text. A part generalizes better.
   */
  private void makeUp(PreparedGram input, BandReader.RowSource drift, BandReader.Band band) throws IOException {
    int columns = input.columns();
    try (Scope scope = device.scope()) {
      Matrix solution = BandReader.transposed(device, scope, drift, band.first(), band.rows(), columns);
      input.solve(solution);
      device.add(PART, solution, band.weights());
    }
    if (band.values() != null) {
      try (Scope scope = device.scope()) {
        device.download(transposed(scope, band.weights()), MemorySegment.ofArray(band.values()));
      }
    }
  }

  private GridBand band(int columns, int rows, byte[] encoded) {
    return new GridBand(device, workers, format, columns, rows, encoded);
  }

  private static long[] sample(int rows) {
    return RowSample.of(0, rows, Math.min(rows, SAMPLED_ROWS));
  }

  private MatrixError quantize(PreparedGram input, BandReader.Band band, float[] importance, byte[] encoded) {
    Rows rows = new Rows(band.weights(), band.values());
    return quantize(input, rows, rows, false, importance, encoded);
  }

  /** Removes weights of a band, and quantizes what is left if there is a grid. */
  private MatrixError prune(PreparedGram input, BandReader.Band band, float[] importance, byte[] encoded) {
    try (Scope scope = device.scope()) {
      Matrix left = scope.matrix(input.columns(), band.rows());
      pruning.prune(device, input, band.weights(), left);
      Rows weights = new Rows(band.weights(), band.values());
      Rows pruned = new Rows(left, coder == null ? values(left) : null);
      if (format != null) {
        return quantize(input, weights, pruned, true, importance, encoded);
      }
      encode(pruned.values, input.columns(), band.rows(), null, encoded);
      return pruningError(input, weights, pruned);
    }
  }

  /** A band's weights on the device, and with a row for each of its rows in this process's memory: {@code null} if they are not there. */
  private record Rows(Matrix matrix, float[] values) {}

  /**
   * Quantizes a band.
   *
   * @param weights what the result is to do the work of
   * @param start what the scales are searched for; pruned weights are 0
   */
  private MatrixError quantize(
    PreparedGram input,
    Rows weights,
    Rows start,
    boolean pruned,
    float[] importance,
    byte[] encoded
  ) {
    int columns = input.columns();
    int rows = weights.matrix.columns();
    long[] sample = sample(rows);
    if (coder == null) {
      // On a device that has no encoder of this type, the rows have to be fetched.
      encode(start.values == null ? values(start.matrix) : start.values, columns, rows, importance, encoded);
    }
    double[] rounding = roundingErrors(input, weights, start, importance, encoded, sample);
    double[] left = new double[rows];
    GridBand band = band(columns, rows, encoded);
    try (Scope scope = device.scope()) {
      Matrix levels = scope.matrix(columns, rows);
      QuantizationGrid found = coder == null ? band.grid(scope) : coder.search(scope, start.matrix, importance, levels);
      QuantizationGrid grid = pruned ? found.withPruned(start.matrix) : found;
      Matrix matrix = weights.matrix;
      device.columnWalk(matrix, input.factor(), input.ridge(), input.order(), grid, effort.reach(), levels, left);
      if (effort.passes() > 0) {
        device.refine(matrix, input.gram(), input.ridge(), grid, levels, effort.passes(), effort.scales(), left);
      }
      if (coder == null) {
        band.take(grid, levels);
      } else {
        coder.pack(grid, levels, MemorySegment.ofArray(encoded));
      }
    }
    return MatrixError.sum(
      rounding,
      Arrays.stream(sample)
        .mapToDouble(row -> left[(int) row])
        .toArray()
    );
  }

  /** Encodes rows on the processor. */
  private void encode(float[] values, int columns, int rows, float[] importance, byte[] encoded) {
    int rowBytes = encoded.length / rows;
    workers.share(0, rows, ENCODED_ROWS, (from, to) ->
      encoder.encode(values, from * columns, columns, to - from, importance, 0, encoded, from * rowBytes)
    );
  }

  /** The weights of a matrix on the device, a row for each of its columns. */
  private float[] values(Matrix matrix) {
    float[] values = new float[Math.multiplyExact(matrix.rows(), matrix.columns())];
    try (Scope scope = device.scope()) {
      device.download(transposed(scope, matrix), MemorySegment.ofArray(values));
    }
    return values;
  }

  private Matrix transposed(Scope scope, Matrix matrix) {
    Matrix rows = scope.matrix(matrix.columns(), matrix.rows());
    device.transpose(matrix, rows);
    return rows;
  }

  /** Some rows of a band. */
  private float[] sampled(Rows band, int columns, long[] sample) {
    float[] some = new float[sample.length * columns];
    try (Scope scope = device.scope()) {
      Matrix rows = band.values == null ? transposed(scope, band.matrix) : null;
      for (int i = 0; i < sample.length; i++) {
        int row = (int) sample[i];
        if (rows == null) {
          System.arraycopy(band.values, row * columns, some, i * columns, columns);
        } else {
          MemorySegment to = MemorySegment.ofArray(some).asSlice((long) i * columns * Float.BYTES);
          device.download(rows.rows(row, 1), to);
        }
      }
    }
    return some;
  }

  /** The errors that plain encoding leaves of some rows. */
  private double[] roundingErrors(
    PreparedGram input,
    Rows weights,
    Rows start,
    float[] importance,
    byte[] encoded,
    long[] sample
  ) {
    int columns = input.columns();
    int rowBytes = encoded.length / weights.matrix.columns();
    byte[] someEncoded = new byte[sample.length * rowBytes];
    for (int i = 0; i < sample.length; i++) {
      System.arraycopy(encoded, (int) sample[i] * rowBytes, someEncoded, i * rowBytes, rowBytes);
    }
    double[] errors = new double[sample.length];
    try (Scope scope = device.scope()) {
      Matrix some = BandReader.transposed(device, scope, sampled(weights, columns, sample), sample.length, columns);
      if (coder == null) {
        GridBand band = band(columns, sample.length, someEncoded);
        device.gramErrors(some, input.gram(), band.grid(scope), band.levels(scope), errors);
      } else {
        Matrix of = start == weights
          ? some
          : BandReader.transposed(device, scope, sampled(start, columns, sample), sample.length, columns);
        Matrix levels = scope.matrix(columns, sample.length);
        device.gramErrors(some, input.gram(), coder.search(scope, of, importance, levels), levels, errors);
      }
    }
    return errors;
  }

  /** Of some rows, the error that removing the same weights and nothing more would leave, and that of what is left. */
  private MatrixError pruningError(PreparedGram input, Rows weights, Rows pruned) {
    int columns = input.columns();
    long[] sample = sample(weights.matrix.columns());
    float[] before = sampled(weights, columns, sample);
    float[] after = sampled(pruned, columns, sample);
    float[] removed = new float[before.length];
    float[] changed = new float[before.length];
    for (int i = 0; i < before.length; i++) {
      removed[i] = after[i] == 0 ? before[i] : 0;
      changed[i] = before[i] - after[i];
    }
    return MatrixError.sum(gramErrors(input, removed, sample.length), gramErrors(input, changed, sample.length));
  }

  /** For each row e of a change {@code e H e'}. */
  private double[] gramErrors(PreparedGram input, float[] change, int rows) {
    int columns = input.columns();
    float[] product = new float[change.length];
    try (Scope scope = device.scope()) {
      Matrix e = scope.matrix(rows, columns);
      device.upload(MemorySegment.ofArray(change), e);
      Matrix he = scope.matrix(rows, columns);
      device.gemm(1, e, false, input.gram(), false, 0, he);
      device.download(he, MemorySegment.ofArray(product));
    }
    double[] errors = new double[rows];
    for (int i = 0; i < change.length; i++) {
      errors[i / columns] += (double) change[i] * product[i];
    }
    return errors;
  }
}
