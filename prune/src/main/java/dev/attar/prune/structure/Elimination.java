package dev.attar.prune.structure;

import dev.attar.calibration.linear.MatrixRows;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * Removes columns of a weight W (rows, n), in groups of neighbours, and fits the others to what is lost. With the Gram matrix of what
 * enters the weight, the change E of all columns costs {@code trace(E gram E')}, and a ridge times the squares of the change of those
 * that stay; so the ridge pulls towards the weights as they were.
 *
 * <p>With {@code P = inverse(gram + ridge I)} of what is left, removing the columns R, and changing the others to what is best then, adds
 * {@code trace(W_R inverse(P_RR) W_R')} to the cost (Hassibi and Stork, 1993; in groups: ZipLM, Kurtic et al., 2023), less the ridge
 * times the squares of what these columns were at first. The groups of least cost go together in a round; P and W follow by {@code P -=
 * P_:R inverse(P_RR) P_R:} and {@code W -= W_R inverse(P_RR) P_R:}, so that all rounds together are less work than the inverse.
 */
final class Elimination {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** The part of all groups that goes in a round. */
  private static final int ROUNDS = 64;

  /**
   * Groups in the order in which they go.
   *
   * @param groups their numbers
   * @param costs the cost of removing all up to and including each; it does not fall
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  record Order(int[] groups, double[] costs) {
    /** The groups that are left of so many when the first few of the order are gone, ascending. */
    int[] left(int removed, int all) {
      boolean[] gone = gone(Arrays.copyOf(groups, removed), all);
      return IntStream.range(0, all)
        .filter(group -> !gone[group])
        .toArray();
    }
  }

  private final Device device;
  private final PreparedGram input;
  private final Matrix weights;
  private final int size;
  private final int groups;

  /**
   * For one weight.
   *
   * @param input what is known of what enters it; must be made to solve equations
   * @param weights (n, rows): a row for each of its columns; not changed
   * @param size how many columns a group has; divides n
   */
  Elimination(Device device, PreparedGram input, Matrix weights, int size) {
    if (size < 1 || input.columns() % size != 0 || weights.rows() != input.columns()) {
      throw new IllegalArgumentException(
        "groups of " + size + " columns, " + weights.rows() + " of weights, " + input.columns() + " of the Gram matrix"
      );
    }
    this.device = device;
    this.input = input;
    this.weights = weights;
    this.size = size;
    groups = input.columns() / size;
  }

  /** Bytes of matrices that it takes at most, with those of what it is given. */
  static long bytes(int columns, int rows) {
    // The Gram matrix, its factor and root, P or what is left of the Gram matrix; a root is in double precision while it is computed.
    return Float.BYTES * (6L * columns * columns + 4L * columns * rows);
  }

  /** How many groups there are. */
  int groups() {
    return groups;
  }

  private static boolean[] gone(int[] removed, int all) {
    boolean[] gone = new boolean[all];
    for (int group : removed) {
      gone[group] = true;
    }
    return gone;
  }

  /**
   * The order in which groups go if what is left is fitted.
   *
   * @param most how many are to go; fewer than there are
   */
  Order withRefit(int most) {
    checkMost(most);
    int n = input.columns();
    int round = Math.max(1, groups / ROUNDS);
    int[] order = new int[most];
    double[] costs = new double[most];
    double cost = 0;
    try (Scope scope = device.scope()) {
      Matrix inverse = inverse(scope);
      Matrix left = scope.matrix(n, weights.columns());
      device.add(1, weights, left);
      boolean[] gone = new boolean[groups];
      double[] free = free();
      for (int done = 0; done < most; ) {
        double[] scores = scores(inverse, left, gone);
        for (int group = 0; group < groups; group++) {
          scores[group] -= free[group];
        }
        int[] next = least(scores, gone, Math.min(round, most - done));
        double together = remove(inverse, left, columns(next));
        for (int group : next) {
          together -= free[group];
        }
        for (int group : next) {
          gone[group] = true;
          order[done] = group;
          cost += Math.max(0, together / next.length);
          costs[done++] = cost;
        }
      }
    }
    return new Order(order, costs);
  }

  private void checkMost(int most) {
    if (most < 0 || most >= groups) {
      throw new IllegalArgumentException(most + " of " + groups + " groups to go, expected at least 0 and not all");
    }
  }

  private Matrix inverse(Scope scope) {
    int n = input.columns();
    Matrix inverse = scope.matrix(n, n);
    PreparedGram.uploadIdentity(device, inverse);
    input.solve(inverse);
    device.mirror(inverse);
    return inverse;
  }

  /** What the ridge would charge for each group that goes, were it not for those that stay only. */
  private double[] free() {
    double[] free = new double[groups];
    double[] squares = MatrixRows.squares(device, weights);
    for (int i = 0; i < squares.length; i++) {
      free[i / size] += input.ridge() * squares[i];
    }
    return free;
  }

  /** What removing each of the groups that are left would cost with the ridge. */
  private double[] scores(Matrix inverse, Matrix left, boolean[] gone) {
    if (size > 1) {
      double[] scores = new double[groups];
      for (int group = 0; group < groups; group++) {
        if (!gone[group]) {
          int[] columns = columns(group);
          try (Scope scope = device.scope()) {
            Matrix root = root(scope, MatrixRows.pick(device, scope, inverse, columns, columns));
            scores[group] = solvedSquares(scope, root, left, columns);
          }
        }
      }
      return scores;
    }
    double[] scores = MatrixRows.squares(device, left);
    double[] diagonal = MatrixRows.diagonal(device, inverse);
    for (int i = 0; i < groups; i++) {
      // Above 0 but for rounding.
      scores[i] /= Math.max(diagonal[i], Float.MIN_NORMAL);
    }
    return scores;
  }

  /** The numbers of the groups of least score, ascending by it, then by number. */
  private static int[] least(double[] scores, boolean[] gone, int count) {
    return IntStream.range(0, scores.length)
      .filter(group -> !gone[group])
      .boxed()
      .sorted(Comparator.comparingDouble((Integer group) -> scores[group]).thenComparing(group -> group))
      .limit(count)
      .mapToInt(Integer::intValue)
      .toArray();
  }

  /** The columns of groups, in the order of these. */
  private int[] columns(int... of) {
    return Arrays.stream(of)
      .flatMap(group -> IntStream.range(group * size, (group + 1) * size))
      .toArray();
  }

  /** Removes columns, which become zeros, and lets the others follow. Gives the cost. */
  private double remove(Matrix inverse, Matrix left, int[] columns) {
    try (Scope scope = device.scope()) {
      Matrix root = root(scope, MatrixRows.pick(device, scope, inverse, columns, columns));
      Matrix ofInverse = MatrixRows.pick(device, scope, inverse, columns);
      Matrix ofLeft = MatrixRows.pick(device, scope, left, columns);
      device.triangularSolve(root, false, ofInverse);
      device.triangularSolve(root, false, ofLeft);
      device.gemm(-1, ofInverse, true, ofInverse, false, 1, inverse);
      device.gemm(-1, ofInverse, true, ofLeft, false, 1, left);
      return Arrays.stream(MatrixRows.squares(device, ofLeft)).sum();
    }
  }

  private double solvedSquares(Scope scope, Matrix root, Matrix left, int[] columns) {
    Matrix ofLeft = MatrixRows.pick(device, scope, left, columns);
    device.triangularSolve(root, false, ofLeft);
    return Arrays.stream(MatrixRows.squares(device, ofLeft)).sum();
  }

  /** The Cholesky factor of a part of P. Rounding may have made one of nearly equal columns indefinite: it gets a little more. */
  private Matrix root(Scope scope, Matrix part) {
    Matrix root = scope.matrix(part.rows(), part.rows());
    double largest = Arrays.stream(MatrixRows.diagonal(device, part)).max().orElseThrow();
    for (double more = 1e-6; device.cholesky(part, root) != 0; more *= 10) {
      MatrixRows.addToDiagonal(device, part, (float) (more * Math.max(largest, Float.MIN_NORMAL)));
    }
    return root;
  }

  /**
   * The order in which groups go if what is left stays as it is: next are those that leave the least error {@code trace(W_R gram_RR
   * W_R')} with those that went in earlier rounds.
   *
   * @param most how many are to go; fewer than there are
   */
  Order withoutRefit(int most) {
    checkMost(most);
    int round = Math.max(1, groups / ROUNDS);
    int[] order = new int[most];
    double[] costs = new double[most];
    boolean[] gone = new boolean[groups];
    double[] scores = new double[groups];
    for (int first = 0; first < groups; first += round) {
      int[] some = IntStream.range(first, Math.min(groups, first + round)).toArray();
      double[][] shared = shared(some);
      for (int i = 0; i < some.length; i++) {
        scores[some[i]] = shared[i][some[i]];
      }
    }
    double cost = 0;
    for (int done = 0; done < most; ) {
      int[] next = least(scores, gone, Math.min(round, most - done));
      double[][] shared = shared(next);
      for (int i = 0; i < next.length; i++) {
        gone[next[i]] = true;
        cost += scores[next[i]];
        order[done] = next[i];
        costs[done] = Math.max(cost, done == 0 ? 0 : costs[done - 1]);
        done++;
        for (int group = 0; group < groups; group++) {
          scores[group] += 2 * shared[i][group];
        }
      }
    }
    return new Order(order, costs);
  }

  /** What the outputs of some groups have in common with those of each group: {@code trace(W_a gram_ab W_b')}. */
  private double[][] shared(int[] some) {
    int n = input.columns();
    int[] columns = columns(some);
    double[][] shared = new double[some.length][groups];
    try (Scope scope = device.scope(); Arena arena = Arena.ofConfined()) {
      Matrix products = scope.matrix(columns.length, n);
      device.gemm(1, MatrixRows.pick(device, scope, weights, columns), false, weights, true, 0, products);
      MemorySegment gram = arena.allocate(FLOAT, n);
      MatrixRows.forEach(device, products, (row, values, at) -> {
        device.download(input.gram().rows(columns[row], 1), gram);
        for (int j = 0; j < n; j++) {
          shared[row / size][j / size] += (double) values.getAtIndex(FLOAT, at + j) * gram.getAtIndex(FLOAT, j);
        }
      });
    }
    return shared;
  }

  /**
   * What is left of the weights, fitted: {@code W_K + W_R gram_RK inverse(gram_KK + ridge I)}.
   *
   * @param kept the groups that are left, ascending, at least one
   * @return (columns that are left, rows)
   */
  Matrix refit(int[] kept, Scope scope) {
    int[] left = columns(kept);
    int[] removed = removed(kept);
    Matrix fitted = MatrixRows.pick(device, scope, weights, left);
    if (removed.length == 0) {
      return fitted;
    }
    try (Scope meanwhile = device.scope()) {
      Matrix change = meanwhile.matrix(left.length, weights.columns());
      try (Scope products = device.scope()) {
        Matrix between = MatrixRows.pick(device, products, input.gram(), left, removed);
        device.gemm(1, between, false, MatrixRows.pick(device, products, weights, removed), false, 0, change);
      }
      Matrix root = MatrixRows.pick(device, meanwhile, input.gram(), left, left);
      MatrixRows.addToDiagonal(device, root, input.ridge());
      if (device.cholesky(root, root) != 0) {
        // Not after the whole has been found to be positive definite.
        throw new ArithmeticException("a part of a positive definite Gram matrix is not positive definite");
      }
      device.triangularSolve(root, false, change);
      device.triangularSolve(root, true, change);
      device.add(1, change, fitted);
    }
    return fitted;
  }

  private int[] removed(int[] kept) {
    boolean[] stays = gone(kept, groups);
    return columns(
      IntStream.range(0, groups)
        .filter(group -> !stays[group])
        .toArray()
    );
  }

  /** The error that is left if other weights take the place of those that stay: {@code trace(E gram E')}. */
  double error(int[] kept, Matrix instead) {
    int[] left = columns(kept);
    try (Scope scope = device.scope()) {
      Matrix change = scope.matrix(weights.rows(), weights.columns());
      for (int i = 0; i < left.length; i++) {
        device.add(1, instead.rows(i, 1), change.rows(left[i], 1));
      }
      device.add(-1, weights, change);
      return energy(scope, change);
    }
  }

  /** The error that is left if those that stay are as they were. */
  double error(int[] kept) {
    try (Scope scope = device.scope()) {
      return error(kept, MatrixRows.pick(device, scope, weights, columns(kept)));
    }
  }

  /** The energy of the outputs: {@code trace(W gram W')}. */
  double energy() {
    try (Scope scope = device.scope()) {
      return energy(scope, weights);
    }
  }

  private double energy(Scope scope, Matrix of) {
    Matrix product = scope.matrix(of.rows(), of.columns());
    device.gemm(1, input.gram(), false, of, false, 0, product);
    double[] sum = { 0 };
    int columns = of.columns();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment row = arena.allocate(FLOAT, columns);
      MatrixRows.forEach(device, product, (number, values, at) -> {
        device.download(of.rows(number, 1), row);
        for (int i = 0; i < columns; i++) {
          sum[0] += (double) row.getAtIndex(FLOAT, i) * values.getAtIndex(FLOAT, at + i);
        }
      });
    }
    return Math.max(0, sum[0]);
  }
}
