package dev.attar.lowrank.heads;

import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.MatrixRows;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;

/**
 * Second moments of the rotary pairs of a group's queries and keys, as complex numbers, before they are rotated.
 *
 * <p>What a query's product has in common with all keys does nothing, since softmax ignores it. So the mean of the keys counts only as far
 * as it turns: not at all in pairs whose frequency is so low that they stand still. The mean of what enters is taken to be along the first
 * principal direction of its Gram matrix.
 *
 * @param queries the sum over the group's heads of E[q q*], (pairs, pairs)
 * @param keys E[k k*] with the mean counted so, (pairs, pairs)
 */
record PairMoments(Complex queries, Complex keys) {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** Multiplications with the Gram matrix to find its first principal direction, whose second one is well apart if there is a mean. */
  private static final int ROUNDS = 30;

  private static final long SEED = 7;

  /** Bytes that it takes on the device to measure them. */
  static long bytes(int embedding, int size) {
    return Float.BYTES * ((long) embedding * embedding + 3L * embedding * (size + 1) + (long) size * size);
  }

  /**
   * Those of all groups of a layer.
   *
   * @param gram of what enters its queries and keys, both triangles filled
   * @param spread how much each pair turns: see {@link Rotations#spread}
   */
  static PairMoments[] of(Device device, HeadLayout.Layer layer, int size, Matrix gram, double[] spread)
    throws IOException {
    try (Scope scope = device.scope()) {
      Matrix mean = mean(device, scope, gram);
      PairMoments[] moments = new PairMoments[layer.groups()];
      for (int group = 0; group < moments.length; group++) {
        Complex keys = new Complex(size / 2, size / 2);
        try (Scope meanwhile = device.scope()) {
          Matrix weights = weights(device, meanwhile, layer.keys(), group, size);
          keys.add(moments(device, weights, gram));
          Complex constant = new Complex(size / 2, 1);
          Matrix product = meanwhile.matrix(size, 1);
          device.gemm(1, weights, true, mean, false, 0, product);
          MatrixRows.forEach(device, product, (row, values, at) -> set(constant, row, values.getAtIndex(FLOAT, at)));
          keys.add(constant.times(constant.adjoint()), -1);
          addConstant(keys, constant, spread);
        }
        addConstant(keys, bias(layer.keyBias(), group, size), spread);
        moments[group] = new PairMoments(new Complex(size / 2, size / 2), keys);
      }
      double[] all = new double[size / 2];
      Arrays.fill(all, 1);
      for (int head = 0; head < layer.heads(); head++) {
        Complex queries = moments[layer.group(head)].queries;
        try (Scope meanwhile = device.scope()) {
          queries.add(moments(device, weights(device, meanwhile, layer.queries(), head, size), gram));
        }
        addConstant(queries, bias(layer.queryBias(), head, size), all);
      }
      return moments;
    }
  }

  /** The mean of what has a Gram matrix H, as far as it tells: H v / |v* H v|^(1/2) with its first principal direction v, (columns, 1). */
  private static Matrix mean(Device device, Scope scope, Matrix gram) {
    int n = gram.columns();
    float[] direction = new float[n];
    SplittableRandom random = new SplittableRandom(SEED);
    for (int i = 0; i < n; i++) {
      direction[i] = (float) random.nextGaussian();
    }
    Matrix before = scope.matrix(n, 1);
    Matrix after = scope.matrix(n, 1);
    float[] product = new float[n];
    for (int round = 0; ; round++) {
      device.upload(MemorySegment.ofArray(direction), before);
      device.gemm(1, gram, false, before, false, 0, after);
      device.download(after, MemorySegment.ofArray(product));
      double inner = 0;
      double square = 0;
      for (int i = 0; i < n; i++) {
        inner += (double) direction[i] * product[i];
        square += (double) product[i] * product[i];
      }
      boolean last = round == ROUNDS;
      double length = Math.sqrt(last ? inner : square);
      for (int i = 0; i < n; i++) {
        direction[i] = length > 0 ? (float) (product[i] / length) : 0;
      }
      if (last) {
        device.upload(MemorySegment.ofArray(direction), before);
        return before;
      }
    }
  }

  private static Matrix weights(Device device, Scope scope, Tensor tensor, int head, int size) throws IOException {
    BandReader.RowSource source = (first, rows, to) -> tensor.decodeRows(first, rows, to, 0);
    int columns = Math.toIntExact(tensor.info().rowLength());
    return BandReader.transposed(device, scope, source, (long) head * size, size, columns);
  }

  /**
   * The moments of what weights make of an input.
   *
   * @param weights of a head, transposed
   */
  private static Complex moments(Device device, Matrix weights, Matrix gram) {
    int size = weights.columns();
    double[] products = new double[size * size];
    try (Scope scope = device.scope()) {
      Matrix product = scope.matrix(weights.rows(), size);
      device.gemm(1, gram, false, weights, false, 0, product);
      Matrix both = scope.matrix(size, size);
      device.gemm(1, weights, true, product, false, 0, both);
      MatrixRows.forEach(device, both, (row, values, at) -> {
        for (int i = 0; i < size; i++) {
          products[row * size + i] = values.getAtIndex(FLOAT, at + i);
        }
      });
    }
    int pairs = size / 2;
    Complex moments = new Complex(pairs, pairs);
    for (int i = 0; i < pairs; i++) {
      for (int j = 0; j <= i; j++) {
        int re = 2 * i * size + 2 * j;
        int im = re + size;
        double real = products[re] + products[im + 1];
        double imaginary = i == j ? 0 : products[im] - products[re + 1];
        moments.set(i, j, real, imaginary);
        moments.set(j, i, real, -imaginary);
      }
    }
    return moments;
  }

  /** The pairs of a head's bias, taken for independent of the rest; zeros if there is none. */
  private static Complex bias(Tensor bias, int head, int size) throws IOException {
    Complex pairs = new Complex(size / 2, 1);
    if (bias != null) {
      float[] all = new float[Math.toIntExact(bias.info().elements())];
      bias.decodeRows(0, 1, all, 0);
      for (int i = 0; i < size; i++) {
        set(pairs, i, all[head * size + i]);
      }
    }
    return pairs;
  }

  private static void set(Complex pairs, int number, double value) {
    boolean real = number % 2 == 0;
    pairs.add(number / 2, 0, real ? value : 0, real ? 0 : value);
  }

  /** Adds what is constant, each pair as a part. */
  private static void addConstant(Complex moments, Complex constant, double[] parts) {
    Complex some = new Complex(constant.rows, 1);
    for (int i = 0; i < constant.rows; i++) {
      some.set(i, 0, parts[i] * constant.re(i, 0), parts[i] * constant.im(i, 0));
    }
    moments.add(some.times(some.adjoint()));
  }
}
