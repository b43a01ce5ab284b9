package dev.attar.calibration;

import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.lang.foreign.Arena;
import java.util.Optional;

/**
 * Finds the residual stream in llama.cpp's graphs, which name what leaves a block {@code l_out-N}. What enters the first one has names that
 * differ among architectures, and some have it scaled first; it is what the first operation of block 0 reads, which does not overwrite it,
 * since the block's result is added to it.
 */
public final class StateObserver implements NodeObserver {

  /** The number that stands for what enters the first block. */
  public static final int ENTERS = -1;

  private static final String LEAVES = "l_out-";
  private static final String FIRST = "-0";

  private final int[] blocks;
  private final boolean goesOn;
  private final Sink sink;
  private int next; // of the blocks, the one whose result comes next
  private int graphs; // that had all of them

  /** Takes states. */
  @FunctionalInterface
  public interface Sink {
    /**
     * @param block the block that they leave, or {@link #ENTERS}
     * @param rows a row for each token of the graph; to be used during the call
     */
    void accept(int block, Activations rows);
  }

  /**
   * @param blocks the blocks after which the stream is wanted, ascending, at least one: block 0's number is 0, {@link #ENTERS} stands for
   *     what enters it. Not copied
   * @param goesOn whether the rest of a graph is to be computed; otherwise it ends after the last of the blocks
   */
  public StateObserver(int[] blocks, boolean goesOn, Sink sink) {
    this.blocks = blocks;
    this.goesOn = goesOn;
    this.sink = sink;
  }

  /** Precedes each graph, if graphs are computed to their ends; otherwise some of them, as those of a window. */
  public void begin() {
    next = 0;
    graphs = 0;
  }

  @Override
  public boolean wants(Node node) {
    if (goesOn && graphs > 0) {
      return false; // for the rest of this graph
    }
    String name = node.name();
    int block = blocks[next];
    return block == ENTERS ? name.endsWith(FIRST) : name.equals(LEAVES + block);
  }

  @Override
  public boolean computed(Node node) {
    int block = blocks[next];
    try (Arena arena = Arena.ofShared()) {
      // for a sink with threads
      // Of a product with a weight, the weight comes first.
      int activations = node.op() == Node.Op.MUL_MAT ? 1 : 0;
      Node values = block == ENTERS ? node.source(activations).orElseThrow() : node;
      sink.accept(block, Activations.ofResult(values, arena));
    }
    next++;
    if (next < blocks.length) {
      return true;
    }
    next = 0;
    graphs++;
    return goesOn;
  }

  /** What the graphs since {@link #begin} lacked; empty if they had all that was wanted. */
  public Optional<String> missing() {
    if (next == 0 && graphs > 0) {
      return Optional.empty();
    }
    int block = blocks[next];
    return Optional.of(
      block == ENTERS
        ? "nothing is found in llama.cpp's graph that belongs to block 0"
        : "no result of block " + block + " is found in llama.cpp's graph, expected one named " + LEAVES + block
    );
  }
}
