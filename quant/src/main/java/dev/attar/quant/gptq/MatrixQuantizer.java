package dev.attar.quant.gptq;

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
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * Quantizes matrices of one type by GPTQ. The importance-weighted encoder finds the scales, the device walks the columns and refines,
 * and the blocks get the levels that it chose. Rows do not depend on each other and go through in bands.
 */
final class MatrixQuantizer {

  /** Values in a band: 32 MiB in single precision, of which there are about six. */
  private static final int BAND_VALUES = 1 << 23;

  /** Bands hold multiples of this many rows, so that they do not show in the result. */
  private static final int ROWS = 256;

  /** Rows of a band of which errors are reported: all of them would cost a third of a plain walk's time. */
  private static final int SAMPLED_ROWS = 128;

  /** Rows that a thread encodes at a time. */
  private static final int ENCODED_ROWS = 16;

  /** The part of the drift that a layer makes up for: measured on small models, where less and more are worse. */
  private static final float PART = 0.5f;

  /** Rows of a matrix. */
  @FunctionalInterface
  interface RowSource {
    /** Writes {@code rows} rows from {@code first} on to the start of the array. */
    void read(long first, int rows, float[] to) throws IOException;
  }

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
  private final int bandValues;

  /**
   * @param workers encode rows, and turn them into what the device takes and back
   * @throws IllegalArgumentException if the type has no grid
   */
  MatrixQuantizer(Device device, Workers workers, Effort effort, TensorType type) {
    this(device, workers, effort, type, BAND_VALUES);
  }

  /** With bands of about so many values. */
  MatrixQuantizer(Device device, Workers workers, Effort effort, TensorType type, int bandValues) {
    this.bandValues = bandValues;
    this.device = device;
    this.workers = workers;
    this.effort = effort;
    this.type = type;
    this.encoder = BlockEncoders.of(type).orElseThrow(() -> new IllegalArgumentException(type + " has no encoder"));
    this.format = BlockGrid.of(type).orElseThrow(() -> new IllegalArgumentException(type + " has no grid"));
  }

  /** Whether matrices of this type can be quantized. */
  static boolean supports(TensorType type) {
    return BlockGrid.of(type).isPresent() && BlockEncoders.of(type).isPresent();
  }

  /**
   * Quantizes a matrix.
   *
   * @param input the Gram matrix of what enters it
   * @param weights the matrix
   * @param drift how far the outputs are from the base's, times the inputs, on average: {@code (Y_base - Y)' X / n}, of the matrix's
   *     shape. The weights are moved so that they make up for a part of it. {@code null} if it is not known
   * @param importance a weight per column, for the search of the scales
   * @return the error after rounding, and after all, of a sample of the rows
   */
  MatrixError quantize(
    PreparedGram input,
    RowSource weights,
    RowSource drift,
    long rows,
    float[] importance,
    RowSink out
  ) throws IOException {
    int columns = input.columns();
    int most = Math.max(ROWS, (bandValues / columns / ROWS) * ROWS);
    MatrixError error = MatrixError.ZERO;
    for (long first = 0; first < rows; first += most) {
      int band = (int) Math.min(most, rows - first);
      float[] values = new float[Math.multiplyExact(band, columns)];
      weights.read(first, band, values);
      if (drift != null) {
        float[] drifts = new float[values.length];
        drift.read(first, band, drifts);
        makeUp(input, drifts, band, values);
      }
      int rowBytes = Math.toIntExact(type.rowBytes(columns));
      byte[] encoded = new byte[Math.multiplyExact(rowBytes, band)];
      workers.share(0, band, ENCODED_ROWS, (from, to) ->
        encoder.encode(values, from * columns, columns, to - from, importance, 0, encoded, from * rowBytes)
      );
      error = error.plus(quantize(input, values, band, encoded));
      out.write(encoded, encoded.length);
    }
    return error;
  }

  /**
   * Moves weights W by {@code PART D H^-1}, where D is the drift: with the whole of it, the outputs would come as near to the base's as
   * this layer can bring them on the calibration text. A part generalizes better.
   */
  private void makeUp(PreparedGram input, float[] drifts, int rows, float[] weights) {
    int columns = input.columns();
    try (Scope scope = device.scope(); Arena arena = Arena.ofShared()) {
      Matrix solution = band(columns, rows, null).matrix(scope, drifts);
      input.solve(solution);
      MemorySegment moves = arena.allocate(GridBand.FLOAT, (long) rows * columns);
      device.download(solution, moves);
      workers.share(0, rows, ENCODED_ROWS, (from, to) -> {
        for (int column = 0; column < columns; column++) {
          for (int row = from; row < to; row++) {
            weights[row * columns + column] += PART * moves.getAtIndex(GridBand.FLOAT, (long) column * rows + row);
          }
        }
      });
    }
  }

  private GridBand band(int columns, int rows, byte[] encoded) {
    return new GridBand(device, workers, format, columns, rows, encoded);
  }

  private MatrixError quantize(PreparedGram input, float[] values, int rows, byte[] encoded) {
    long[] sample = RowSample.of(0, rows, Math.min(rows, SAMPLED_ROWS));
    double[] rounding = errors(input, values, encoded, rows, sample);
    double[] left = new double[rows];
    GridBand band = band(input.columns(), rows, encoded);
    try (Scope scope = device.scope()) {
      QuantizationGrid grid = band.grid(scope);
      Matrix weights = band.matrix(scope, values);
      Matrix levels = scope.matrix(input.columns(), rows);
      device.columnWalk(weights, input.factor(), input.ridge(), input.order(), grid, effort.reach(), levels, left);
      if (effort.passes() > 0) {
        device.refine(weights, input.gram(), input.ridge(), grid, levels, effort.passes(), effort.scales(), left);
      }
      band.take(grid, levels);
    }
    return MatrixError.sum(
      rounding,
      Arrays.stream(sample)
        .mapToDouble(row -> left[(int) row])
        .toArray()
    );
  }

  /** The errors that encoded rows leave, of some of them. */
  private double[] errors(PreparedGram input, float[] values, byte[] encoded, int rows, long[] sample) {
    int columns = input.columns();
    int rowBytes = encoded.length / rows;
    float[] someValues = new float[sample.length * columns];
    byte[] someEncoded = new byte[sample.length * rowBytes];
    for (int i = 0; i < sample.length; i++) {
      int row = (int) sample[i];
      System.arraycopy(values, row * columns, someValues, i * columns, columns);
      System.arraycopy(encoded, row * rowBytes, someEncoded, i * rowBytes, rowBytes);
    }
    GridBand band = band(columns, sample.length, someEncoded);
    double[] errors = new double[sample.length];
    try (Scope scope = device.scope()) {
      device.gramErrors(band.matrix(scope, someValues), input.gram(), band.grid(scope), band.levels(scope), errors);
    }
    return errors;
  }
}
