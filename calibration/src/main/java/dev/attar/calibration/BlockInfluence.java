package dev.attar.calibration;

import dev.attar.calibration.InputObserver.NotFiniteException;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * Sums up how much each block changes the direction of the residual stream: the cosine between what enters it and what leaves it, per
 * token. What leaves a block enters the next one.
 */
final class BlockInfluence {

  private final String model;
  private final Runnable alive;
  private final double[] cosines;
  private final long[] tokens;
  private final StateObserver observer;
  private float[][] stream; // a row for each token of this graph
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
    int[] all = IntStream.range(StateObserver.ENTERS, blocks).toArray();
    observer = new StateObserver(all, false, this::add);
  }

  /** What watches the computation. */
  NodeObserver observer() {
    return observer;
  }

  /** Precedes the computation of a window, for messages counted from 1. */
  void begin(int number) throws IOException {
    if (window > 0) {
      requireComplete();
    }
    window = number;
    observer.begin();
  }

  private void add(int block, Activations values) {
    alive.run();
    if (block == StateObserver.ENTERS) {
      stream = rows(values, "what enters block 0");
      return;
    }
    float[][] after = rows(values, "what leaves block " + block);
    if (after.length != stream.length || after[0].length != stream[0].length) {
      throw new UncheckedIOException(unknown("what enters block " + block + " has another shape than what leaves it"));
    }
    for (int i = 0; i < after.length; i++) {
      cosines[block] += cosine(stream[i], after[i]);
    }
    tokens[block] += after.length;
    stream = after;
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

  /** Checks that the graphs of the window had all blocks. */
  private void requireComplete() throws IOException {
    Optional<String> missing = observer.missing();
    if (missing.isPresent()) {
      throw unknown(missing.get());
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
      influence[i] = 1 - cosines[i] / tokens[i];
    }
    return influence;
  }
}
