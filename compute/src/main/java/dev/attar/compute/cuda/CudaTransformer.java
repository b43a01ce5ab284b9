package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuMemcpyDtoDAsync;

import dev.attar.compute.AdamStep;
import dev.attar.compute.AttentionShape;
import dev.attar.compute.CheckedTransformer;
import dev.attar.compute.DistributionLoss;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * The CUDA device's operations of a transformer. All sums have an order that depends on the shapes only, so that the same numbers give the
 * same bits.
 */
final class CudaTransformer extends CheckedTransformer<CudaMatrix> {

  /** Threads of a warp, as the kernels have it. */
  private static final int WARP = 32;

  /** The most shares in which rows or numbers are summed before the shares are: enough to fill a GPU. */
  private static final int MAX_PARTS = 256;

  /** Threads of a block of attention.cu. */
  private static final int ATTENTION_THREADS = 256;

  /** Positions in a tile of attention.cu. */
  private static final int TILE = 32;

  /** Columns of a head that a block of attention.cu computes. */
  private static final int SLICE = 128;

  /** Threads that share a row of logits. */
  private static final int LOSS_THREADS = 256;

  private final CudaContext context;
  private final CudaTransfers transfers;
  private final CudaKernels kernels;

  CudaTransformer(CudaDevice device, CudaContext context, CudaTransfers transfers, CudaKernels kernels) {
    super(device);
    this.context = context;
    this.transfers = transfers;
    this.kernels = kernels;
  }

  /** Work on scratch memory, which is freed then. */
  @FunctionalInterface
  private interface Work {
    void run(CudaMemory work);
  }

  private void withScratch(Work work) {
    context.run(() -> {
      try (CudaMemory memory = new CudaMemory(context)) {
        work.run(memory);
      }
    });
  }

  private long upload(CudaMemory work, int[] values, String what) {
    return transfers.upload(work, MemorySegment.ofArray(values), what);
  }

  private void launch(String kernel, Shape shape, Object... arguments) {
    kernels.launch("transformer", kernel, shape, arguments);
  }

  /** A thread for each column, and blocks for each row, or for some rows each if there are too many. */
  private static Shape cells(int rows, int columns) {
    return Shape.of(columns, CudaKernels.THREADS, Math.min(Shape.MAX_BLOCKS_Y, rows));
  }

  /** A warp for each row. */
  private static Shape warps(long rows) {
    return Shape.of(rows * WARP);
  }

  @Override
  protected void embedChecked(int[] tokens, CudaMatrix table, CudaMatrix out) {
    withScratch(work -> {
      long rows = upload(work, tokens, "tokens");
      launch("embed", cells(out.rows(), out.columns()), rows, table, out.rows(), out.columns(), out);
    });
  }

  @Override
  protected void embedGradientChecked(int[] tokens, CudaMatrix outGradient, CudaMatrix tableGradient) {
    // The places of each token in ascending order: high halves are tokens, low ones places.
    long[] sorted = new long[tokens.length];
    Arrays.setAll(sorted, i -> ((long) tokens[i] << 32) | i);
    Arrays.sort(sorted);
    int[] places = new int[sorted.length];
    int[] distinct = new int[sorted.length];
    int[] begins = new int[sorted.length + 1];
    int found = 0;
    for (int i = 0; i < sorted.length; i++) {
      int token = (int) (sorted[i] >> 32);
      places[i] = (int) sorted[i];
      if (i == 0 || token != distinct[found - 1]) {
        distinct[found] = token;
        begins[found++] = i;
      }
    }
    begins[found] = sorted.length;
    int count = found;
    int columns = tableGradient.columns();
    withScratch(work ->
      launch(
        "embedGradient",
        cells(count, columns),
        upload(work, distinct, "tokens"),
        upload(work, begins, "where the places of tokens begin"),
        upload(work, places, "places of tokens"),
        count,
        outGradient,
        columns,
        tableGradient
      )
    );
  }

  @Override
  protected void addBiasChecked(CudaMatrix bias, CudaMatrix to) {
    context.run(() -> launch("addBias", cells(to.rows(), to.columns()), bias, to.rows(), to.columns(), to));
  }

  @Override
  protected void addBiasGradientChecked(CudaMatrix outGradient, CudaMatrix biasGradient) {
    withScratch(work -> {
      ColumnSums sums = new ColumnSums(work, outGradient.rows(), outGradient.columns());
      launch("columnSums", sums.shape(), outGradient, sums.rows, sums.columns, sums.share, sums.parts);
      sums.addTo(biasGradient);
    });
  }

  /** Sums of columns in two steps: over shares of the rows, then over the shares. */
  private final class ColumnSums {

    final long rows;
    final int columns;

    /** Rows of a share. */
    final long share;

    /** The sums of each share. */
    final long parts;

    private final int count;

    ColumnSums(CudaMemory work, long rows, int columns) {
      this.rows = rows;
      this.columns = columns;
      share = Math.ceilDiv(rows, MAX_PARTS);
      count = Math.toIntExact(Math.ceilDiv(rows, share));
      parts = work.floats(count, columns, "sums of some rows");
    }

    Shape shape() {
      return Shape.of(columns, CudaKernels.THREADS, count);
    }

    void addTo(CudaMatrix row) {
      launch("addParts", Shape.of(columns), parts, count, columns, row);
    }
  }

  @Override
  protected void rmsNormChecked(CudaMatrix x, CudaMatrix weight, float epsilon, CudaMatrix out) {
    int length = weight.columns();
    long rows = x.count() / length;
    context.run(() -> launch("rmsNorm", warps(rows), x, weight, epsilon, rows, length, out));
  }

  @Override
  protected void rmsNormGradientChecked(
    CudaMatrix x,
    CudaMatrix weight,
    float epsilon,
    CudaMatrix outGradient,
    boolean add,
    CudaMatrix xGradient,
    CudaMatrix weightGradient
  ) {
    int length = weight.columns();
    long rows = x.count() / length;
    withScratch(work -> {
      long inverses = work.allocate(rows, Float.BYTES, "norms of rows");
      long slopes = work.allocate(rows, Float.BYTES, "sums of rows");
      launch("rmsNormMoments", warps(rows), x, weight, epsilon, outGradient, rows, length, inverses, slopes);
      // The weight's gradient first, since x's may overwrite outGradient.
      ColumnSums sums = new ColumnSums(work, rows, length);
      launch("rmsNormWeightParts", sums.shape(), x, outGradient, inverses, rows, length, sums.share, sums.parts);
      sums.addTo(weightGradient);
      int adds = add ? 1 : 0;
      launch("rmsNormGradient", warps(rows), x, weight, outGradient, inverses, slopes, rows, length, adds, xGradient);
    });
  }

  @Override
  protected void rotateChecked(CudaMatrix x, int headSize, CudaMatrix angles, boolean neighbours, boolean back) {
    int heads = x.columns() / headSize;
    int pairs = angles.columns() / 2;
    context.run(() ->
      launch(
        "rotate",
        cells(x.rows(), heads * pairs),
        angles,
        x.rows(),
        angles.rows(),
        heads,
        headSize,
        pairs,
        neighbours ? 1 : 0,
        back ? 1 : 0,
        x
      )
    );
  }

  /** Launches a kernel of attention.cu: blocks for the tiles of each sequence and head, and for slices of heads. */
  private void launchAttention(String kernel, int rows, int heads, AttentionShape shape, Object... results) {
    long sequences = rows / shape.length();
    int blocks = Math.toIntExact(Math.ceilDiv(shape.length(), TILE) * sequences * heads);
    kernels.launch("attention", kernel, new Shape(blocks, slices(shape), ATTENTION_THREADS, 1), results);
  }

  private static int slices(AttentionShape shape) {
    return Math.ceilDiv(shape.size(), SLICE);
  }

  @Override
  protected void attendChecked(
    CudaMatrix q,
    CudaMatrix k,
    CudaMatrix v,
    AttentionShape shape,
    CudaMatrix out,
    CudaMatrix logSums
  ) {
    context.run(() ->
      launchAttention(
        "attend",
        q.rows(),
        shape.heads(),
        shape,
        q,
        k,
        v,
        shape.length(),
        shape.heads(),
        shape.groups(),
        shape.size(),
        shape.scale(),
        shape.window(),
        out,
        logSums
      )
    );
  }

  @Override
  protected void attendGradientChecked(
    CudaMatrix q,
    CudaMatrix k,
    CudaMatrix v,
    AttentionShape shape,
    CudaMatrix out,
    CudaMatrix logSums,
    CudaMatrix outGradient,
    CudaMatrix qGradient,
    CudaMatrix kGradient,
    CudaMatrix vGradient
  ) {
    long count = logSums.count();
    withScratch(work -> {
      long dots = work.floats(logSums.rows(), logSums.columns(), "products of heads and gradients");
      kernels.launch("attention", "attendDots", warps(count), out, outGradient, count, shape.size(), dots);
      launchAttention(
        "attendKeyGradient",
        q.rows(),
        shape.groups(),
        shape,
        q,
        k,
        v,
        shape.length(),
        shape.heads(),
        shape.groups(),
        shape.size(),
        shape.scale(),
        shape.window(),
        logSums,
        dots,
        outGradient,
        kGradient,
        vGradient
      );
      // A block writes its part of qGradient once it has read all of outGradient that is there. Of a head in slices others read it too.
      boolean aside = qGradient.is(outGradient) && slices(shape) > 1;
      long result = aside ? work.floats(q.rows(), q.columns(), "the gradient of queries") : qGradient.address();
      launchAttention(
        "attendQueryGradient",
        q.rows(),
        shape.heads(),
        shape,
        q,
        k,
        v,
        shape.length(),
        shape.heads(),
        shape.groups(),
        shape.size(),
        shape.scale(),
        shape.window(),
        logSums,
        dots,
        outGradient,
        result
      );
      if (aside) {
        DevicePointer to = new DevicePointer(qGradient.address());
        int status = cuMemcpyDtoDAsync(to, new DevicePointer(result), qGradient.bytes(), context.stream());
        CudaStatus.driver(status, "cuMemcpyDtoDAsync(%d)", qGradient.bytes());
      }
    });
  }

  @Override
  protected void swiGluChecked(CudaMatrix gate, CudaMatrix up, CudaMatrix out) {
    context.run(() -> launch("swiGlu", Shape.of(out.count()), gate, up, out.count(), out));
  }

  @Override
  protected void swiGluGradientChecked(
    CudaMatrix gate,
    CudaMatrix up,
    CudaMatrix outGradient,
    CudaMatrix gateGradient,
    CudaMatrix upGradient
  ) {
    long count = gate.count();
    context.run(() ->
      launch("swiGluGradient", Shape.of(count), gate, up, outGradient, count, gateGradient, upGradient)
    );
  }

  @Override
  protected void distributionLossChecked(
    CudaMatrix logits,
    int[] tokens,
    CudaMatrix teacher,
    int[] labels,
    DistributionLoss loss,
    CudaMatrix losses
  ) {
    int rows = logits.rows();
    int vocabulary = logits.columns();
    Shape shape = new Shape(rows, 1, LOSS_THREADS, 1);
    withScratch(work -> {
      long next = upload(work, labels, "labels");
      if (tokens == null) {
        launchLoss("lossOfLogits", shape, loss, next, losses, logits, vocabulary, teacher == null ? 0L : teacher);
        return;
      }
      int k = teacher.columns() - 1;
      long top = upload(work, tokens, "the teacher's tokens");
      long kept = work.floats(rows, k, "the logits of the teacher's tokens");
      launchLoss("lossOfTop", shape, loss, next, losses, logits, vocabulary, top, teacher, k, kept);
    });
  }

  /** @param first the kernel's parameters before those of the loss */
  private void launchLoss(
    String kernel,
    Shape shape,
    DistributionLoss loss,
    long labels,
    CudaMatrix losses,
    Object... first
  ) {
    Object[] others = {
      labels,
      loss.divergence().ordinal(),
      loss.beta(),
      loss.temperature(),
      loss.divergenceWeight(),
      loss.crossEntropyWeight(),
      loss.scale(),
      losses
    };
    Object[] all = Arrays.copyOf(first, first.length + others.length);
    System.arraycopy(others, 0, all, first.length, others.length);
    kernels.launch("distribution_loss", kernel, shape, all);
  }

  @Override
  protected void stateLossChecked(
    CudaMatrix states,
    CudaMatrix teacher,
    boolean cosine,
    float scale,
    CudaMatrix losses
  ) {
    int rows = states.rows();
    String kernel = cosine ? "cosineLoss" : "squaredLoss";
    context.run(() -> launch(kernel, warps(rows), states, teacher, rows, states.columns(), scale, losses));
  }

  @Override
  protected double squaresChecked(CudaMatrix x) {
    int blocks = (int) Math.min(Math.ceilDiv(x.count(), CudaKernels.THREADS), MAX_PARTS);
    return context.call(() -> {
      try (CudaMemory work = new CudaMemory(context); Arena arena = Arena.ofConfined()) {
        long sums = work.allocate(blocks, Double.BYTES, "sums of squares");
        launch("squares", new Shape(blocks, 1, CudaKernels.THREADS, 1), x, x.count(), sums);
        MemorySegment parts = arena.allocate(ValueLayout.JAVA_DOUBLE, blocks);
        context.read(sums, parts);
        double sum = 0;
        for (int i = 0; i < blocks; i++) {
          sum += parts.getAtIndex(ValueLayout.JAVA_DOUBLE, i);
        }
        return sum;
      }
    });
  }

  @Override
  protected void scaleChecked(float factor, CudaMatrix x) {
    context.run(() -> launch("scale", Shape.of(x.count()), factor, x.count(), x));
  }

  @Override
  protected void adamWChecked(
    CudaMatrix weights,
    CudaMatrix gradient,
    CudaMatrix first,
    CudaMatrix second,
    AdamStep step
  ) {
    context.run(() ->
      launch(
        "adamW",
        Shape.of(weights.count()),
        weights,
        gradient,
        first,
        second,
        weights.count(),
        step.rate(),
        step.beta1(),
        step.beta2(),
        step.epsilon(),
        step.decay(),
        (float) step.firstCorrection(),
        (float) step.secondCorrection(),
        step.gradientScale()
      )
    );
  }
}
