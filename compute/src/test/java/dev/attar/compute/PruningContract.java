package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.QuantizationProblem.Kind;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** How every device must prune, against plain loops. A device's test inherits it. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class PruningContract {

  private static final double EPS = 0x1p-24;
  private static final int BLOCK = 128;

  private final Random random = new Random(20);
  private Scope scope;

  protected abstract Device device();

  @BeforeEach
  void openScope() {
    random.setSeed(20);
    scope = device().scope();
  }

  @AfterEach
  void closeScope() {
    scope.close();
  }

  // --- Pruning by scores: exact.

  @ParameterizedTest
  @CsvSource({ "1, 1", "1, 70", "32, 1", "64, 33", "160, 65", "544, 3", "32, 520" })
  void removesTheLeastScores(int n, int rows) {
    float[] norms = norms(n);
    for (float[] weights : List.of(gaussian(n * rows), tied(n * rows), extreme(n * rows))) {
      for (Sparsity sparsity : sparsities(n, rows)) {
        for (float[] chosen : Arrays.asList(null, norms)) {
          Matrix matrix = put(weights, n, rows);
          device().prune(matrix, chosen, sparsity);
          assertBits(pruned(weights, chosen, n, rows, sparsity), get(matrix), rows, sparsity);
        }
      }
    }
  }

  /** One weight after the other, all equal. */
  @ParameterizedTest
  @CsvSource({ "8, 5", "3, 300" })
  void removesEqualScoresByColumnAndRow(int n, int rows) {
    float[] weights = new float[n * rows];
    for (int removed = 0; removed <= weights.length; removed += 1 + removed / 50) {
      Arrays.fill(weights, -0.5f);
      Matrix matrix = put(weights, n, rows);
      device().prune(matrix, null, new Sparsity.Whole(removed));
      Arrays.fill(weights, 0, removed, 0);
      assertArrayEquals(weights, get(matrix), "" + removed);
    }
    for (int removed = 0; removed <= n; removed++) {
      Arrays.fill(weights, -0.5f);
      Matrix matrix = put(weights, n, rows);
      device().prune(matrix, null, new Sparsity.Rows(removed));
      Arrays.fill(weights, 0, removed * rows, 0);
      assertArrayEquals(weights, get(matrix), "" + removed);
    }
  }

  @Test
  void prunesSomeRowsOfAMatrix() {
    float[] weights = gaussian(40 * 7);
    for (Sparsity sparsity : List.of(
      new Sparsity.Rows(16),
      new Sparsity.Whole(100),
      new Sparsity.Pattern(2, 4),
      new Sparsity.Whole(224)
    )) {
      Matrix matrix = put(weights, 40, 7);
      device().prune(matrix.rows(4, 32), null, sparsity);
      float[] expected = weights.clone();
      float[] part = pruned(Arrays.copyOfRange(weights, 28, 252), null, 32, 7, sparsity);
      System.arraycopy(part, 0, expected, 28, part.length);
      assertArrayEquals(expected, get(matrix), "" + sparsity);
    }
  }

  /** Removes weights one by one, the least first. */
  private static float[] pruned(float[] weights, float[] norms, int n, int rows, Sparsity sparsity) {
    float[] scores = new float[n * rows];
    for (int i = 0; i < scores.length; i++) {
      scores[i] = norms == null ? Math.abs(weights[i]) : Math.abs(weights[i]) * norms[i / rows];
    }
    float[] result = weights.clone();
    int[] columns = IntStream.range(0, n).toArray();
    switch (sparsity) {
      case Sparsity.Whole(long removed) -> least(scores, rows, columns, all(rows), removed, result);
      case Sparsity.Rows(int removed) -> {
        for (int row = 0; row < rows; row++) {
          least(scores, rows, columns, new int[] { row }, removed, result);
        }
      }
      case Sparsity.Pattern(int kept, int of) -> {
        for (int row = 0; row < rows; row++) {
          for (int first = 0; first < n; first += of) {
            int[] group = Arrays.copyOfRange(columns, first, first + of);
            least(scores, rows, group, new int[] { row }, of - kept, result);
          }
        }
      }
    }
    return result;
  }

  private static int[] all(int count) {
    return IntStream.range(0, count).toArray();
  }

  /** Sets so many numbers of some columns and rows to 0, those of the least scores. */
  private static void least(float[] scores, int rows, int[] columns, int[] ofRows, long count, float[] result) {
    Arrays.stream(columns)
      .flatMap(column -> Arrays.stream(ofRows).map(row -> column * rows + row))
      .boxed()
      .sorted(Comparator.comparingDouble((Integer i) -> scores[i]).thenComparing(Comparator.naturalOrder()))
      .limit(count)
      .forEach(i -> result[i] = 0);
  }

  private static void assertBits(float[] expected, float[] found, int rows, Sparsity sparsity) {
    for (int i = 0; i < expected.length; i++) {
      if (Float.floatToRawIntBits(expected[i]) != Float.floatToRawIntBits(found[i])) {
        throw new AssertionError(
          "%s, column %d, row %d: expected %s, found %s".formatted(sparsity, i / rows, i % rows, expected[i], found[i])
        );
      }
    }
  }

  private static List<Sparsity> sparsities(int n, int rows) {
    List<Sparsity> all = new ArrayList<>();
    for (int removed : IntStream.of(0, 1, n / 3, n).distinct().toArray()) {
      all.add(new Sparsity.Rows(removed));
      all.add(new Sparsity.Whole((long) removed * rows));
    }
    all.add(new Sparsity.Whole((n * rows + 1) / 2));
    for (int[] pattern : new int[][] { { 1, 1 }, { 0, 2 }, { 2, 4 }, { 4, 8 }, { 13, 32 } }) {
      if (n % pattern[1] == 0) {
        all.add(new Sparsity.Pattern(pattern[0], pattern[1]));
      }
    }
    return all;
  }

  // --- SparseGPT's walk.

  /** Without correlations nothing is fed back: each block, or group, loses the weights of least d w². */
  @ParameterizedTest
  @CsvSource({ "1, 1", "32, 5", "128, 65", "288, 33" })
  void walksWithoutFeedback(int n, int rows) {
    float[] gram = new float[n * n];
    for (int i = 0; i < n; i++) {
      gram[i * n + i] = 1 << (2 * random.nextInt(4));
    }
    for (float[] weights : List.of(gaussian(n * rows), tied(n * rows))) {
      for (Sparsity sparsity : sparsities(n, rows)) {
        int[] order = order(n, sparsity);
        float[] expected = weights.clone();
        float[] scores = new float[n * rows];
        for (int i = 0; i < scores.length; i++) {
          scores[i] = gram[(i / rows) * (n + 1)] * weights[i] * weights[i];
        }
        removeFromBlocks(scores, rows, order, sparsity, expected);
        Walk walk = walk(new Problem(n, rows, weights, gram, 0), order, sparsity);
        assertBits(expected, walk.pruned, rows, sparsity);
      }
    }
  }

  /** A published walk's choices in every block of the order, of scores that do not change on the way. */
  private static void removeFromBlocks(float[] scores, int rows, int[] order, Sparsity sparsity, float[] result) {
    int n = order.length;
    if (sparsity instanceof Sparsity.Pattern(int kept, int of)) {
      float[] whole = result.clone();
      for (int first = 0; first < n; first += of) {
        for (int row = 0; row < rows; row++) {
          least(scores, rows, Arrays.copyOfRange(order, first, first + of), new int[] { row }, of - kept, whole);
        }
      }
      System.arraycopy(whole, 0, result, 0, whole.length);
      return;
    }
    for (int begin = 0; begin < n; begin += BLOCK) {
      int end = Math.min(n, begin + BLOCK);
      int[] columns = Arrays.copyOfRange(order, begin, end);
      switch (sparsity) {
        case Sparsity.Whole(long removed) -> least(
          scores,
          rows,
          columns,
          all(rows),
          share(removed, begin, end, n),
          result
        );
        case Sparsity.Rows(int removed) -> {
          for (int row = 0; row < rows; row++) {
            least(scores, rows, columns, new int[] { row }, share(removed, begin, end, n), result);
          }
        }
        case Sparsity.Pattern _ -> throw new AssertionError();
      }
    }
  }

  private static long share(long removed, int begin, int end, int n) {
    return (removed * end) / n - (removed * begin) / n;
  }

  /** Within one block every operation is defined, so results are the same bit for bit. */
  @ParameterizedTest
  @CsvSource({ "1, 3", "32, 1", "96, 70", "128, 33" })
  void walksABlockBitForBit(int n, int rows) {
    Problem problem = problem(n, rows);
    for (Sparsity sparsity : sparsities(n, rows)) {
      int[] order = order(n, sparsity);
      Walk walk = walk(problem, order, sparsity);
      float[] pruned = new float[n * rows];
      double[] errors = new double[rows];
      walkInFloat(problem, walk.factor, order, sparsity, pruned, errors);
      assertBits(pruned, walk.pruned, rows, sparsity);
      assertArrayEquals(errors, walk.errors, "" + sparsity);
    }
  }

  private static void walkInFloat(
    Problem problem,
    float[] factor,
    int[] order,
    Sparsity sparsity,
    float[] pruned,
    double[] errors
  ) {
    int n = problem.n;
    int rows = problem.rows;
    float[] targets = problem.weights.clone();
    float[] scores = new float[n * rows];
    boolean[] removed = new boolean[n * rows];
    int of = sparsity instanceof Sparsity.Pattern pattern ? pattern.of() : n;
    float[] costs = new float[rows];
    for (int i = 0; i < n; i++) {
      if (i % of == 0) {
        float[] free = targets.clone();
        for (int j = i; j < i + of; j++) {
          for (int row = 0; row < rows; row++) {
            int at = order[j] * rows + row;
            scores[at] = factor[(n - 1 - j) * (n + 1)] * free[at] * free[at];
            feedBack(factor, order, j, problem.weights[at] - free[at], row, rows, free);
          }
        }
        float[] marks = new float[n * rows];
        Arrays.fill(marks, 1);
        int[] group = Arrays.copyOfRange(order, i, i + of);
        if (sparsity instanceof Sparsity.Pattern(int kept, _)) {
          for (int row = 0; row < rows; row++) {
            least(scores, rows, group, new int[] { row }, of - kept, marks);
          }
        } else {
          removeFromBlocks(scores, rows, order, sparsity, marks);
        }
        for (int column : group) {
          for (int at = column * rows; at < column * rows + rows; at++) {
            removed[at] = marks[at] == 0;
          }
        }
      }
      for (int row = 0; row < rows; row++) {
        int at = order[i] * rows + row;
        float value = removed[at] ? 0 : targets[at];
        pruned[at] = value;
        float error = problem.weights[at] - value;
        feedBack(factor, order, i, error, row, rows, targets);
        float missed = targets[at] - value;
        float diagonal = factor[(n - 1 - i) * (n + 1)];
        costs[row] += diagonal * missed * missed - problem.ridge * error * error;
      }
    }
    for (int row = 0; row < rows; row++) {
      errors[row] = costs[row];
    }
  }

  /** Adds to the targets after a place in the order what an error there asks of them. */
  private static void feedBack(float[] factor, int[] order, int i, float error, int row, int rows, float[] targets) {
    int n = order.length;
    for (int j = i + 1; j < n; j++) {
      int at = order[j] * rows + row;
      targets[at] = Math.fma(factor[(n - 1 - i) * n + n - 1 - j], error, targets[at]);
    }
  }

  @ParameterizedTest
  @CsvSource({ "32, 70", "128, 33", "160, 130", "288, 40", "416, 1" })
  void walksAsPublished(int n, int rows) {
    Problem problem = problem(n, rows);
    for (Sparsity sparsity : List.of(
      new Sparsity.Rows(n / 2),
      new Sparsity.Rows((n * 2) / 3 + 1),
      new Sparsity.Whole((n * rows) / 2),
      new Sparsity.Whole((n * rows) / 3 + 1),
      new Sparsity.Pattern(2, 4),
      new Sparsity.Pattern(4, 8),
      new Sparsity.Pattern(3, 16)
    )) {
      int[] order = order(n, sparsity);
      Walk walk = walk(problem, order, sparsity);
      double[][] inverse = problem.base.inverseFactor(order, problem.ridge);
      assertShares(walk.pruned, rows, order, sparsity);
      // Where it has come the same way, the published walk removes and keeps the same.
      Published same = new Published(problem, order, inverse, sparsity, walk.pruned);
      assertTrue(same.agreeing >= 0.999 * n * rows - 2, sparsity + ": " + same.agreeing + " of " + n * rows);
      for (int i = 0; i < n * rows; i++) {
        if (walk.pruned[i] != 0) {
          double size = Math.abs(same.kept[i]) + 0.05;
          assertEquals(same.kept[i], walk.pruned[i], 1e-3 * size, sparsity + ", column " + i / rows);
        }
      }
      // On its own way it comes as far.
      Published own = new Published(problem, order, inverse, sparsity, null);
      double published = sum(problem.errors(own.values()));
      double found = sum(problem.errors(widen(walk.pruned)));
      assertEquals(published, found, (rows > 1 ? 1e-3 : 1e-2) * published, "" + sparsity);
      // Pruning the same number by their scores alone is worse.
      float[] norms = new float[n];
      for (int i = 0; i < n; i++) {
        norms[i] = (float) Math.sqrt(problem.gram[i * (n + 1)]);
      }
      float[] wanda = pruned(problem.weights, norms, n, rows, sparsity);
      assertTrue(found < sum(problem.errors(widen(wanda))), "" + sparsity);
    }
  }

  /** SparseGPT in double precision, with the Cholesky factor of the inverse. */
  private static final class Published {

    /** How many weights it would remove where another walk did, or keep where that one did. */
    int agreeing;

    /** What weights become that are kept. */
    final double[] kept;

    private final boolean[] removed;

    /** @param given what another walk made of the weights: this one goes its way; or null */
    Published(Problem problem, int[] order, double[][] inverse, Sparsity sparsity, float[] given) {
      int n = problem.n;
      int rows = problem.rows;
      kept = widen(problem.weights);
      removed = new boolean[n * rows];
      int of = sparsity instanceof Sparsity.Pattern pattern ? pattern.of() : BLOCK;
      for (int i = 0; i < n; i++) {
        if (i % of == 0) {
          int end = Math.min(n, i + of);
          float[] marks = marks(order, inverse, sparsity, i, end, rows);
          for (int j = i; j < end; j++) {
            for (int at = order[j] * rows; at < order[j] * rows + rows; at++) {
              boolean wanted = marks[at] == 0;
              removed[at] = given == null ? wanted : given[at] == 0;
              agreeing += removed[at] == wanted ? 1 : 0;
            }
          }
        }
        for (int row = 0; row < rows; row++) {
          int at = order[i] * rows + row;
          double error = (removed[at] ? kept[at] : 0) / inverse[i][i];
          for (int j = i + 1; j < n; j++) {
            kept[order[j] * rows + row] -= error * inverse[i][j];
          }
        }
      }
    }

    /** 0 at what is removed from columns begin to end of the order. */
    private float[] marks(int[] order, double[][] inverse, Sparsity sparsity, int begin, int end, int rows) {
      int n = order.length;
      float[] scores = new float[kept.length];
      for (int i = begin; i < end; i++) {
        for (int at = order[i] * rows; at < order[i] * rows + rows; at++) {
          scores[at] = (float) ((kept[at] * kept[at]) / (inverse[i][i] * inverse[i][i]));
        }
      }
      float[] marks = new float[kept.length];
      Arrays.fill(marks, 1);
      int[] columns = Arrays.copyOfRange(order, begin, end);
      if (sparsity instanceof Sparsity.Whole(long count)) {
        least(scores, rows, columns, all(rows), share(count, begin, end, n), marks);
        return marks;
      }
      for (int row = 0; row < rows; row++) {
        long count = switch (sparsity) {
          case Sparsity.Rows(int removed) -> share(removed, begin, end, n);
          case Sparsity.Pattern pattern -> pattern.removed();
          case Sparsity.Whole _ -> throw new AssertionError();
        };
        least(scores, rows, columns, new int[] { row }, count, marks);
      }
      return marks;
    }

    double[] values() {
      double[] values = kept.clone();
      for (int i = 0; i < values.length; i++) {
        values[i] = removed[i] ? 0 : values[i];
      }
      return values;
    }
  }

  /** Whether each block, row or group has lost as many weights as it was to. */
  private static void assertShares(float[] pruned, int rows, int[] order, Sparsity sparsity) {
    int n = order.length;
    int of = sparsity instanceof Sparsity.Pattern pattern ? pattern.of() : BLOCK;
    for (int begin = 0; begin < n; begin += of) {
      int end = Math.min(n, begin + of);
      long whole = 0;
      for (int row = 0; row < rows; row++) {
        long count = 0;
        for (int i = begin; i < end; i++) {
          count += pruned[order[i] * rows + row] == 0 ? 1 : 0;
        }
        switch (sparsity) {
          case Sparsity.Rows(int removed) -> assertEquals(share(removed, begin, end, n), count, "row " + row);
          case Sparsity.Pattern pattern -> assertEquals(pattern.removed(), count, "row " + row);
          case Sparsity.Whole _ -> whole += count;
        }
      }
      if (sparsity instanceof Sparsity.Whole(long removed)) {
        assertEquals(share(removed, begin, end, n), whole);
      }
    }
  }

  /**
   * Weights and what their errors are measured by.
   *
   * @param base where weights and Gram matrix come from, if from one
   */
  private record Problem(int n, int rows, float[] weights, float[] gram, float ridge, QuantizationProblem base) {
    Problem(int n, int rows, float[] weights, float[] gram, float ridge) {
      this(n, rows, weights, gram, ridge, null);
    }

    /** {@code e gram e'} of each row. */
    double[] errors(double[] pruned) {
      return sums(pruned, false);
    }

    /** What rounding may change the errors by a few millionths of: their terms, and what the weights are rounded by. */
    double[] sizes(double[] pruned) {
      return sums(pruned, true);
    }

    private double[] sums(double[] pruned, boolean absolute) {
      double[] sums = new double[rows];
      double[] left = new double[n];
      for (int row = 0; row < rows; row++) {
        for (int i = 0; i < n; i++) {
          left[i] = weights[i * rows + row] - pruned[i * rows + row];
        }
        for (int i = 0; i < n; i++) {
          for (int j = 0; j < n; j++) {
            double product = left[i] * gram[i * n + j];
            sums[row] += absolute
              ? Math.abs(product) * (Math.abs(left[j]) + 0.2 * Math.abs(weights[j * rows + row]))
              : product * left[j];
          }
        }
      }
      return sums;
    }
  }

  private static Problem problem(int n, int rows) {
    QuantizationProblem base = new QuantizationProblem(Kind.PLAIN, n, rows, n + rows);
    return new Problem(n, rows, base.weights, base.gram, base.ridge(), base);
  }

  private record Walk(float[] factor, float[] pruned, double[] errors) {}

  private Walk walk(Problem problem, int[] order, Sparsity sparsity) {
    int n = problem.n;
    int rows = problem.rows;
    try (Scope own = device().scope()) {
      Matrix factor = own.matrix(n, n);
      Matrix gram = own.matrix(n, n);
      device().upload(MemorySegment.ofArray(problem.gram), gram);
      assertEquals(0, device().feedbackFactor(gram, problem.ridge, order, factor));
      Matrix weights = own.matrix(n, rows);
      device().upload(MemorySegment.ofArray(problem.weights), weights);
      Matrix pruned = own.matrix(n, rows);
      float[] unwritten = new float[n * rows];
      Arrays.fill(unwritten, Float.NaN);
      device().upload(MemorySegment.ofArray(unwritten), pruned);
      double[] errors = new double[rows];
      Arrays.fill(errors, Double.NaN);
      device().sparseWalk(weights, factor, problem.ridge, order, sparsity, pruned, errors);
      assertArrayEquals(problem.weights, get(weights));
      Walk walk = new Walk(get(factor), get(pruned), errors);
      for (float value : walk.pruned) {
        assertTrue(value != 0 || Float.floatToRawIntBits(value) == 0, "-0");
      }
      double[] expected = problem.errors(widen(walk.pruned));
      double[] sizes = problem.sizes(widen(walk.pruned));
      for (int row = 0; row < rows; row++) {
        assertEquals(expected[row], errors[row], 40 * EPS * sizes[row], sparsity + ", row " + row);
      }
      return walk;
    }
  }

  /** A random order that goes through groups without a break. */
  private int[] order(int n, Sparsity sparsity) {
    int of = sparsity instanceof Sparsity.Pattern pattern ? pattern.of() : 1;
    return shuffled(n / of)
      .stream()
      .flatMap(group ->
        shuffled(of)
          .stream()
          .map(i -> group * of + i)
      )
      .mapToInt(Integer::intValue)
      .toArray();
  }

  private List<Integer> shuffled(int count) {
    List<Integer> numbers = IntStream.range(0, count).boxed().collect(Collectors.toList());
    Collections.shuffle(numbers, random);
    return numbers;
  }

  private static double sum(double[] values) {
    return Arrays.stream(values).sum();
  }

  private static double[] widen(float[] values) {
    return IntStream.range(0, values.length)
      .mapToDouble(i -> values[i])
      .toArray();
  }

  // --- What is refused.

  @Test
  void refusesWhatCannotBeRemoved() {
    Matrix weights = put(gaussian(48 * 3), 48, 3);
    float[] before = get(weights);
    Matrix factor = put(new float[48 * 48], 48, 48);
    Matrix pruned = scope.matrix(48, 3);
    int[] order = IntStream.range(0, 48).toArray();
    for (Sparsity wrong : List.of(
      new Sparsity.Rows(-1),
      new Sparsity.Rows(49),
      new Sparsity.Whole(-1),
      new Sparsity.Whole(145),
      new Sparsity.Whole(Long.MIN_VALUE),
      new Sparsity.Pattern(-1, 4),
      new Sparsity.Pattern(5, 4),
      new Sparsity.Pattern(Integer.MIN_VALUE, 4),
      new Sparsity.Pattern(1, 0),
      new Sparsity.Pattern(1, -4),
      new Sparsity.Pattern(1, 3),
      new Sparsity.Pattern(16, 32),
      new Sparsity.Pattern(32, 64)
    )) {
      refuses(() -> device().prune(weights, null, wrong));
      refuses(() -> device().sparseWalk(weights, factor, 1, order, wrong, pruned, new double[3]));
    }
    Sparsity half = new Sparsity.Rows(24);
    refuses(() -> device().prune(weights, new float[47], half));
    for (float wrong : new float[] { Float.NaN, -1, Float.POSITIVE_INFINITY, -Float.MIN_VALUE }) {
      float[] norms = norms(48);
      norms[47] = wrong;
      refuses(() -> device().prune(weights, norms, half));
    }
    for (float wrong : new float[] { Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
      float[] values = before.clone();
      values[values.length - 1] = wrong;
      Matrix bad = put(values, 48, 3);
      refuses(() -> device().prune(bad, null, half));
      refuses(() -> device().sparseWalk(bad, factor, 1, order, half, pruned, new double[3]));
      assertArrayEquals(values, get(bad));
    }
    assertArrayEquals(before, get(weights));
    assertArrayEquals(new float[48 * 3], get(pruned));
  }

  @Test
  void refusesWalksThatDoNotFit() {
    Problem problem = problem(32, 3);
    Sparsity half = new Sparsity.Rows(16);
    Matrix weights = put(problem.weights, 32, 3);
    Matrix factor = put(problem.gram, 32, 32);
    Matrix pruned = scope.matrix(32, 3);
    int[] order = IntStream.range(0, 32).toArray();
    double[] errors = new double[3];
    device().sparseWalk(weights, factor, 1, order, half, pruned, errors);
    float[] before = get(pruned);
    for (Matrix wrong : List.of(scope.matrix(16, 3), scope.matrix(32, 4), scope.matrix(3, 32))) {
      refuses(() -> device().sparseWalk(weights, factor, 1, order, half, wrong, errors));
      refuses(() -> device().sparseWalk(wrong, factor, 1, order, half, pruned, errors));
      refuses(() -> device().sparseWalk(weights, wrong, 1, order, half, pruned, errors));
    }
    refuses(() -> device().sparseWalk(weights, factor, 1, order, half, weights, errors));
    Matrix square = put(problem.gram, 32, 32);
    refuses(() -> device().sparseWalk(square, factor, 1, order, half, factor, new double[32]));
    refuses(() -> device().sparseWalk(weights, factor, 1, order, half, pruned, new double[4]));
    int[] twice = order.clone();
    twice[3] = 4;
    refuses(() -> device().sparseWalk(weights, factor, 1, twice, half, pruned, errors));
    int[] broken = order.clone();
    broken[3] = 4;
    broken[4] = 3;
    refuses(() -> device().sparseWalk(weights, factor, 1, broken, new Sparsity.Pattern(2, 4), pruned, errors));
    assertArrayEquals(before, get(pruned));
    device().sparseWalk(weights, factor, 1, broken, new Sparsity.Pattern(2, 8), pruned, errors);
  }

  @Test
  void refusesForeignAndClosedMatrices() {
    record Foreign(int rows, int columns) implements Matrix {
      @Override
      public Matrix rows(int from, int count) {
        return this;
      }
    }
    Matrix foreign = new Foreign(2, 2);
    Matrix good = put(new float[] { 2, 0, 0, 2 }, 2, 2);
    Matrix result = scope.matrix(2, 2);
    Sparsity half = new Sparsity.Rows(1);
    int[] order = { 0, 1 };
    double[] errors = new double[2];
    refuses(() -> device().prune(foreign, null, half));
    refuses(() -> device().sparseWalk(foreign, good, 1, order, half, result, errors));
    refuses(() -> device().sparseWalk(good, foreign, 1, order, half, result, errors));
    refuses(() -> device().sparseWalk(good, good, 1, order, half, foreign, errors));
    Scope other = device().scope();
    Matrix closed = other.matrix(2, 2);
    other.close();
    assertThrows(IllegalStateException.class, () -> device().prune(closed, null, half));
    assertThrows(IllegalStateException.class, () -> device().sparseWalk(good, good, 1, order, half, closed, errors));
  }

  // --- Helpers.

  private static void refuses(Executable call) {
    String message = assertThrows(IllegalArgumentException.class, call).getMessage();
    assertEquals(1, message.lines().count(), message);
  }

  private Matrix put(float[] values, int rows, int columns) {
    Matrix matrix = scope.matrix(rows, columns);
    device().upload(MemorySegment.ofArray(values), matrix);
    return matrix;
  }

  private float[] get(Matrix matrix) {
    float[] values = new float[matrix.rows() * matrix.columns()];
    device().download(matrix, MemorySegment.ofArray(values));
    return values;
  }

  private float[] gaussian(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian() * 0.05f;
    }
    return values;
  }

  /** Few different numbers, so that many scores are equal. */
  private float[] tied(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (random.nextInt(7) - 3) * 0.25f;
    }
    return values;
  }

  /** Numbers of all sizes; zeros of both signs, the least and the greatest number. */
  private float[] extreme(int count) {
    float[] special = { 0, -0f, Float.MIN_VALUE, -Float.MAX_VALUE, Float.MAX_VALUE, -Float.MIN_NORMAL };
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      float any = Float.intBitsToFloat(random.nextInt());
      values[i] = random.nextInt(3) == 0 || !Float.isFinite(any) ? special[random.nextInt(special.length)] : any;
    }
    return values;
  }

  /** Norms of columns, some of them 0, some equal. */
  private float[] norms(int n) {
    float[] norms = new float[n];
    for (int i = 0; i < n; i++) {
      norms[i] = random.nextInt(8) == 0 ? 0 : random.nextInt(3) == 0 ? 2 : random.nextFloat() * 4;
    }
    return norms;
  }
}
