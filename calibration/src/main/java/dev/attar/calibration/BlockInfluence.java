package dev.attar.calibration;

import dev.attar.calibration.InputObserver.NotFiniteException;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;

/**
 * Sums up how much each block changes the direction of the residual stream: the cosine between what enters it and what leaves it, per
 * token. llama.cpp names what leaves a block {@code l_out-N}, which is what enters the next one. What enters the first one has names that
 * differ among architectures, and some have it scaled, which changes no direction; it is what the first operation of block 0 reads.
 */
final class BlockInfluence implements NodeObserver {

  private static final String LEAVES = "l_out-";
  private static final String FIRST = "-0";

  private final String model;
  private final Runnable alive;
  private final double[] cosines;
  private final long[] tokens;
  private float[][] stream; // a row for each token of this graph; null before the first block
  private int next; // the block that the stream enters
  private int window;

  /**
   * @param model for messages
   * @param blocks how many there are
   * @param alive called often
   */
  BlockInfluence(String model, int blocks, Runnable alive) {
    this.model = model;
    this.alive = alive;
    cosines = new double[blocks];
    tokens = new long[blocks];
  }

  /** Precedes the computation of a window, for messages counted from 1. */
  void begin(int number) throws IOException {
    requireComplete();
    window = number;
  }

  @Override
  public boolean wants(Node node) {
    String name = node.name();
    return stream == null ? name.endsWith(FIRST) : name.equals(LEAVES + next);
  }

  @Override
  public boolean computed(Node node) {
    alive.run();
    try (Arena arena = Arena.ofConfined()) {
      if (stream == null) {
        // Of a product with a weight, the weight comes first.
        int activations = node.op() == Node.Op.MUL_MAT ? 1 : 0;
        stream = rows(Activations.ofResult(node.source(activations).orElseThrow(), arena), "what enters block 0");
        return true;
      }
      float[][] after = rows(Activations.ofResult(node, arena), "what leaves block " + next);
      if (after.length != stream.length || after[0].length != stream[0].length) {
        throw new UncheckedIOException(unknown("what enters block " + next + " has another shape than what leaves it"));
      }
      for (int i = 0; i < after.length; i++) {
        cosines[next] += cosine(stream[i], after[i]);
      }
      tokens[next] += after.length;
      stream = after;
      next++;
    }
    if (next < cosines.length) {
      return true;
    }
    stream = null;
    next = 0;
    return false;
  }

  private float[][] rows(Activations values, String what) {
    float[][] rows = new float[values.count(0)][values.columns()];
    try {
      for (int i = 0; i < rows.length; i++) {
        values.copyRow(0, i, rows[i]);
        GramSums.requireFinite(rows[i]);
      }
    } catch (NotFiniteException e) {
      String found = what + " is not finite in window " + window + ", " + e.getMessage();
      throw new UncheckedIOException(new IOException(model + ": " + found));
    }
    return rows;
  }

  /** 1 for vectors that are the same, zeros too; 0 if only one is all zeros. */
  static double cosine(float[] a, float[] b) {
    double product = 0;
    double squareA = 0;
    double squareB = 0;
    for (int i = 0; i < a.length; i++) {
      product += (double) a[i] * b[i];
      squareA += (double) a[i] * a[i];
      squareB += (double) b[i] * b[i];
    }
    if (squareA == 0 || squareB == 0) {
      return squareA == squareB ? 1 : 0;
    }
    // Of the same vectors exactly 1. Squares of float32 do not overflow here, nor their products.
    return Math.clamp(product / Math.sqrt(squareA * squareB), -1, 1);
  }

  /** Checks that the graphs so far had all blocks. */
  private void requireComplete() throws IOException {
    if (stream != null) {
      throw unknown(
        "no result of block " + next + " is found in llama.cpp's graph, expected one named " + LEAVES + next
      );
    }
  }

  private IOException unknown(String problem) {
    return new IOException(model + ": " + problem + ", so the influence of blocks is not known");
  }

  /** For each block 1 less the mean cosine. */
  double[] influence() throws IOException {
    requireComplete();
    double[] influence = new double[cosines.length];
    for (int i = 0; i < influence.length; i++) {
      if (tokens[i] == 0) {
        throw unknown("nothing is found in llama.cpp's graph that belongs to block 0");
      }
      influence[i] = 1 - cosines[i] / tokens[i];
    }
    return influence;
  }
}
