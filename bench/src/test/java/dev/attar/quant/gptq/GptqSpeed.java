package dev.attar.quant.gptq;

import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * Times GPTQ of one layer whose statistics are there, as {@code bench/gptq-speed.sh} prints it: from the Gram matrix in memory to
 * encoded rows.
 */
public final class GptqSpeed {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private GptqSpeed() {}

  /** Arguments: rows, columns, type, threads, number of timed runs of each effort, the efforts. */
  public static void main(String[] args) throws IOException {
    int rows = Integer.parseInt(args[0]);
    int columns = Integer.parseInt(args[1]);
    TensorType type = TensorType.valueOf(args[2]);
    int threads = Integer.parseInt(args[3]);
    int runs = Integer.parseInt(args[4]);
    try (
      Device device = Devices.cpu(threads);
      Workers workers = new Workers(threads);
      Arena arena = Arena.ofConfined()
    ) {
      System.out.printf(Locale.ROOT, "%d x %d %s, %s%n", rows, columns, type, device.name());
      MemorySegment gram = gram(device, arena, columns);
      float[] weights = normal(new SplittableRandom(2), rows * columns, 0.02f);
      for (int i = 5; i < args.length; i++) {
        int level = Integer.parseInt(args[i]);
        Effort effort = Effort.of(level);
        double[] seconds = new double[runs];
        double[] shares = new double[runs];
        double ratio = 1;
        for (int run = -1; run < runs; run++) {
          try (BlasShare share = new BlasShare(threads)) {
            long start = System.nanoTime();
            ratio = quantize(device, workers, effort, type, gram, columns, weights);
            if (run >= 0) {
              // the first run warms up
              seconds[run] = (System.nanoTime() - start) / 1e9;
              shares[run] = share.get();
            }
          }
        }
        System.out.printf(
          Locale.ROOT,
          "effort %d  %7.2f s (%.2f to %.2f, %d runs)   %3.0f %% in OpenBLAS   error %.3f of rounding's%n",
          level,
          median(seconds),
          Arrays.stream(seconds).min().orElseThrow(),
          Arrays.stream(seconds).max().orElseThrow(),
          runs,
          100 * median(shares),
          ratio
        );
      }
    }
  }

  /** Quantizes the layer; what is left of the error of rounding. */
  private static double quantize(
    Device device,
    Workers workers,
    Effort effort,
    TensorType type,
    MemorySegment gram,
    int columns,
    float[] weights
  ) throws IOException {
    float[] diagonal = new float[columns];
    for (int i = 0; i < columns; i++) {
      diagonal[i] = gram.getAtIndex(FLOAT, (long) i * columns + i);
    }
    PreparedGram.Use use = new PreparedGram.Use(
      GptqOptions.DEFAULT_DAMPING,
      effort.reach() > 0 ? PreparedGram.Order.GROUPED : PreparedGram.Order.SORTED,
      false
    );
    int rows = weights.length / columns;
    try (
      PreparedGram input = PreparedGram.of(device, diagonal, to -> device.upload(gram, to), use);
      BandReader bands = new BandReader(device)
    ) {
      bands.add(
        (first, count, to) ->
          System.arraycopy(weights, Math.toIntExact(first * columns), to, 0, Math.multiplyExact(count, columns)),
        rows,
        columns
      );
      return new MatrixQuantizer(device, workers, effort, type)
        .quantize(input, bands, null, rows, input.importance(), (_, _) -> {})
        .ratio();
    }
  }

  /** The Gram matrix of random activations that have a few directions in common, in columns of different strength. */
  private static MemorySegment gram(Device device, Arena arena, int columns) {
    int tokens = 2 * columns;
    int directions = 16;
    MemorySegment gram = arena.allocate(FLOAT, (long) columns * columns);
    SplittableRandom random = new SplittableRandom(1);
    float[] strength = normal(random, columns, 1);
    try (Scope scope = device.scope()) {
      Matrix mix = scope.matrix(directions, columns);
      upload(device, normal(random, directions * columns, 0.5f), mix);
      Matrix common = scope.matrix(columns, directions);
      Matrix x = scope.matrix(columns, columns);
      Matrix sum = scope.matrix(columns, columns);
      // In parts, so that no more memory is needed than for the matrix a few times.
      for (int part = 0; part < tokens / columns; part++) {
        upload(device, normal(random, columns * directions, 1), common);
        for (int row = 0; row < columns; row++) {
          upload(device, normal(random, columns, 1), x.rows(row, 1));
        }
        device.gemm(1, common, false, mix, false, 1, x);
        device.syrk(1f / tokens, x, 1, sum);
      }
      device.download(sum, gram);
    }
    for (int i = 0; i < columns; i++) {
      for (int j = i; j < columns; j++) {
        long at = (long) i * columns + j;
        gram.setAtIndex(FLOAT, at, gram.getAtIndex(FLOAT, at) * strength[i] * strength[j]);
      }
    }
    return gram;
  }

  private static void upload(Device device, float[] values, Matrix to) {
    device.upload(MemorySegment.ofArray(values), to);
  }

  private static float[] normal(SplittableRandom random, int count, float deviation) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian() * deviation;
    }
    return values;
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    int n = sorted.length;
    return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  }

  /** Looks now and then whether the threads that compute are in OpenBLAS: what part of all their time they were there. */
  private static final class BlasShare implements AutoCloseable {

    private static final int MILLIS = 5;

    private final int threads;
    private final Thread main = Thread.currentThread();
    private final Thread sampler;
    private long samples;
    private long found;

    BlasShare(int threads) {
      this.threads = threads;
      sampler = Thread.ofPlatform().daemon().name("sampler").start(this::run);
    }

    private void run() {
      try {
        while (true) {
          Thread.sleep(MILLIS);
          int inside = 0;
          for (var thread : Thread.getAllStackTraces().entrySet()) {
            boolean computes = thread.getKey() == main || thread.getKey().getName().startsWith("attar-compute-");
            inside += computes && isBlas(thread.getValue()) ? 1 : 0;
          }
          synchronized (this) {
            samples++;
            found += inside;
          }
        }
      } catch (InterruptedException _) {
        // closed
      }
    }

    /** Whether a thread is in a function of the library: only those that bind them call native code from these classes. */
    private static boolean isBlas(StackTraceElement[] stack) {
      for (StackTraceElement frame : stack) {
        String name = frame.getClassName();
        if (name.startsWith("dev.attar.")) {
          return name.equals("dev.attar.compute.Level3") || name.equals("dev.attar.compute.OpenBlas");
        }
      }
      return false;
    }

    synchronized double get() {
      return samples == 0 ? 0 : (double) found / (samples * threads);
    }

    @Override
    public void close() {
      sampler.interrupt();
    }
  }
}
