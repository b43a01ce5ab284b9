package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The CPU device's operations for transformers. Threads share rows, or pieces of a matrix without regard to rows, in parts that depend
 * on the shapes only; sums over rows are sums of the parts' sums, in order.
 */
final class CpuTransformer extends CheckedTransformer<CpuMatrix> {

  /** Numbers of a matrix in a part: a few of them fit a core's cache. */
  private static final int PART = 1 << 14;

  /** Parts of a sum over rows, at most. */
  private static final int SUMS = 64;

  private final CpuDevice device;
  private final RowKernel kernel = RowKernel.get();
  private final CpuAttention attention;
  private final CpuDistributionLoss distributions;

  CpuTransformer(CpuDevice device, Level3 blas) {
    super(device);
    this.device = device;
    attention = new CpuAttention(device, blas, kernel);
    distributions = new CpuDistributionLoss(device, kernel);
  }

  /** Work on consecutive numbers of matrices of the same shape. */
  @FunctionalInterface
  private interface Piece {
    /** @param at where they begin, in bytes */
    void run(long at, int n);
  }

  /** Shares all numbers of a matrix. */
  private void inPieces(CpuMatrix matrix, Piece piece) {
    long count = matrix.count();
    device.parallel(0, Math.toIntExact(Math.ceilDiv(count, PART)), 1, (part, _) -> {
      long first = (long) part * PART;
      piece.run(4 * first, (int) Math.min(PART, count - first));
    });
  }

  /** How many rows are a part. */
  private static int step(CpuMatrix matrix) {
    return Math.max(1, PART / matrix.columns());
  }

  /** Shares rows. */
  private void inRows(CpuMatrix matrix, Workers.RangeTask task) {
    device.parallel(0, matrix.rows(), step(matrix), task);
  }

  /** Work on rows that adds to a row of sums. */
  @FunctionalInterface
  private interface Summing {
    /** @param at where the sums begin, in bytes */
    void run(int from, int to, MemorySegment sums, long at);
  }

  /** Shares rows and adds the sums of all, in order. */
  private void addSums(CpuMatrix rows, CpuMatrix sums, Summing task) {
    int n = rows.rows();
    int step = Math.max(step(rows), Math.ceilDiv(n, SUMS));
    int columns = sums.columns();
    long width = Math.ceilDiv(4L * columns, NativeMemory.ALIGNMENT) * NativeMemory.ALIGNMENT;
    int parts = Math.ceilDiv(n, step);
    try (Arena arena = Arena.ofShared()) {
      MemorySegment partial = NativeMemory.zeros(arena, parts, Math.toIntExact(width), "sums of " + parts + " parts");
      device.parallel(0, n, step, (from, to) -> task.run(from, to, partial, (from / step) * width));
      for (int part = 0; part < parts; part++) {
        kernel.add(partial, part * width, sums.values(), 0, columns);
      }
    }
  }

  @Override
  protected void embedChecked(int[] tokens, CpuMatrix table, CpuMatrix out) {
    long bytes = 4L * table.columns();
    inRows(out, (from, to) -> {
      for (int i = from; i < to; i++) {
        MemorySegment.copy(table.values(), tokens[i] * bytes, out.values(), i * bytes, bytes);
      }
    });
  }

  @Override
  protected void embedGradientChecked(int[] tokens, CpuMatrix outGradient, CpuMatrix tableGradient) {
    // A token may come often, so that threads share columns: whole cache lines of them.
    int columns = outGradient.columns();
    long bytes = 4L * columns;
    device.parallel(0, columns, 32, (from, to) -> {
      for (int i = 0; i < tokens.length; i++) {
        long at = 4L * from;
        kernel.add(outGradient.values(), i * bytes + at, tableGradient.values(), tokens[i] * bytes + at, to - from);
      }
    });
  }

  @Override
  protected void addBiasChecked(CpuMatrix bias, CpuMatrix to) {
    int columns = to.columns();
    inRows(to, (from, end) -> {
      for (int i = from; i < end; i++) {
        kernel.add(bias.values(), 0, to.values(), 4L * i * columns, columns);
      }
    });
  }

  @Override
  protected void addBiasGradientChecked(CpuMatrix outGradient, CpuMatrix biasGradient) {
    int columns = outGradient.columns();
    addSums(outGradient, biasGradient, (from, to, sums, at) -> {
      for (int i = from; i < to; i++) {
        kernel.add(outGradient.values(), 4L * i * columns, sums, at, columns);
      }
    });
  }

  @Override
  protected void rmsNormChecked(CpuMatrix x, CpuMatrix weight, float epsilon, CpuMatrix out) {
    int d = weight.columns();
    int heads = x.columns() / d;
    MemorySegment values = x.values();
    inRows(x, (from, to) -> {
      for (long part = (long) from * heads; part < (long) to * heads; part++) {
        long at = 4 * part * d;
        float factor = inverseRms(values, at, d, epsilon);
        kernel.norm(values, at, weight.values(), factor, out.values(), at, d);
      }
    });
  }

  private float inverseRms(MemorySegment x, long at, int d, float epsilon) {
    return (float) (1 / Math.sqrt(kernel.dot(x, at, x, at, d) / d + epsilon));
  }

  @Override
  protected void rmsNormGradientChecked(
    CpuMatrix x,
    CpuMatrix weight,
    float epsilon,
    CpuMatrix outGradient,
    boolean add,
    CpuMatrix xGradient,
    CpuMatrix weightGradient
  ) {
    int d = weight.columns();
    int heads = x.columns() / d;
    MemorySegment in = x.values();
    MemorySegment given = outGradient.values();
    MemorySegment factors = weight.values();
    addSums(x, weightGradient, (from, to, sums, sumsAt) -> {
      for (long part = (long) from * heads; part < (long) to * heads; part++) {
        long at = 4 * part * d;
        // Of f = 1 / sqrt(mean(x²) + epsilon), the derivative is -f³ x / d.
        float factor = inverseRms(in, at, d, epsilon);
        float back = (kernel.dot(given, at, factors, 0, in, at, d) * factor * factor * factor) / d;
        kernel.normGradient(in, given, xGradient.values(), at, factors, factor, back, add, sums, sumsAt, d);
      }
    });
  }

  @Override
  protected void rotateChecked(CpuMatrix x, int headSize, CpuMatrix angles, boolean neighbours, boolean back) {
    int pairs = angles.columns() / 2;
    int heads = x.columns() / headSize;
    float sign = back ? -1 : 1;
    MemorySegment values = x.values();
    MemorySegment cosines = angles.values();
    MemorySegment sines = cosines.asSlice(4L * pairs);
    inRows(x, (from, to) -> {
      for (int i = from; i < to; i++) {
        long angleAt = 4L * (i % angles.rows()) * angles.columns();
        for (int head = 0; head < heads; head++) {
          long at = 4 * ((long) i * x.columns() + (long) head * headSize);
          if (neighbours) {
            kernel.rotatePairs(values, at, cosines, sines, angleAt, sign, pairs);
          } else {
            kernel.rotateHalves(values, at, cosines, sines, angleAt, sign, pairs);
          }
        }
      }
    });
  }

  @Override
  protected void attendChecked(
    CpuMatrix q,
    CpuMatrix k,
    CpuMatrix v,
    AttentionShape shape,
    CpuMatrix out,
    CpuMatrix logSums
  ) {
    attention.attend(q, k, v, shape, out, logSums);
  }

  @Override
  protected void attendGradientChecked(
    CpuMatrix q,
    CpuMatrix k,
    CpuMatrix v,
    AttentionShape shape,
    CpuMatrix out,
    CpuMatrix logSums,
    CpuMatrix outGradient,
    CpuMatrix qGradient,
    CpuMatrix kGradient,
    CpuMatrix vGradient
  ) {
    attention.gradient(q, k, v, shape, out, logSums, outGradient, qGradient, kGradient, vGradient);
  }

  @Override
  protected void swiGluChecked(CpuMatrix gate, CpuMatrix up, CpuMatrix out) {
    inPieces(gate, (at, n) -> kernel.swiGlu(gate.values(), up.values(), out.values(), at, n));
  }

  @Override
  protected void swiGluGradientChecked(
    CpuMatrix gate,
    CpuMatrix up,
    CpuMatrix outGradient,
    CpuMatrix gateGradient,
    CpuMatrix upGradient
  ) {
    inPieces(gate, (at, n) ->
      kernel.swiGluGradient(
        gate.values(),
        up.values(),
        outGradient.values(),
        gateGradient.values(),
        upGradient.values(),
        at,
        n
      )
    );
  }

  @Override
  protected void distributionLossChecked(
    CpuMatrix logits,
    int[] tokens,
    CpuMatrix teacher,
    int[] labels,
    DistributionLoss loss,
    CpuMatrix losses
  ) {
    distributions.compute(logits, tokens, teacher, labels, loss, losses);
  }

  @Override
  protected void stateLossChecked(CpuMatrix states, CpuMatrix teacher, boolean cosine, float scale, CpuMatrix losses) {
    int d = states.columns();
    inRows(states, (from, to) -> {
      for (int i = from; i < to; i++) {
        long at = 4L * i * d;
        double loss = cosine
          ? cosineLoss(states.values(), teacher.values(), at, d, scale)
          : squaredLoss(states.values(), teacher.values(), at, d, scale);
        losses.values().setAtIndex(JAVA_FLOAT, i, (float) loss);
      }
    });
  }

  private double squaredLoss(MemorySegment states, MemorySegment teacher, long at, int d, float scale) {
    double loss = kernel.squaredDistance(states, at, teacher, at, d) / d;
    kernel.difference((2 * scale) / d, states, at, teacher, at, d);
    return loss;
  }

  private double cosineLoss(MemorySegment states, MemorySegment teacher, long at, int d, float scale) {
    double ownSquare = kernel.dot(states, at, states, at, d);
    double teacherSquare = kernel.dot(teacher, at, teacher, at, d);
    if (ownSquare == 0 || teacherSquare == 0) {
      // The cosine is 0, and its derivative is taken for 0.
      kernel.scale(0, states, at, states, at, d);
      return ownSquare == teacherSquare ? 0 : 1;
    }
    double norms = Math.sqrt(ownSquare) * Math.sqrt(teacherSquare);
    double cosine = kernel.dot(states, at, teacher, at, d) / norms;
    kernel.combine((float) ((scale * cosine) / ownSquare), states, at, (float) (-scale / norms), teacher, at, d);
    return 1 - cosine;
  }

  @Override
  protected double squaresChecked(CpuMatrix x) {
    int parts = Math.toIntExact(Math.ceilDiv(x.count(), PART));
    double[] sums = new double[parts];
    inPieces(x, (at, n) -> sums[(int) (at / (4L * PART))] = kernel.dot(x.values(), at, x.values(), at, n));
    double sum = 0;
    for (double part : sums) {
      sum += part;
    }
    return sum;
  }

  @Override
  protected void scaleChecked(float factor, CpuMatrix x) {
    MemorySegment values = x.values();
    inPieces(x, (at, n) -> {
      if (factor == 0) {
        values.asSlice(at, 4L * n).fill((byte) 0);
      } else {
        kernel.scale(factor, values, at, values, at, n);
      }
    });
  }

  @Override
  protected void adamWChecked(CpuMatrix weights, CpuMatrix gradient, CpuMatrix first, CpuMatrix second, AdamStep step) {
    inPieces(weights, (at, n) ->
      kernel.adamW(weights.values(), gradient.values(), first.values(), second.values(), at, n, step)
    );
  }
}
