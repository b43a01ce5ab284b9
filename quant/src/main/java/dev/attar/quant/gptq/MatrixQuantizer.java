package dev.attar.quant.gptq;

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

/**
 * Quantizes matrices of one type by GPTQ. The importance-weighted encoder, the device's or the processor's, finds the scales, the device
 * walks the columns and refines, and the blocks get the levels that it chose. Rows do not depend on each other and go through in bands.
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
  private final BlockGrid format;
  private final BlockCoder coder; // null where the processor encodes

  /**
   * @param workers encode rows, and turn them into what the device takes and back
   * @throws IllegalArgumentException if the type has no grid
   */
  MatrixQuantizer(Device device, Workers workers, Effort effort, TensorType type) {
    this.device = device;
    this.workers = workers;
    this.effort = effort;
    this.type = type;
    this.encoder = BlockEncoders.of(type).orElseThrow(() -> new IllegalArgumentException(type + " has no encoder"));
    this.format = BlockGrid.of(type).orElseThrow(() -> new IllegalArgumentException(type + " has no grid"));
    this.coder = device.coder(type.name()).orElse(null);
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
        error = error.plus(quantize(input, band, importance, encoded));
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
        device.download(rowsOf(scope, band), MemorySegment.ofArray(band.values()));
      }
    }
  }

  /** A band's weights with a row for each of its rows. */
  private Matrix rowsOf(Scope scope, BandReader.Band band) {
    Matrix rows = scope.matrix(band.rows(), band.weights().rows());
    device.transpose(band.weights(), rows);
    return rows;
  }

  private GridBand band(int columns, int rows, byte[] encoded) {
    return new GridBand(device, workers, format, columns, rows, encoded);
  }

  private MatrixError quantize(PreparedGram input, BandReader.Band weights, float[] importance, byte[] encoded) {
    int columns = input.columns();
    int rows = weights.rows();
    long[] sample = RowSample.of(0, rows, Math.min(rows, SAMPLED_ROWS));
    if (coder == null) {
      encode(weights, columns, importance, encoded);
    }
    double[] rounding = roundingErrors(input, weights, importance, encoded, sample);
    double[] left = new double[rows];
    GridBand band = band(columns, rows, encoded);
    try (Scope scope = device.scope()) {
      Matrix levels = scope.matrix(columns, rows);
      QuantizationGrid grid = coder == null
        ? band.grid(scope)
        : coder.search(scope, weights.weights(), importance, levels);
      Matrix matrix = weights.weights();
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

  /** Encodes a band on the processor. */
  private void encode(BandReader.Band band, int columns, float[] importance, byte[] encoded) {
    float[] values = band.values();
    if (values == null) {
      // On a device that has no encoder of this type.
      values = new float[Math.multiplyExact(band.rows(), columns)];
      try (Scope scope = device.scope()) {
        device.download(rowsOf(scope, band), MemorySegment.ofArray(values));
      }
    }
    float[] rows = values;
    int rowBytes = encoded.length / band.rows();
    workers.share(0, band.rows(), ENCODED_ROWS, (from, to) ->
      encoder.encode(rows, from * columns, columns, to - from, importance, 0, encoded, from * rowBytes)
    );
  }

  /** Some rows of a band. */
  private float[] sampled(BandReader.Band band, int columns, long[] sample) {
    float[] some = new float[sample.length * columns];
    try (Scope scope = device.scope()) {
      Matrix rows = band.values() == null ? rowsOf(scope, band) : null;
      for (int i = 0; i < sample.length; i++) {
        int row = (int) sample[i];
        if (rows == null) {
          System.arraycopy(band.values(), row * columns, some, i * columns, columns);
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
    BandReader.Band weights,
    float[] importance,
    byte[] encoded,
    long[] sample
  ) {
    int columns = input.columns();
    int rowBytes = encoded.length / weights.rows();
    float[] someValues = sampled(weights, columns, sample);
    byte[] someEncoded = new byte[sample.length * rowBytes];
    for (int i = 0; i < sample.length; i++) {
      System.arraycopy(encoded, (int) sample[i] * rowBytes, someEncoded, i * rowBytes, rowBytes);
    }
    double[] errors = new double[sample.length];
    try (Scope scope = device.scope()) {
      Matrix some = BandReader.transposed(device, scope, someValues, sample.length, columns);
      if (coder == null) {
        GridBand band = band(columns, sample.length, someEncoded);
        device.gramErrors(some, input.gram(), band.grid(scope), band.levels(scope), errors);
      } else {
        Matrix levels = scope.matrix(columns, sample.length);
        device.gramErrors(some, input.gram(), coder.search(scope, some, importance, levels), levels, errors);
      }
    }
    return errors;
  }
}
