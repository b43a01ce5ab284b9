package dev.attar.compute.cuda;

import static dev.attar.compute.cuda.CudaBlockType.IQ4_NL;
import static dev.attar.compute.cuda.CudaBlockType.Q2_K;
import static dev.attar.compute.cuda.CudaBlockType.Q4_K;
import static dev.attar.compute.cuda.CudaBlockType.Q5_K;
import static dev.attar.compute.cuda.CudaBlockType.Q6_K;
import static dev.attar.compute.cuda.CudaBlockType.Q8_0;

import dev.attar.compute.DeviceCoder;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.cuda.CudaBlockType.Bits;
import dev.attar.compute.cuda.CudaKernels.Shape;
import java.lang.foreign.MemorySegment;

/** Launches the kernels of {@code encoding.cu} for one type. */
final class CudaBlockCoder implements DeviceCoder<CudaMatrix> {

  private static final long NULL = 0;

  private final CudaContext context;
  private final CudaTransfers transfers;
  private final CudaKernels kernels;
  private final CudaBlockType type;

  CudaBlockCoder(CudaContext context, CudaTransfers transfers, CudaKernels kernels, CudaBlockType type) {
    this.context = context;
    this.transfers = transfers;
    this.kernels = kernels;
    this.type = type;
  }

  @Override
  public int blockLength() {
    return type.blockLength();
  }

  @Override
  public int groupLength() {
    return type.groupLength();
  }

  @Override
  public int blockBytes() {
    return type.blockBytes();
  }

  @Override
  public QuantizationGrid search(Scope scope, CudaMatrix weights, float[] importance, CudaMatrix levels) {
    int rows = weights.columns();
    int blocks = weights.rows() / type.blockLength();
    int groups = blocks * type.groups();
    try (CudaMemory memory = new CudaMemory(context)) {
      long columns = NULL;
      if (importance != null) {
        columns = transfers.upload(memory, MemorySegment.ofArray(importance), "the importance of columns");
      }
      Search search = new Search(
        memory,
        weights,
        columns,
        (CudaMatrix) scope.matrix(blocks, rows),
        (CudaMatrix) scope.matrix(blocks, rows),
        (CudaMatrix) scope.matrix(groups, rows),
        (CudaMatrix) scope.matrix(groups, rows),
        levels
      );
      context.run(search::run);
      return type.grid(search.d, search.dmin, search.scale, search.minimum);
    }
  }

  /**
   * One search. The groups' scales and minimums lie in the grid's matrices until those of the blocks are found.
   *
   * @param importance address of one weight per column, or {@link #NULL}
   */
  private final class Search {

    private final CudaMemory memory;
    private final CudaMatrix weights;
    private final long importance;
    private final CudaMatrix d;
    private final CudaMatrix dmin;
    private final CudaMatrix scale;
    private final CudaMatrix minimum;
    private final CudaMatrix levels;
    private final int n;
    private final int rows;
    private final int blocks;
    private final int groups;

    Search(
      CudaMemory memory,
      CudaMatrix weights,
      long importance,
      CudaMatrix d,
      CudaMatrix dmin,
      CudaMatrix scale,
      CudaMatrix minimum,
      CudaMatrix levels
    ) {
      this.memory = memory;
      this.weights = weights;
      this.importance = importance;
      this.d = d;
      this.dmin = dmin;
      this.scale = scale;
      this.minimum = minimum;
      this.levels = levels;
      n = weights.rows();
      rows = weights.columns();
      blocks = d.rows();
      groups = scale.rows();
    }

    void run() {
      switch (type) {
        case Q4_0, Q5_0, Q4_1, Q5_1, Q8_0 -> oneGroup();
        case IQ4_NL, IQ4_XS -> codebook();
        case Q2_K, Q4_K, Q5_K -> withMinimum();
        case Q3_K, Q6_K -> withoutMinimum();
      }
    }

    private boolean isWeighted() {
      return importance != NULL;
    }

    private void launchForGroups(String kernel, Object... arguments) {
      launch(kernel, rows, groups, arguments);
    }

    private void launchForBlocks(String kernel, Object... arguments) {
      launch(kernel, rows, blocks, arguments);
    }

    /** What a weight's square is added to in a search with importance, (n / length, rows); {@link #NULL} without. */
    private long spread(int length, float factor, float divisor) {
      if (!isWeighted()) {
        return NULL;
      }
      long spread = memory.allocate((long) (n / length) * rows, Float.BYTES, "the spread of weights");
      launch("encodingSpreads", rows, n / length, weights, length, rows, factor, divisor, spread);
      return spread;
    }

    /** Room for a number per group and row. */
    private long perGroup() {
      return memory.allocate((long) groups * rows, Float.BYTES, "what groups weigh");
    }

    private void oneGroup() {
      int codes = type.mostLevel() - type.leastLevel();
      int half = -type.leastLevel();
      if (type == Q8_0) {
        launchForGroups("roundBytes", weights, rows, scale, levels);
      } else if (isWeighted()) {
        long spread = spread(n, 1, n);
        if (type.hasMinimum()) {
          searchAffine(spread, groups, codes, -0.9f, 0.05f, 36, NULL);
        } else {
          searchSymmetric(spread, groups, half, NULL);
        }
      } else if (type.hasMinimum()) {
        launchForGroups("roundAffine", weights, codes, rows, scale, minimum, levels);
      } else {
        launchForGroups("roundSymmetric", weights, half, rows, scale, levels);
      }
      scalesOfOneGroup(NULL);
    }

    private void scalesOfOneGroup(long inverse) {
      launchForBlocks("scalesOfOneGroup", scale, minimum, type.hasMinimum() ? 1 : 0, rows, d, dmin, inverse);
    }

    private void codebook() {
      int length = type.blockLength();
      long spread = spread(length, 1, length / 2);
      launchForGroups("searchCodebook", weights, importance, spread, type.groups(), rows, scale);
      long inverse = perGroup();
      if (type == IQ4_NL) {
        scalesOfOneGroup(inverse);
      } else {
        launchForBlocks("scalesIq4Xs", scale, minimum, rows, d, dmin, inverse);
      }
      launchForGroups("nearestCodewords", weights, inverse, rows, levels);
    }

    private void withMinimum() {
      long spread = spread(256, type == Q2_K ? 1 : 2, 256);
      long sums = isWeighted() ? perGroup() : NULL;
      int most = type.mostLevel();
      if (isWeighted()) {
        searchAffine(spread, type.groups(), most, -0.9f, 0.05f, 36, sums);
      } else {
        searchAffine(spread, type.groups(), most, type == Q4_K ? -1 : -0.5f, 0.1f, type == Q4_K ? 20 : 15, sums);
      }
      if (type == Q2_K) {
        launchForBlocks("scalesQ2K", scale, minimum, sums, rows, d, dmin);
      } else {
        launchForBlocks("scalesQ4K", scale, minimum, sums, type == Q5_K ? 63 : 255, rows, d, dmin);
      }
      nearestLevels();
    }

    private void withoutMinimum() {
      int half = -type.leastLevel();
      if (type == Q6_K) {
        searchSymmetric(NULL, type.groups(), half, NULL);
        launchForBlocks("scalesQ6K", scale, minimum, rows, d, dmin, levels);
      } else {
        long sums = NULL;
        if (isWeighted()) {
          sums = perGroup();
          searchSymmetric(spread(256, 2, 256), type.groups(), half, sums);
        } else {
          launchForGroups("searchDescent", weights, half, rows, scale, levels);
        }
        launchForBlocks("scalesQ3K", scale, minimum, sums, rows, d, dmin);
      }
      nearestLevels();
    }

    /** Tries scales by which a group spans {@code maxCode + from + step * i} codes, i = 0 … last. */
    private void searchAffine(long spread, int spreadGroups, int maxCode, float from, float step, int last, long sums) {
      launchForGroups(
        "searchAffine" + type.groupLength(),
        weights,
        importance,
        spread,
        spreadGroups,
        maxCode,
        from,
        step,
        last,
        type == Q2_K && !isWeighted() ? 1 : 0,
        type == Q2_K ? 0 : 1,
        rows,
        scale,
        minimum,
        sums,
        levels
      );
    }

    private void searchSymmetric(long spread, int spreadGroups, int half, long sums) {
      launchForGroups(
        "searchSymmetric" + type.groupLength(),
        weights,
        importance,
        spread,
        spreadGroups,
        half,
        rows,
        scale,
        sums,
        levels
      );
    }

    private void nearestLevels() {
      launchForGroups(
        "nearestLevels",
        weights,
        d,
        dmin,
        scale,
        minimum,
        type.groupLength(),
        type.leastLevel(),
        type.mostLevel(),
        rows,
        levels
      );
    }
  }

  @Override
  public void pack(QuantizationGrid grid, CudaMatrix levels, MemorySegment to) {
    int rows = grid.rows();
    int blocks = grid.d().rows();
    long bytes = (long) rows * blocks * type.blockBytes();
    try (CudaMemory memory = new CudaMemory(context)) {
      long encoded = memory.allocate(bytes, 1, "encoded rows");
      context.run(() -> {
        packScales(grid, encoded);
        int least = type.hasCodebook() || type == Q8_0 ? 0 : type.leastLevel();
        for (Bits part : type.codes()) {
          launch(
            "packCodes",
            rows,
            blocks,
            levels,
            type.hasCodebook() ? 1 : 0,
            least,
            part.shift(),
            part.bits(),
            part.stride(),
            part.offset(),
            part.bytes(),
            type.blockLength(),
            type.blockBytes(),
            rows,
            encoded
          );
        }
      });
      transfers.download(encoded, to, bytes);
    }
  }

  private void packScales(QuantizationGrid grid, long encoded) {
    int rows = grid.rows();
    int blocks = grid.d().rows();
    int bytes = type.blockBytes();
    // Blocks of one group store what is added, not what is subtracted.
    int negative = type.hasSubScales() ? 0 : 1;
    launch(
      "packHalves",
      rows,
      blocks,
      grid.d(),
      grid.dmin(),
      type.dOffset(),
      type.dminOffset(),
      negative,
      bytes,
      rows,
      encoded
    );
    switch (type) {
      case Q2_K -> launch("packScalesQ2K", rows, blocks, grid.scale(), grid.minimum(), bytes, rows, encoded);
      case Q3_K -> launch("packScalesQ3K", rows, blocks, grid.scale(), bytes, rows, encoded);
      case Q4_K, Q5_K -> launch("packScalesQ4K", rows, blocks, grid.scale(), grid.minimum(), bytes, rows, encoded);
      case Q6_K -> launch("packScalesQ6K", rows, blocks, grid.scale(), bytes, rows, encoded);
      case IQ4_XS -> launch("packScalesIq4Xs", rows, blocks, grid.scale(), bytes, rows, encoded);
      case Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, IQ4_NL -> {}
    }
  }

  /** Launches a kernel with a thread for each row and, as blockIdx.y, each of so many parts of a row. */
  private void launch(String kernel, int rows, int parts, Object... arguments) {
    kernels.launch("encoding", kernel, Shape.of(rows, CudaKernels.THREADS, parts), arguments);
  }
}
