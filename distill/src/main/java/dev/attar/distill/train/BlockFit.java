package dev.attar.distill.train;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.distill.DistillOptions.Schedule;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Shape;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Question.Distribution;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.List;
import java.util.stream.IntStream;

/**
 * Block reconstruction: each block of the student is given what enters a range of the teacher's blocks, x, and learns to give what leaves
 * it, t. A token's loss for an output o is {@code |o - t|² / (|t - x|² + 0.01 |t|²)}: 0 for the teacher's answer, and at most 1 for leaving
 * the token as it is, whatever the scale of the stream at that depth. It is relative for each token by itself, since a few tokens, mostly
 * the first of a window, have states a thousand times as long as the others', which would be all that is learned. The second term keeps
 * tokens that a range hardly changes from counting more than others: the norms after it divide by the stream's own length.
 *
 * <p>Blocks are trained as if they were models of their own: one's gradient is not shortened because another's is long.
 */
final class BlockFit implements Learner, AutoCloseable {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** How much of a token's own square is added to that of its change. */
  private static final double OWN = 0.01;

  /** Rows of a part of the work that threads share. */
  private static final int ROWS = 64;

  private final Device device;
  private final Network network;
  private final int context;
  private final List<Integer> ends;
  private final List<Optimizer> optimizers;
  private final double[] norms;
  private final double[] rowLosses;
  private final Workers workers;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment found;
  private final Scope scope;
  private final Matrix entering;

  /**
   * @param ends the teacher's block after which each block of the student ends, ascending
   * @param sequences the most windows that are computed together
   * @param context tokens in a window
   * @param threads that share what is done outside of the device
   * @throws dev.attar.compute.OutOfDeviceMemoryException if the device has no room for it
   */
  BlockFit(
    Device device,
    Network network,
    List<Integer> ends,
    int sequences,
    int context,
    int threads,
    Schedule schedule
  ) {
    this.device = device;
    this.network = network;
    this.context = context;
    int width = network.shape().embedding();
    int rows = sequences * context;
    this.ends = List.copyOf(ends);
    optimizers = IntStream.range(0, ends.size())
      .mapToObj(block -> new Optimizer(device, network.parameters(block), schedule))
      .toList();
    norms = new double[ends.size()];
    rowLosses = new double[rows];
    found = arena.allocate(FLOAT, (long) rows * width);
    scope = device.scope();
    try {
      entering = scope.matrix(rows, width);
    } catch (RuntimeException e) {
      scope.close();
      arena.close();
      throw e;
    }
    workers = new Workers(threads);
  }

  /** Bytes of the device's memory that it takes. */
  static long bytes(Shape shape, int sequences, int context) {
    return (long) Float.BYTES * sequences * context * shape.embedding();
  }

  @Override
  public Question question(int[] windows) {
    return question(ends, windows);
  }

  /** What a teacher is asked of some windows: what enters the first block, and what leaves each of the ends. */
  static Question question(List<Integer> ends, int[] windows) {
    int[] states = IntStream.concat(IntStream.of(-1), ends.stream().mapToInt(Integer::intValue)).toArray();
    return new Question(windows, new Distribution.None(), states);
  }

  @Override
  public void learn(int[] windows, Answer answer, int batch, LossSums sums) {
    int rows = windows.length * context;
    sums.addWindows(windows.length);
    Matrix in = entering.rows(0, rows);
    for (int block = 0; block < optimizers.size(); block++) {
      MemorySegment before = answer.states().get(block);
      MemorySegment after = answer.states().get(block + 1);
      device.upload(before, in);
      Matrix out = network.blockForward(block, in);
      device.download(out, found);
      double scale = 2.0 / ((double) batch * context);
      workers.share(0, rows, ROWS, (from, to) -> {
        for (int row = from; row < to; row++) {
          rowLosses[row] = differentiate(before, after, row, scale);
        }
      });
      for (int row = 0; row < rows; row++) {
        sums.addStates(rowLosses[row]);
      }
      device.upload(found, out);
      network.blockBackward(block, in, out);
    }
  }

  /** A row's loss; what was found becomes the gradient. */
  private double differentiate(MemorySegment before, MemorySegment after, int row, double scale) {
    int width = network.shape().embedding();
    long begin = (long) row * width;
    double change = 0;
    double own = 0;
    double error = 0;
    for (long i = begin; i < begin + width; i++) {
      double wanted = after.getAtIndex(FLOAT, i);
      double changed = wanted - before.getAtIndex(FLOAT, i);
      double missed = found.getAtIndex(FLOAT, i) - wanted;
      change += changed * changed;
      own += wanted * wanted;
      error += missed * missed;
    }
    double weight = 1 / (change + OWN * own);
    if (weight == Double.POSITIVE_INFINITY) {
      weight = 0; // zeros that are to stay zeros are nothing to learn from
    }
    for (long i = begin; i < begin + width; i++) {
      double missed = found.getAtIndex(FLOAT, i) - after.getAtIndex(FLOAT, i);
      found.setAtIndex(FLOAT, i, (float) (scale * weight * missed));
    }
    return error * weight;
  }

  /** The length of all blocks' gradients together. */
  @Override
  public double gradientNorm() {
    double squares = 0;
    for (int block = 0; block < norms.length; block++) {
      double own = optimizers.get(block).squares();
      norms[block] = Math.sqrt(own);
      squares += own;
    }
    return Math.sqrt(squares);
  }

  @Override
  public String notFinite() {
    for (int block = 0; block < norms.length; block++) {
      if (!Double.isFinite(norms[block])) {
        return optimizers.get(block).notFinite();
      }
    }
    return "all weights";
  }

  @Override
  public void update(double rate, int number) {
    for (int block = 0; block < norms.length; block++) {
      optimizers.get(block).step(norms[block], rate, number);
    }
  }

  @Override
  public Losses losses(LossSums sums) {
    double loss = sums.states(optimizers.size());
    return new Losses(loss, Double.NaN, Double.NaN, loss);
  }

  @Override
  public void close() {
    workers.close();
    scope.close();
    arena.close();
  }
}
