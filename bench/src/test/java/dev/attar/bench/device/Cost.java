package dev.attar.bench.device;

import dev.attar.quant.gptq.Effort;
import java.util.List;

/**
 * What an operation asks of a GPU at least.
 *
 * @param operation its name, that of a method of {@code Device} where there is one
 * @param link bytes between the host's memory and the GPU's
 * @param bytes bytes to and from the GPU's memory, where what fits the caches is read once
 * @param flops additions, multiplications and the like in single precision; a fused multiply-add is two
 * @param chain how many of them come one after the other, since each needs the one before, on the thread that has the most
 */
record Cost(String operation, double link, double bytes, double flops, double chain) {
  /** Columns between two matrix products of the walk and of the refinement. */
  private static final int BLOCK = 256;

  /** The same of SparseGPT's walk. */
  private static final int SPARSE_BLOCK = 128;

  /** Columns that share a scale, in Q4_K and most others. */
  private static final int GROUP = 32;

  /** Tries of scales for a group in ggml's search, and operations per weight of each. */
  private static final int TRIES = 21;

  private static final int SEARCH = 18;

  /** Operations of rounding a number to the grid, and how many of these wait for each other. */
  private static final int ROUNDING = 12;

  /** Rates of a GPU, per second. */
  record Gpu(String name, double link, double bytes, double flops, double chained) {
    /**
     * An H100: 16 lanes of PCIe 5 at 50 GB/s, 3.0 TB/s of memory, 60 TFLOP/s in single precision; 1.755 GHz, and 4 cycles until a result
     * can be used.
     */
    static final Gpu H100 = new Gpu("H100", 50e9, 3.0e12, 60e12, 1.755e9 / 4);
  }

  /** A limit and the time that it asks for. */
  record Limit(String name, double seconds) {}

  /** What binds on a GPU. */
  Limit floor(Gpu gpu) {
    List<Limit> limits = List.of(
      new Limit("link", link / gpu.link),
      new Limit("memory", bytes / gpu.bytes),
      new Limit("arithmetic", flops / gpu.flops),
      new Limit("dependence", chain / gpu.chained)
    );
    Limit most = limits.getFirst();
    for (Limit limit : limits) {
      most = limit.seconds > most.seconds ? limit : most;
    }
    return most;
  }

  /** Sums of products of the activations of so many tokens. */
  static Cost gram(int tokens, int n) {
    return new Cost("syrk", 4.0 * tokens * n, 4.0 * tokens * n + 4.0 * n * n, (double) tokens * n * n, tokens);
  }

  /** The same when all that it needs is there. */
  Cost withoutLink() {
    return new Cost(operation, 0, bytes, flops, chain);
  }

  /** What a Gram matrix needs once. */
  static List<Cost> preparing(int n) {
    double square = (double) n * n;
    return List.of(
      new Cost("upload (Gram)", 4 * square, 4 * square, 0, 0),
      new Cost("mirror", 0, 4 * square, 0, 0),
      // Gathered, factored in place by panels, divided; a chain of a root and a division per column.
      new Cost("feedbackFactor", 0, 4 * 4 * square, (square * n) / 3, 20.0 * n)
    );
  }

  /** What a matrix (rows, n) goes through, in the order of the operations. */
  static List<Cost> quantizing(int rows, int n, Effort effort) {
    double weights = (double) rows * n;
    int candidates = effort.reach() == 0 ? 0 : (2 * effort.reach() + 1) * (2 * ((2 * effort.reach() + 1) / 3) + 1);
    double inGroup = (GROUP + 1) / 2.0;
    double inBlock = BLOCK / 2.0;
    double chosen = candidates * (inGroup + ROUNDING);
    // Four gradients of each column, of which one for the groups and blocks goes on with products of their own.
    double gradients = 4.0 * BLOCK + 2 * GROUP + 2 * BLOCK;
    int passes = effort.passes();
    return List.of(
      new Cost("upload", 4 * weights, 4 * weights, 0, 0),
      new Cost("transpose", 0, 8 * weights, 0, 0),
      new Cost("search", 0, 4 * 4 * weights, TRIES * SEARCH * weights, TRIES * 2 * GROUP),
      new Cost(
        "columnWalk",
        0,
        4 * weights * (3 + n / (2.0 * BLOCK)),
        weights * (n + 2 * inBlock + 2 * chosen + ROUNDING),
        n * (inBlock + chosen + ROUNDING)
      ),
      new Cost(
        "refine",
        0,
        passes * 4 * weights * (5 + (double) n / BLOCK),
        passes * weights * (2.0 * n + 2 * gradients),
        passes * n * (gradients + 2 * ROUNDING)
      ),
      new Cost("pack", 0, 4.56 * weights, 10 * weights, 0),
      new Cost("download", 0.56 * weights, 0.56 * weights, 0, 0)
    );
  }

  /** What pruning a matrix (rows, n) asks for. */
  static List<Cost> pruning(int rows, int n) {
    double weights = (double) rows * n;
    // Errors within a block of 128 columns come one after the other; each block is walked once to score it and once to prune it.
    double inBlock = 2 * (SPARSE_BLOCK / 2.0);
    return List.of(
      // Scores are read for each of four digits of a radix selection, and to cut.
      new Cost("prune (rows)", 0, 4 * 6 * weights, 5 * 6 * weights, 0),
      new Cost("prune (2:4)", 0, 4 * 2 * weights, 8 * weights, 0),
      new Cost("sparseWalk", 0, 4 * weights * (8 + n / (2.0 * SPARSE_BLOCK)), weights * (n + 2 * inBlock), n * inBlock)
    );
  }
}
