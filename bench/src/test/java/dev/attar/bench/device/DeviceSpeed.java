package dev.attar.bench.device;

import dev.attar.bench.device.Cost.Gpu;
import dev.attar.bench.device.Cost.Limit;
import dev.attar.compute.BlockCoder;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.compute.Sparsity;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockGrid;
import dev.attar.quant.gptq.Effort;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * Times the operations that GPTQ of one matrix asks of a device, as {@code bench/gpu-speed.sh} prints it: each beside what an H100 needs
 * for it at least, as {@code docs/gpu.md} derives that.
 */
public final class DeviceSpeed implements AutoCloseable {

  private static final int TOKENS = 8192;
  private static final Effort EFFORT = Effort.of(Effort.DEFAULT);
  private static final String TYPE = "Q4_K";

  private final Device device;
  private final int rows;
  private final int n;
  private final Scope scope;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment host;
  private final float[] importance;
  private final int[] order;
  private final double[] errors;
  private final Matrix straight;
  private final Matrix weights;
  private final Matrix activations;
  private final Matrix gram;
  private final Matrix factor;
  private final Matrix levels;
  private final float ridge = 0.02f;

  /** Arguments: auto, cpu or cuda; rows, columns, the processor's threads, number of timed runs. */
  public static void main(String[] args) {
    try {
      int threads = Integer.parseInt(args[3]);
      int rows = Integer.parseInt(args[1]);
      int n = Integer.parseInt(args[2]);
      if (n % QuantizationGrid.LONGEST_BLOCK != 0) {
        throw new IllegalArgumentException(n + " columns, expected a multiple of " + QuantizationGrid.LONGEST_BLOCK);
      }
      try (
        Devices.Opened opened = Devices.open(choice(args[0]), threads);
        DeviceSpeed speed = new DeviceSpeed(opened.device(), rows, n)
      ) {
        speed.print(Integer.parseInt(args[4]));
      }
    } catch (IOException | IllegalArgumentException | DeviceException e) {
      System.err.println(e.getMessage());
      System.exit(1);
    }
  }

  private static DeviceChoice choice(String name) {
    for (DeviceChoice choice : DeviceChoice.values()) {
      if (choice.name().equalsIgnoreCase(name)) {
        return choice;
      }
    }
    throw new IllegalArgumentException("unknown device '" + name + "', expected auto, cpu or cuda");
  }

  /** Random weights (rows, n) and activations. */
  DeviceSpeed(Device device, int rows, int n) {
    this.device = device;
    this.rows = rows;
    this.n = n;
    scope = device.scope();
    host = arena.allocate(ValueLayout.JAVA_FLOAT, Math.max((long) rows * n, (long) TOKENS * n));
    importance = new float[n];
    Arrays.fill(importance, 1);
    order = IntStream.range(0, n).toArray();
    errors = new double[rows];
    straight = scope.matrix(rows, n);
    weights = scope.matrix(n, rows);
    activations = scope.matrix(TOKENS, n);
    gram = scope.matrix(n, n);
    factor = scope.matrix(n, n);
    levels = scope.matrix(n, rows);
    fill(1, (long) TOKENS * n);
    device.upload(host, activations);
    fill(0.02, (long) rows * n);
  }

  /** Normal numbers, those of one token with something in common. */
  private void fill(double scale, long count) {
    SplittableRandom random = new SplittableRandom(1);
    double common = 0;
    for (long i = 0; i < count; i++) {
      common = i % n == 0 ? random.nextGaussian() : common;
      host.setAtIndex(ValueLayout.JAVA_FLOAT, i, (float) (scale * (random.nextGaussian() + 0.5 * common)));
    }
  }

  /** Times the operations once, in seconds. */
  private Map<String, Double> run() {
    Map<String, Double> seconds = new HashMap<>();
    time(seconds, "upload", () -> device.upload(host, straight));
    time(seconds, "transpose", () -> device.transpose(straight, weights));
    time(seconds, "syrk", () -> device.syrk(1f / TOKENS, activations, 0, gram));
    time(seconds, "mirror", () -> device.mirror(gram));
    time(seconds, "feedbackFactor", () -> {
      if (device.feedbackFactor(gram, ridge, order, factor) != 0) {
        throw new IllegalStateException("the Gram matrix is not positive definite");
      }
    });
    try (Scope ofGrid = device.scope(); Arena meanwhile = Arena.ofShared()) {
      BlockCoder coder = device.coder(TYPE).orElse(null);
      QuantizationGrid[] grid = { coder == null ? guess(ofGrid) : null };
      if (coder != null) {
        time(seconds, "search", () -> grid[0] = coder.search(ofGrid, weights, importance, levels));
      }
      time(seconds, "columnWalk", () ->
        device.columnWalk(weights, factor, ridge, order, grid[0], EFFORT.reach(), levels, errors)
      );
      time(seconds, "refine", () ->
        device.refine(weights, gram, ridge, grid[0], levels, EFFORT.passes(), EFFORT.scales(), errors)
      );
      if (coder != null) {
        MemorySegment blocks = meanwhile.allocate(TensorType.valueOf(TYPE).rowBytes(n) * rows);
        time(seconds, "pack", () -> coder.pack(grid[0], levels, blocks));
      }
    }
    float[] norms = new float[n];
    Arrays.fill(norms, 1);
    time(seconds, "sparseWalk", () ->
      device.sparseWalk(weights, factor, ridge, order, new Sparsity.Rows(n / 2), levels, errors)
    );
    time(seconds, "prune (2:4)", () -> device.prune(levels, norms, new Sparsity.Pattern(2, 4)));
    device.transpose(straight, weights);
    time(seconds, "prune (rows)", () -> device.prune(weights, norms, new Sparsity.Rows(n / 2)));
    return seconds;
  }

  /** Scales that fit normal weights roughly, where the device has no search of its own. */
  private QuantizationGrid guess(Scope ofGrid) {
    BlockGrid format = BlockGrid.of(TensorType.valueOf(TYPE)).orElseThrow();
    int blocks = n / format.type().blockLength();
    int groups = blocks * format.groups();
    return new QuantizationGrid(
      format.levels(),
      format.groupLength(),
      format.type().blockLength(),
      format.leastScale(),
      format.mostScale(),
      format.leastMinimum(),
      format.mostMinimum(),
      constant(ofGrid, blocks, 0x1p-13f),
      constant(ofGrid, blocks, 0x1p-10f),
      constant(ofGrid, groups, 50),
      constant(ofGrid, groups, 45)
    );
  }

  private Matrix constant(Scope ofGrid, int matrixRows, float value) {
    float[] values = new float[matrixRows * rows];
    Arrays.fill(values, value);
    Matrix matrix = ofGrid.matrix(matrixRows, rows);
    device.upload(MemorySegment.ofArray(values), matrix);
    return matrix;
  }

  private static void time(Map<String, Double> seconds, String operation, Runnable task) {
    long start = System.nanoTime();
    task.run();
    seconds.put(operation, (System.nanoTime() - start) / 1e9);
  }

  /** Prints a table of so many runs after one that warms up. */
  void print(int runs) {
    run();
    List<Map<String, Double>> all = new ArrayList<>();
    for (int i = 0; i < runs; i++) {
      all.add(run());
    }
    System.out.printf(
      Locale.ROOT,
      "%d x %d %s, %s%n%-16s %10s %22s %14s  %s%n",
      rows,
      n,
      TYPE,
      device.name(),
      "operation",
      "ms",
      "(least to most)",
      "H100 at least",
      "limit"
    );
    List<Cost> costs = new ArrayList<>();
    costs.add(Cost.gram(TOKENS, n).withoutLink());
    costs.addAll(Cost.preparing(n));
    costs.addAll(Cost.quantizing(rows, n, EFFORT));
    costs.addAll(Cost.pruning(rows, n));
    for (Cost cost : costs) {
      double[] times = all
        .stream()
        .mapToDouble(run -> 1e3 * run.getOrDefault(cost.operation(), Double.NaN))
        .sorted()
        .toArray();
      if (!Double.isNaN(times[0])) {
        Limit floor = cost.floor(Gpu.H100);
        System.out.printf(
          Locale.ROOT,
          "%-16s %10.2f %10.2f to %8.2f %14.2f  %s%n",
          cost.operation(),
          times[runs / 2],
          times[0],
          times[runs - 1],
          1e3 * floor.seconds(),
          floor.name()
        );
      }
    }
  }

  @Override
  public void close() {
    scope.close();
    arena.close();
  }
}
