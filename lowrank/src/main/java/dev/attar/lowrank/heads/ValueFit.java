package dev.attar.lowrank.heads;

import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.MatrixRows;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.formats.Tensor;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * Makes values and outputs of a layer smaller.
 *
 * <p>What enters the output matrix O is z, of each head h a weighted mean of its group's values. Each group gets a projection T (new size,
 * size): with S the mean over the group's heads of E[z_h z_h'], S = L L', and U D V' the singular value decomposition of the O_h L of its
 * heads, one below the other, T = V_r' inverse(L) loses least: it is the compression of values and outputs of MoDeGPT (Lin et al., 2024,
 * its type III), in the metric of what enters O rather than of what enters the values. Then all of O is fitted to the
 * projected z at once, by least squares with H = E[z z']: O' = O H T' inverse(T H T'), T now that of all heads.
 */
final class ValueFit {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Singular values count as at least this part of the largest where numbers are divided by them. */
  private static final double LEAST = 1e-3;

  private final Device device;
  private final PreparedGram input;
  private final HeadLayout.Layer layer;
  private final int size;
  private final int newSize;

  /**
   * @param input what is known of what enters the output matrix, prepared for solving
   * @param size of a head
   */
  ValueFit(Device device, PreparedGram input, HeadLayout.Layer layer, int size, int newSize) {
    this.device = device;
    this.input = input;
    this.layer = layer;
    this.size = size;
    this.newSize = newSize;
  }

  /** Bytes that it takes on the device, with the Gram matrix and its factor. */
  static long bytes(HeadLayout.Layer layer, int size, int newSize) {
    long columns = (long) layer.heads() * size;
    long fewer = (long) layer.heads() * newSize;
    long embedding = layer.embedding();
    long outputs = Math.max(size, (layer.heads() / layer.groups()) * embedding);
    long fit = 2 * columns * columns + fewer * columns + fewer * fewer + embedding * (3 * columns + 4 * fewer);
    long projecting = Float.BYTES * 2 * outputs * size + Double.BYTES * 3 * outputs * size;
    return Float.BYTES * fit + projecting;
  }

  /**
   * Fits the layer and writes its new values, little-endian float32.
   *
   * @param values gets the matrix of values (groups new size, embedding)
   * @param bias gets the bias of values (groups new size); not written if there is none
   * @param output gets the output matrix (embedding, heads new size)
   */
  HeadResult.LayerReport fit(Path values, Path bias, Path output) throws IOException {
    int embedding = layer.embedding();
    int columns = layer.heads() * size;
    Tensor old = layer.output();
    try (Scope scope = device.scope()) {
      BandReader.RowSource source = (first, rows, to) -> old.decodeRows(first, rows, to, 0);
      Matrix outputs = BandReader.transposed(device, scope, source, 0, embedding, columns);
      List<Projection> projections = new ArrayList<>();
      for (int group = 0; group < layer.groups(); group++) {
        projections.add(project(scope, outputs, group));
      }
      Matrix fitted = refit(scope, outputs, projections);
      double energy = energy(outputs);
      double error = error(outputs, projections, fitted);
      List<Matrix> scaled = scaled(scope, projections);
      write(values, out -> writeValues(layer.values(), embedding, scaled, out));
      if (layer.valueBias() != null) {
        write(bias, out -> writeValues(layer.valueBias(), 1, scaled, out));
      }
      Matrix rows = unscaled(scope, projections, fitted);
      write(output, out -> MatrixRows.write(device, rows, out));
      return new HeadResult.LayerReport(layer.number(), error, energy);
    }
  }

  /**
   * What becomes of a group's values.
   *
   * @param matrix T (new size, size), such that the projected values have the mean square 1 and are uncorrelated
   * @param scales what to multiply its rows by in the end
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  private record Projection(Matrix matrix, double[] scales) {}

  private int firstHead(int group) {
    return group * (layer.heads() / layer.groups());
  }

  private Projection project(Scope scope, Matrix outputs, int group) throws IOException {
    int heads = layer.heads() / layer.groups();
    int embedding = outputs.columns();
    Matrix projection = scope.matrix(newSize, size);
    float[] singular = new float[size];
    double meanSquare;
    try (Scope meanwhile = device.scope()) {
      Matrix root = meanwhile.matrix(size, size);
      for (int i = 0; i < heads; i++) {
        // A block of H is the product of rows of its factor.
        Matrix rows = input.root().rows((firstHead(group) + i) * size, size);
        device.gemm(1f / heads, rows, false, rows, true, 1, root);
      }
      meanSquare = Arrays.stream(MatrixRows.diagonal(device, root)).sum() / size;
      factor(root, root);
      // With rows of zeros if there are fewer outputs than values, so that there are as many singular vectors as values.
      Matrix whitened = meanwhile.matrix(Math.max(size, heads * embedding), size);
      for (int i = 0; i < heads; i++) {
        Matrix rows = outputs.rows((firstHead(group) + i) * size, size);
        device.gemm(1, rows, true, root, false, 0, whitened.rows(i * embedding, embedding));
      }
      Matrix left = meanwhile.matrix(whitened.rows(), size);
      Matrix right = meanwhile.matrix(size, size);
      device.svd(whitened, left, singular, right);
      Matrix transposed = meanwhile.matrix(size, newSize);
      device.transpose(right.rows(0, newSize), transposed);
      device.triangularSolve(root, true, transposed);
      device.transpose(transposed, projection);
    }
    return new Projection(projection, scales(singular, meanSquare));
  }

  /**
   * The singular values, so that the columns of the new output matrix are of nearly equal length: what is quantized together is equally
   * large then. All times one number that keeps the mean square of what enters it.
   */
  private double[] scales(float[] singular, double meanSquare) {
    double[] scales = new double[newSize];
    double squares = 0;
    for (int i = 0; i < newSize; i++) {
      scales[i] = singular[0] > 0 ? Math.max(singular[i], LEAST * singular[0]) : 1;
      squares += (scales[i] * scales[i]) / newSize;
    }
    double factor = Math.sqrt(meanSquare / squares);
    return Arrays.stream(scales)
      .map(scale -> scale * factor)
      .toArray();
  }

  private void factor(Matrix symmetric, Matrix lower) throws IOException {
    if (device.cholesky(symmetric, lower) != 0) {
      throw new IOException(
        layer.output().info().name() + ": what enters it is too nearly dependent, take more damping"
      );
    }
  }

  private Matrix of(List<Projection> projections, int head) {
    return projections.get(layer.group(head)).matrix;
  }

  /** The output matrix for projected values, transposed: (heads new size, embedding). */
  private Matrix refit(Scope scope, Matrix outputs, List<Projection> projections) throws IOException {
    int columns = outputs.rows();
    int fewer = layer.heads() * newSize;
    Matrix fitted = scope.matrix(fewer, outputs.columns());
    try (Scope meanwhile = device.scope()) {
      // With H = R R': T R, R' O', and from them T H T' and T H O'.
      Matrix projected = meanwhile.matrix(fewer, columns);
      for (int head = 0; head < layer.heads(); head++) {
        Matrix rows = input.root().rows(head * size, size);
        device.gemm(1, of(projections, head), false, rows, false, 0, projected.rows(head * newSize, newSize));
      }
      Matrix whitened = meanwhile.matrix(columns, outputs.columns());
      device.gemm(1, input.root(), true, outputs, false, 0, whitened);
      device.gemm(1, projected, false, whitened, false, 0, fitted);
      Matrix normal = meanwhile.matrix(fewer, fewer);
      device.gemm(1, projected, false, projected, true, 0, normal);
      factor(normal, normal);
      device.triangularSolve(normal, false, fitted);
      device.triangularSolve(normal, true, fitted);
    }
    return fitted;
  }

  private double error(Matrix outputs, List<Projection> projections, Matrix fitted) {
    try (Scope scope = device.scope()) {
      Matrix change = scope.matrix(outputs.rows(), outputs.columns());
      device.add(1, outputs, change);
      for (int head = 0; head < layer.heads(); head++) {
        Matrix rows = fitted.rows(head * newSize, newSize);
        device.gemm(-1, of(projections, head), true, rows, false, 1, change.rows(head * size, size));
      }
      return energy(change);
    }
  }

  /** {@code trace(W gram W')} of a transposed W. */
  private double energy(Matrix of) {
    try (Scope scope = device.scope()) {
      Matrix product = scope.matrix(of.rows(), of.columns());
      device.gemm(1, input.gram(), false, of, false, 0, product);
      float[] row = new float[of.columns()];
      double[] sum = { 0 };
      MatrixRows.forEach(device, product, (number, values, at) -> {
        device.download(of.rows(number, 1), MemorySegment.ofArray(row));
        for (int i = 0; i < row.length; i++) {
          sum[0] += (double) row[i] * values.getAtIndex(FLOAT, at + i);
        }
      });
      return Math.max(0, sum[0]);
    }
  }

  /** The projections with their scales in them. */
  private List<Matrix> scaled(Scope scope, List<Projection> projections) {
    List<Matrix> scaled = new ArrayList<>();
    for (Projection projection : projections) {
      Matrix rows = scope.matrix(newSize, size);
      for (int i = 0; i < newSize; i++) {
        device.add((float) projection.scales[i], projection.matrix.rows(i, 1), rows.rows(i, 1));
      }
      scaled.add(rows);
    }
    return scaled;
  }

  /** The output matrix for values that are scaled, (embedding, heads new size). */
  private Matrix unscaled(Scope scope, List<Projection> projections, Matrix fitted) {
    Matrix rows = scope.matrix(fitted.columns(), fitted.rows());
    try (Scope meanwhile = device.scope()) {
      Matrix transposed = meanwhile.matrix(fitted.rows(), fitted.columns());
      for (int row = 0; row < fitted.rows(); row++) {
        double scale = projections.get(layer.group(row / newSize)).scales[row % newSize];
        device.add((float) (1 / scale), fitted.rows(row, 1), transposed.rows(row, 1));
      }
      device.transpose(transposed, rows);
    }
    return rows;
  }

  /** Writes something. */
  @FunctionalInterface
  private interface Content {
    void to(OutputStream out) throws IOException;
  }

  private static void write(Path file, Content content) throws IOException {
    try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(file))) {
      content.to(out);
    }
  }

  /**
   * Projects the values of all groups.
   *
   * @param columns of the tensor, 1 for a vector
   */
  private void writeValues(Tensor tensor, int columns, List<Matrix> projections, OutputStream out) throws IOException {
    for (int group = 0; group < layer.groups(); group++) {
      float[] values = new float[Math.multiplyExact(columns, size)];
      if (columns == 1 && tensor.info().rank() == 1) {
        float[] all = new float[Math.toIntExact(tensor.info().elements())];
        tensor.decodeRows(0, 1, all, 0);
        System.arraycopy(all, group * size, values, 0, size);
      } else {
        tensor.decodeRows((long) group * size, size, values, 0);
      }
      try (Scope scope = device.scope()) {
        Matrix before = scope.matrix(size, columns);
        device.upload(MemorySegment.ofArray(values), before);
        Matrix after = scope.matrix(newSize, columns);
        device.gemm(1, projections.get(group), false, before, false, 0, after);
        MatrixRows.write(device, after, out);
      }
    }
  }
}
