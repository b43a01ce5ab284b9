package dev.attar.calibration.linear;

import dev.attar.calibration.Gram;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigDecimal;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * What column by column methods need to know of a layer's input, the same for all weights that meet it: the Gram matrix, the order in which
 * columns are decided, and the factor that feeds their errors back.
 */
public final class PreparedGram implements AutoCloseable {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final Device device;
  private final Scope scope;
  private final float[] diagonal;
  private final Matrix gram;
  private final Matrix factor; // null unless columns are decided one after the other
  private final Matrix root; // null unless equations are to be solved
  private final int[] order;
  private final float ridge;
  private final double damping;

  private PreparedGram(
    Device device,
    Scope scope,
    float[] diagonal,
    Matrix gram,
    Matrix factor,
    Matrix root,
    int[] order,
    float ridge,
    double damping
  ) {
    this.device = device;
    this.scope = scope;
    this.diagonal = diagonal.clone();
    this.gram = gram;
    this.factor = factor;
    this.root = root;
    this.order = order;
    this.ridge = ridge;
    this.damping = damping;
  }

  /**
   * What a matrix is wanted for.
   *
   * @param damping what is added to the diagonal, as a part of its mean
   * @param order in which order columns are decided; {@code null} if they are not decided one after the other
   * @param solved whether equations are to be solved with it
   */
  public record Use(double damping, Order order, boolean solved) {
    /** To solve equations with it only. */
    public static Use solving(double damping) {
      return new Use(damping, null, true);
    }
  }

  /** An order of columns. */
  public enum Order {
    /** As they are. */
    NATURAL,
    /** By decreasing mean square. */
    SORTED,
    /** By decreasing mean square, in runs of neighbours that share scales. */
    GROUPED
  }

  /** Puts the upper triangle of a Gram matrix into a device's. */
  @FunctionalInterface
  public interface Source {
    void upload(Matrix to);
  }

  /** Makes the unit matrix. */
  public static void uploadIdentity(Device device, Matrix to) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(FLOAT, to.columns());
      for (int i = 0; i < to.rows(); i++) {
        row.setAtIndex(FLOAT, i, 1);
        device.upload(row, to.rows(i, 1));
        row.setAtIndex(FLOAT, i, 0);
      }
    }
  }

  /** Copies a measured matrix. */
  public static void upload(Device device, Gram gram, Matrix to) {
    int n = gram.columns();
    long[] from = { 0 };
    forRows(n, (first, count, rows) -> {
      for (int i = 0; i < count; i++) {
        long diagonal = first + i;
        long bytes = (n - diagonal) * Float.BYTES;
        MemorySegment.copy(gram.upper(), from[0], rows, (i * (long) n + diagonal) * Float.BYTES, bytes);
        from[0] += bytes;
      }
      device.upload(rows, to.rows(first, count));
    });
  }

  /** Work on some rows, with memory for them. */
  @FunctionalInterface
  private interface Rows {
    void run(int first, int count, MemorySegment rows);
  }

  /** Goes through the rows of a square matrix, some megabytes at a time. */
  private static void forRows(int n, Rows task) {
    int most = Math.clamp((1 << 20) / n, 1, n);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment rows = arena.allocate(FLOAT, (long) most * n);
      for (int first = 0; first < n; first += most) {
        task.run(first, Math.min(most, n - first), rows);
      }
    }
  }

  /**
   * Prepares a Gram matrix.
   *
   * @param diagonal its diagonal, at least one element above 0
   * @param source gives the matrix
   * @param use what it is wanted for. A matrix that is not positive definite gets ten times the damping, again and again, up to 1: with
   *     the mean of its diagonal added, every matrix of finite activations can be factored
   * @throws ArithmeticException if a damping of 1 does not make it positive definite
   */
  public static PreparedGram of(Device device, float[] diagonal, Source source, Use use) {
    int n = diagonal.length;
    double mean = 0;
    for (float x : diagonal) {
      mean += (double) x / n;
    }
    int[] order = switch (use.order()) {
      case null -> IntStream.range(0, n).toArray();
      case NATURAL -> IntStream.range(0, n).toArray();
      case SORTED -> sorted(IntStream.range(0, n), Comparator.comparingDouble(i -> -diagonal[i]));
      case GROUPED -> grouped(diagonal);
    };
    Scope scope = device.scope();
    try {
      Matrix gram = scope.matrix(n, n);
      source.upload(gram);
      device.mirror(gram);
      Matrix factor = use.order() == null ? null : scope.matrix(n, n);
      Matrix root = null;
      for (int raised = 0; ; raised++) {
        double damping = damping(use.damping(), raised);
        float ridge = (float) (damping * mean);
        if (factor == null || device.feedbackFactor(gram, ridge, order, factor) == 0) {
          if (use.solved() && root == null) {
            root = scope.matrix(n, n);
          }
          if (root == null || factorRoot(device, gram, ridge, root)) {
            return new PreparedGram(device, scope, diagonal, gram, factor, root, order, ridge, damping);
          }
        }
        if (damping >= 1) {
          throw new ArithmeticException(
            "the Gram matrix of " +
              n +
              " columns is not positive definite even with damping 1.0, so it is damaged; --overwrite measures it again"
          );
        }
      }
    } catch (RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /** A damping that has been raised tenfold so many times, at most 1. In decimal, so that it reads as the first one does. */
  private static double damping(double first, int raised) {
    return Math.min(1, BigDecimal.valueOf(first).scaleByPowerOfTen(raised).doubleValue());
  }

  /**
   * The columns by decreasing mean square, in runs of neighbours that stay together, 32 and within them 16: those share scales, which
   * are chosen once for all of them.
   */
  private static int[] grouped(float[] diagonal) {
    double[] of32 = sums(diagonal, 32);
    double[] of16 = sums(diagonal, 16);
    return sorted(
      IntStream.range(0, diagonal.length),
      Comparator.comparingDouble((Integer i) -> -of32[i / 32])
        .thenComparing(i -> i / 32)
        .thenComparingDouble(i -> -of16[i / 16])
        .thenComparing(i -> i / 16)
        .thenComparingDouble(i -> -diagonal[i])
    );
  }

  private static int[] sorted(IntStream numbers, Comparator<Integer> order) {
    return numbers.boxed().sorted(order).mapToInt(Integer::intValue).toArray();
  }

  private static double[] sums(float[] values, int length) {
    double[] sums = new double[Math.ceilDiv(values.length, length)];
    for (int i = 0; i < values.length; i++) {
      sums[i / length] += values[i];
    }
    return sums;
  }

  private static boolean factorRoot(Device device, Matrix gram, float ridge, Matrix root) {
    int n = gram.rows();
    forRows(n, (first, count, rows) -> {
      device.download(gram.rows(first, count), rows);
      for (int i = 0; i < count; i++) {
        long diagonal = i * (long) n + first + i;
        rows.setAtIndex(FLOAT, diagonal, rows.getAtIndex(FLOAT, diagonal) + ridge);
      }
      device.upload(rows, root.rows(first, count));
    });
    return device.cholesky(root, root) == 0;
  }

  /** Number of columns. */
  public int columns() {
    return order.length;
  }

  /** The Gram matrix (n, n), both triangles filled. */
  public Matrix gram() {
    return gram;
  }

  /** The factor of {@link Device#feedbackFactor}, (n, n); only if columns are decided one after the other. */
  public Matrix factor() {
    return factor;
  }

  /** The lower triangular L (n, n) with L L' = H, the damped Gram matrix; only if equations are to be solved. */
  public Matrix root() {
    return root;
  }

  /** The columns in the order in which they are decided. */
  public int[] order() {
    return Arrays.copyOf(order, order.length);
  }

  /** What was added to the diagonal. */
  public float ridge() {
    return ridge;
  }

  /** The same as a part of the diagonal's mean. */
  public double damping() {
    return damping;
  }

  /** How much each column weighs in the search of scales: its mean square, and a little if that is 0. */
  public float[] importance() {
    float[] weights = diagonal.clone();
    float least = 0;
    for (float x : diagonal) {
      least = Math.max(least, x * 1e-9f);
    }
    for (int i = 0; i < weights.length; i++) {
      weights[i] = Math.max(weights[i], least);
    }
    return weights;
  }

  /** Replaces b (columns, m) with the x of {@code H x = b}, where H is the damped Gram matrix. */
  public void solve(Matrix b) {
    device.triangularSolve(root, false, b);
    device.triangularSolve(root, true, b);
  }

  /** Frees its matrices. */
  @Override
  public void close() {
    scope.close();
  }
}
