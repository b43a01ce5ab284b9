package dev.attar.quant.gptq;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.block.BlockGrid;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Quantizes matrices of one type by GPTQ. The importance-weighted encoder finds the scales, the device walks the columns and refines,
 * and the blocks get the levels that it chose. Rows do not depend on each other and go through in bands.
 */
final class MatrixQuantizer {

  /** Values in a band: 32 MiB in single precision, of which there are about six. */
  private static final int BAND_VALUES = 1 << 23;

  /** Bands hold multiples of this many rows, so that they do not show in the result. */
  private static final int ROWS = 256;

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
  private final Effort effort;
  private final TensorType type;
  private final BlockEncoder encoder;
  private final BlockGrid format;
  private final int bandValues;

  /** @throws IllegalArgumentException if the type has no grid */
  MatrixQuantizer(Device device, Effort effort, TensorType type) {
    this(device, effort, type, BAND_VALUES);
  }

  /** With bands of about so many values. */
  MatrixQuantizer(Device device, Effort effort, TensorType type, int bandValues) {
    this.bandValues = bandValues;
    this.device = device;
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
   * @return the error after rounding, and after all
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
      byte[] encoded = new byte[Math.toIntExact(type.rowBytes(columns) * band)];
      encoder.encode(values, 0, columns, band, importance, 0, encoded, 0);
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
    try (Scope scope = device.scope(); Arena arena = Arena.ofConfined()) {
      Matrix solution = scope.matrix(columns, rows);
      upload(drifts, rows, columns, solution);
      input.solve(solution);
      MemorySegment moves = arena.allocate(GridBand.FLOAT, (long) rows * columns);
      device.download(solution, moves);
      for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
          weights[row * columns + column] += PART * moves.getAtIndex(GridBand.FLOAT, (long) column * rows + row);
        }
      }
    }
  }

  private MatrixError quantize(PreparedGram input, float[] values, int rows, byte[] encoded) {
    int columns = input.columns();
    GridBand band = new GridBand(format, columns, rows, encoded);
    try (Scope scope = device.scope()) {
      QuantizationGrid grid = band.toDevice(device, scope);
      Matrix weights = scope.matrix(columns, rows);
      upload(values, rows, columns, weights);
      Matrix levels = scope.matrix(columns, rows);
      band.levelsToDevice(device, levels);
      double[] rounding = new double[rows];
      device.gramErrors(weights, input.gram(), grid, levels, rounding);
      device.columnWalk(weights, input.factor(), input.order(), grid, effort.reach(), levels);
      if (effort.passes() > 0) {
        device.refine(weights, input.gram(), input.ridge(), grid, levels, effort.passes(), effort.scales());
      }
      double[] left = new double[rows];
      device.gramErrors(weights, input.gram(), grid, levels, left);
      band.fromDevice(device, grid, levels);
      return MatrixError.sum(rounding, left);
    }
  }

  /** Puts rows into a matrix that has a column for each. */
  private void upload(float[] values, int rows, int columns, Matrix to) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment transposed = arena.allocate(GridBand.FLOAT, (long) rows * columns);
      GridBand.transpose(values, rows, columns, transposed);
      device.upload(transposed, to);
    }
  }
}
