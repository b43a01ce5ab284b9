package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.compute.Level3.Block;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * The CPU device's attention. Shapes have been checked. The heads of a group are computed together, since they read the same keys and
 * values, for a block of positions at a time: their scores with all positions that they see stay in a core's cache.
 */
final class CpuAttention {

  /** Rows of queries in a block, of all heads of a group together. */
  private static final int ROWS = 64;

  /** Scores of a block, at most, where it has more than {@link #LEAST_POSITIONS}. */
  private static final int SCORES = 1 << 16;

  private static final int LEAST_POSITIONS = 8;

  /** Parts that the work is cut into, at least, so that there is enough for all threads. */
  private static final int PARTS = 8;

  /** Multiplications of a product, at most, for which OpenBLAS has faster code that copies nothing. */
  private static final int SMALL = 1_000_000;

  private final CpuDevice device;
  private final Level3 blas;
  private final RowKernel kernel;

  CpuAttention(CpuDevice device, Level3 blas, RowKernel kernel) {
    this.device = device;
    this.blas = blas;
    this.kernel = kernel;
  }

  private static int roundUp(int n) {
    return Math.ceilDiv(n, RowKernel.WIDTH) * RowKernel.WIDTH;
  }

  /**
   * How attention is cut into blocks.
   *
   * @param positions of a block
   * @param chunks how many parts share a sequence and a group: every so many blocks are one's
   */
  private record Cut(AttentionShape shape, int pairs, int positions, int chunks) {
    static Cut of(AttentionShape shape, int rows) {
      int together = shape.heads() / shape.groups();
      int window = shape.window() == 0 ? shape.length() : Math.min(shape.length(), shape.window());
      int positions = Math.max(LEAST_POSITIONS, Math.min(ROWS, SCORES / window) / together);
      int pairs = (rows / shape.length()) * shape.groups();
      int chunks = Math.min(Math.ceilDiv(shape.length(), positions), Math.ceilDiv(PARTS, pairs));
      return new Cut(shape, pairs, Math.min(shape.length(), positions), chunks);
    }

    /** Heads that read the same keys and values. */
    int together() {
      return shape.heads() / shape.groups();
    }

    int blocks() {
      return Math.ceilDiv(shape.length(), positions);
    }

    /** The most rows that a block has: one for each position and head. */
    int rows() {
      return positions * together();
    }

    /** Room for a row of scores. */
    int width() {
      int window = shape.window() == 0 ? shape.length() : shape.window();
      return roundUp((int) Math.min(shape.length(), (long) window + positions));
    }

    /** Numbers of a block's scores. */
    long scores() {
      return (long) rows() * width();
    }

    /** Numbers of the heads of a block's rows. */
    long heads() {
      return (long) rows() * roundUp(shape.size());
    }

    /** Room for a number of every position. */
    int length() {
      return roundUp(shape.length());
    }

    /** Numbers of a group's keys in a sequence. */
    long keys() {
      return (long) length() * shape.size();
    }

    /** Positions that are multiplied with a block at a time. */
    int step() {
      return Math.max(64, (SMALL / rows() / shape.size()) & -32);
    }
  }

  /** Work on a part: some memory, and the blocks of one sequence and group. */
  @FunctionalInterface
  private interface Task {
    void run(MemorySegment memory, int pair, int chunk);
  }

  /** Shares sequences and groups. */
  private void share(Cut cut, long floats, Task task) {
    try (Scratch scratch = new Scratch(floats)) {
      device.parallel(0, Math.multiplyExact(cut.pairs(), cut.chunks()), 1, (part, _) ->
        scratch.use(memory -> task.run(memory, part / cut.chunks(), part % cut.chunks()))
      );
    }
  }

  /** One sequence, and the heads of one group. */
  private class Pair {

    final Cut cut;
    final AttentionShape shape;
    final int size;

    /** The sequence's first row, and the group's first head. */
    final int firstRow;

    final int firstHead;

    /** The group's first column in a matrix of keys or values. */
    final int firstColumn;

    /** The block's first position, and how many there are. */
    int start;

    int count;

    /** The first position that one of them sees, and how many there are up to the last. */
    int low;

    int seen;

    Pair(Cut cut, int pair) {
      this.cut = cut;
      shape = cut.shape();
      size = shape.size();
      int group = pair % shape.groups();
      firstRow = (pair / shape.groups()) * shape.length();
      firstHead = group * cut.together();
      firstColumn = group * size;
    }

    void setBlock(int block) {
      start = block * cut.positions();
      count = Math.min(cut.positions(), shape.length() - start);
      low = shape.first(start);
      seen = start + count - low;
    }

    int rows() {
      return count * cut.together();
    }

    /** The matrix's row of a position. */
    long row(int position) {
      return firstRow + (long) position;
    }

    /** The index of a position's head in a matrix that has a number for each head. */
    long head(int position, int head) {
      return row(position) * shape.heads() + firstHead + head;
    }

    /** Where a position's head begins in a matrix of all heads, in bytes. */
    long at(int position, int head) {
      return 4 * head(position, head) * size;
    }

    /** The group's keys or values from a position on. */
    Block keys(MemorySegment values, int position) {
      return blas.block(values, shape.groups() * size).at(firstRow + position, firstColumn);
    }

    /** Keys or values as columns: (size, length). */
    void transpose(MemorySegment values, MemorySegment to) {
      int stride = shape.groups() * size;
      long from = 4 * (row(0) * stride + firstColumn);
      kernel.transpose(values, from, stride, shape.length(), size, to, 0, cut.length());
    }

    /** Copies the block's heads to rows without gaps, in the order of the matrix's. */
    void gather(float factor, MemorySegment from, MemorySegment to) {
      int width = cut.together() * size;
      for (int i = 0; i < count; i++) {
        kernel.scale(factor, from, at(start + i, 0), to, 4L * i * width, width);
      }
    }

    /** Scores, or what is like them: the products of rows without gaps and of what they may see, given as columns. */
    void products(MemorySegment rows, MemorySegment columns, MemorySegment out) {
      Block left = blas.block(rows, size);
      Block right = blas.block(columns, cut.length());
      Block result = blas.block(out, cut.width());
      for (int j = 0; j < seen; j += cut.step()) {
        int n = Math.min(cut.step(), seen - j);
        blas.gemm(false, false, rows(), n, size, 1, left, right.at(0, low + j), 0, result.at(0, j));
      }
    }

    /** The sums of what is seen, with factors like scores. */
    void sums(double alpha, MemorySegment factors, MemorySegment of, MemorySegment out) {
      Block left = blas.block(factors, cut.width());
      Block result = blas.block(out, size);
      for (int j = 0; j < seen; j += cut.step()) {
        int n = Math.min(cut.step(), seen - j);
        blas.gemm(false, false, rows(), size, n, alpha, left.at(0, j), keys(of, low + j), j > 0 ? 1 : 0, result);
      }
    }

    /** Adds to what is seen the sums over rows, with factors like scores. */
    void addSums(MemorySegment factors, MemorySegment of, MemorySegment to) {
      Block left = blas.block(factors, cut.width());
      Block right = blas.block(of, size);
      for (int j = 0; j < seen; j += cut.step()) {
        int n = Math.min(cut.step(), seen - j);
        blas.gemm(true, false, n, size, rows(), 1, left.at(0, j), right, 1, keys(to, low + j));
      }
    }

    /** Where a row's scores begin for kernels: at a whole vector, up to the first one that the position sees. */
    int first(int position) {
      return ((shape.first(position) - low) / RowKernel.WIDTH) * RowKernel.WIDTH;
    }

    /** Fills scores before those that the position sees: with zeros, and with a number from {@link #first} on. */
    void fillBefore(MemorySegment scores, int row, int position, float value) {
      long at = 4L * row * cut.width();
      int first = first(position);
      fill(scores, at, 0, first, 0);
      fill(scores, at, first, shape.first(position) - low, value);
    }
  }

  private static void fill(MemorySegment values, long at, int from, int to, float value) {
    for (int i = from; i < to; i++) {
      values.set(JAVA_FLOAT, at + 4L * i, value);
    }
  }

  void attend(CpuMatrix q, CpuMatrix k, CpuMatrix v, AttentionShape shape, CpuMatrix out, CpuMatrix logSums) {
    Cut cut = Cut.of(shape, q.rows());
    int size = shape.size();
    share(cut, cut.scores() + cut.heads() + cut.keys(), (scores, index, chunk) -> {
      MemorySegment heads = scores.asSlice(4 * cut.scores());
      MemorySegment keys = heads.asSlice(4 * cut.heads());
      Pair pair = new Pair(cut, index);
      pair.transpose(k.values(), keys);
      float[] factors = new float[cut.rows()];
      float[] mostAndSum = new float[2];
      for (int block = chunk; block < cut.blocks(); block += cut.chunks()) {
        pair.setBlock(block);
        pair.gather(shape.scale(), q.values(), heads);
        pair.products(heads, keys, scores);
        int row = 0;
        for (int position = pair.start; position < pair.start + pair.count; position++) {
          for (int head = 0; head < cut.together(); head++) {
            pair.fillBefore(scores, row, position, Float.NEGATIVE_INFINITY);
            int first = pair.first(position);
            long at = 4 * ((long) row * cut.width() + first);
            kernel.softmax(scores, at, position + 1 - pair.low - first, roundUp(pair.seen) - first, mostAndSum);
            float logSum = (float) (mostAndSum[0] + Math.log(mostAndSum[1]));
            logSums.values().setAtIndex(JAVA_FLOAT, pair.head(position, head), logSum);
            factors[row++] = 1 / mostAndSum[1];
          }
        }
        pair.sums(1, scores, v.values(), heads);
        row = 0;
        for (int i = 0; i < pair.count; i++) {
          for (int head = 0; head < cut.together(); head++) {
            long to = pair.at(pair.start + i, head);
            kernel.scale(factors[row], heads, 4L * row * size, out.values(), to, size);
            row++;
          }
        }
      }
    });
  }

  void gradient(
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
    Cut cut = Cut.of(shape, q.rows());
    // Those of further chunks are added later, in order.
    long bytes = kGradient.bytes();
    long more = (cut.chunks() - 1) * kGradient.count();
    try (Arena arena = Arena.ofShared()) {
      MemorySegment kMore = NativeMemory.zeros(arena, more, Float.BYTES, "gradients of keys");
      MemorySegment vMore = NativeMemory.zeros(arena, more, Float.BYTES, "gradients of values");
      share(cut, 2 * (cut.scores() + cut.heads() + cut.keys()), (memory, index, chunk) -> {
        Gradient gradient = new Gradient(
          cut,
          index,
          logSums.values(),
          chunk == 0 ? kGradient.values() : kMore.asSlice((chunk - 1) * bytes, bytes),
          chunk == 0 ? vGradient.values() : vMore.asSlice((chunk - 1) * bytes, bytes),
          memory
        );
        gradient.begin(k.values(), v.values());
        for (int block = chunk; block < cut.blocks(); block += cut.chunks()) {
          gradient.setBlock(block);
          gradient.add(q.values(), k.values(), out.values(), outGradient.values(), qGradient.values());
        }
      });
      addMore(kMore, cut.chunks() - 1, kGradient);
      addMore(vMore, cut.chunks() - 1, vGradient);
    }
  }

  /** Adds further matrices, in order. */
  private void addMore(MemorySegment more, int count, CpuMatrix to) {
    if (count > 0) {
      int columns = to.columns();
      device.parallel(0, to.rows(), 16, (from, end) -> {
        long at = 4L * from * columns;
        for (int i = 0; i < count; i++) {
          kernel.add(more, i * to.bytes() + at, to.values(), at, (end - from) * columns);
        }
      });
    }
  }

  /** The gradient of blocks of one sequence and group. */
  private final class Gradient extends Pair {

    private final MemorySegment logSums;
    private final MemorySegment kGradient;
    private final MemorySegment vGradient;
    private final MemorySegment probabilities;
    private final MemorySegment derivatives;
    private final MemorySegment queries;
    private final MemorySegment given;
    private final MemorySegment keys;
    private final MemorySegment values;

    Gradient(
      Cut cut,
      int index,
      MemorySegment logSums,
      MemorySegment kGradient,
      MemorySegment vGradient,
      MemorySegment memory
    ) {
      super(cut, index);
      this.logSums = logSums;
      this.kGradient = kGradient;
      this.vGradient = vGradient;
      probabilities = memory;
      derivatives = probabilities.asSlice(4 * cut.scores());
      queries = derivatives.asSlice(4 * cut.scores());
      given = queries.asSlice(4 * cut.heads());
      keys = given.asSlice(4 * cut.heads());
      values = keys.asSlice(4 * cut.keys());
    }

    void begin(MemorySegment k, MemorySegment v) {
      transpose(k, keys);
      transpose(v, values);
      for (MemorySegment gradient : new MemorySegment[] { kGradient, vGradient }) {
        long stride = 4L * shape.groups() * size;
        for (int position = 0; position < shape.length(); position++) {
          gradient.asSlice(row(position) * stride + 4L * firstColumn, 4L * size).fill((byte) 0);
        }
      }
    }

    /** Writes the block's gradient of queries, and adds to those of what they see. */
    void add(MemorySegment q, MemorySegment k, MemorySegment out, MemorySegment outGradient, MemorySegment qGradient) {
      gather(shape.scale(), q, queries);
      gather(1, outGradient, given);
      products(queries, keys, probabilities);
      products(given, values, derivatives);
      int row = 0;
      for (int position = start; position < start + count; position++) {
        for (int head = 0; head < cut.together(); head++) {
          differentiate(row, position, head, out);
          row++;
        }
      }
      addSums(probabilities, given, vGradient);
      addSums(derivatives, queries, kGradient);
      sums(shape.scale(), derivatives, k, queries);
      int width = cut.together() * size;
      for (int i = 0; i < count; i++) {
        kernel.scale(1, queries, 4L * i * width, qGradient, at(start + i, 0), width);
      }
    }

    /** From scores and their products with the gradient to probabilities and the scores' derivatives. */
    private void differentiate(int row, int position, int head, MemorySegment out) {
      fillBefore(probabilities, row, position, Float.NEGATIVE_INFINITY);
      fillBefore(derivatives, row, position, 0);
      int first = first(position);
      long at = 4 * ((long) row * cut.width() + first);
      float delta = (float) kernel.dot(out, at(position, head), given, 4L * row * size, size);
      float logSum = logSums.getAtIndex(JAVA_FLOAT, head(position, head));
      int n = position + 1 - low - first;
      kernel.softmaxGradient(probabilities, derivatives, at, n, roundUp(seen) - first, logSum, delta);
    }
  }
}
