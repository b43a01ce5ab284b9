package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.DistributionLoss.Divergence;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.ToDoubleFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.function.Executable;

/**
 * How every device must compute what a transformer is made of: results against plain loops in double precision, derivatives against
 * differences of those. A device's test inherits it.
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
public abstract class TransformerContract {

  private static final double TOLERANCE = 2e-5;

  private final Random random = new Random();
  private Scope scope;

  protected abstract Device device();

  /** Whether the device is so slow that large problems are left out. */
  protected boolean isSlow() {
    return false;
  }

  private TransformerOperations transformer() {
    return device().transformer();
  }

  @BeforeEach
  void openScope() {
    random.setSeed(8);
    scope = device().scope();
  }

  @AfterEach
  void closeScope() {
    scope.close();
  }

  // --- Matrices.

  private Matrix put(float[] values, int rows) {
    Matrix matrix = scope.matrix(rows, values.length / rows);
    device().upload(MemorySegment.ofArray(values), matrix);
    return matrix;
  }

  /** A matrix whose contents must not matter. */
  private Matrix garbage(int rows, int columns) {
    float[] values = new float[rows * columns];
    Arrays.fill(values, Float.NaN);
    return put(values, rows);
  }

  private float[] get(Matrix matrix) {
    float[] values = new float[matrix.rows() * matrix.columns()];
    device().download(matrix, MemorySegment.ofArray(values));
    return values;
  }

  private float[] gaussian(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return values;
  }

  private static double[] wide(float[] values) {
    double[] wide = new double[values.length];
    for (int i = 0; i < values.length; i++) {
      wide[i] = values[i];
    }
    return wide;
  }

  private static double[] sum(double[] a, float[] b) {
    double[] sum = a.clone();
    for (int i = 0; i < sum.length; i++) {
      sum[i] += b[i];
    }
    return sum;
  }

  /** Relative to the number itself or, where that is small, to the others. */
  private static void assertClose(double[] expected, float[] found, String what) {
    assertClose(expected, found, 0, what);
  }

  /** @param least what the numbers' size is at least, where larger ones cancel each other */
  private static void assertClose(double[] expected, float[] found, double least, String what) {
    assertEquals(expected.length, found.length, what);
    double size = Math.max(least, Math.sqrt(TransformerReference.dot(expected, expected) / expected.length));
    for (int i = 0; i < expected.length; i++) {
      assertNear(expected[i], found[i], size, what + " at " + i);
    }
  }

  private static void assertNear(double expected, float found, double size, String what) {
    double difference = Math.abs(expected - found);
    // Not the other way round: NaN is not near.
    if (!(difference <= TOLERANCE * (Math.abs(expected) + size + 1e-6))) {
      throw new AssertionError(what + ": expected " + expected + ", found " + found);
    }
  }

  /** Checks some derivatives of a matrix. */
  private void assertGradient(ToDoubleFunction<double[]> function, float[] x, float[] gradient, String what) {
    int most = 40;
    int[] places = x.length <= most ? IntStream.range(0, x.length).toArray() : random.ints(most, 0, x.length).toArray();
    for (int i : places) {
      assertNear(TransformerReference.derivative(function, wide(x), i), gradient[i], 0.3, what + " at " + i);
    }
  }

  // --- Rows of a table, biases.

  @Test
  void looksUpRowsAndAddsTheirGradients() {
    for (int[] shape : new int[][] { { 1, 1, 1 }, { 7, 3, 5 }, { 40, 9, 70 } }) {
      int n = shape[0];
      int vocabulary = shape[1];
      int d = shape[2];
      int[] tokens = random.ints(n, 0, vocabulary).toArray();
      float[] table = gaussian(vocabulary * d);
      Matrix out = garbage(n, d);
      transformer().embed(tokens, put(table, vocabulary), out);
      float[] expected = new float[n * d];
      for (int i = 0; i < n; i++) {
        System.arraycopy(table, tokens[i] * d, expected, i * d, d);
      }
      assertArrayEquals(expected, get(out));

      float[] given = gaussian(n * d);
      Matrix gradient = put(table, vocabulary);
      transformer().embedGradient(tokens, put(given, n), gradient);
      double[] sums = wide(table);
      for (int i = 0; i < n * d; i++) {
        sums[tokens[i / d] * d + (i % d)] += given[i];
      }
      assertClose(sums, get(gradient), "gradient of the table");
    }
  }

  @Test
  void addsBiasesAndTheirGradients() {
    for (int[] shape : new int[][] { { 1, 1 }, { 5, 7 }, { 300, 33 } }) {
      int n = shape[0];
      int d = shape[1];
      float[] bias = gaussian(d);
      float[] values = gaussian(n * d);
      Matrix to = put(values, n);
      transformer().addBias(put(bias, 1), to);
      float[] expected = values.clone();
      double[] sums = wide(bias);
      for (int i = 0; i < n * d; i++) {
        expected[i] += bias[i % d];
        sums[i % d] += values[i];
      }
      assertArrayEquals(expected, get(to));
      Matrix gradient = put(bias, 1);
      transformer().addBiasGradient(put(values, n), gradient);
      assertClose(sums, get(gradient), "gradient of the bias");
    }
  }

  // --- Normalization.

  @Test
  void normalizesRowsAndParts() {
    for (int[] shape : new int[][] { { 1, 1, 1 }, { 5, 1, 7 }, { 3, 4, 16 }, { 40, 2, 33 }, { 2, 1, 256 } }) {
      int n = shape[0];
      int d = shape[2];
      float[] x = gaussian(n * shape[1] * d);
      float[] weight = gaussian(d);
      float epsilon = 1e-2f;
      double[] expected = TransformerReference.rmsNorm(wide(x), wide(weight), epsilon);
      Matrix in = put(x, n);
      Matrix factors = put(weight, 1);
      Matrix out = garbage(n, shape[1] * d);
      transformer().rmsNorm(in, factors, epsilon, out);
      assertClose(expected, get(out), "normalized " + Arrays.toString(shape));
      assertArrayEquals(x, get(in));
      transformer().rmsNorm(in, factors, epsilon, in);
      assertArrayEquals(get(out), get(in), "in place");
      assertNormGradient(x, weight, epsilon, n);
    }
  }

  private void assertNormGradient(float[] x, float[] weight, float epsilon, int n) {
    float[] given = gaussian(x.length);
    float[] before = gaussian(x.length);
    float[] weightBefore = gaussian(weight.length);
    double[] byX = TransformerReference.gradient(
      other -> TransformerReference.dot(TransformerReference.rmsNorm(other, wide(weight), epsilon), wide(given)),
      wide(x)
    );
    double[] byWeight = TransformerReference.gradient(
      other -> TransformerReference.dot(TransformerReference.rmsNorm(wide(x), other, epsilon), wide(given)),
      wide(weight)
    );
    Matrix in = put(x, n);
    Matrix factors = put(weight, 1);
    Matrix weightGradient = put(weightBefore, 1);
    Matrix overwritten = garbage(n, x.length / n);
    transformer().rmsNormGradient(in, factors, epsilon, put(given, n), false, overwritten, weightGradient);
    assertClose(byX, get(overwritten), "gradient of x");
    assertClose(sum(byWeight, weightBefore), get(weightGradient), "gradient of the weight");
    Matrix added = put(before, n);
    transformer().rmsNormGradient(in, factors, epsilon, put(given, n), true, added, put(weightBefore, 1));
    assertClose(sum(byX, before), get(added), "gradient added");
    Matrix inPlace = put(given, n);
    transformer().rmsNormGradient(in, factors, epsilon, inPlace, false, inPlace, put(weightBefore, 1));
    assertArrayEquals(get(overwritten), get(inPlace), "in place");
  }

  @Test
  void normalizesZerosAndHugeNumbers() {
    float[] x = gaussian(3 * 32);
    Arrays.fill(x, 0, 32, 0);
    for (int i = 32; i < 64; i++) {
      x[i] *= 1e16f;
    }
    float[] weight = gaussian(32);
    Matrix out = garbage(3, 32);
    transformer().rmsNorm(put(x, 3), put(weight, 1), 1e-6f, out);
    assertClose(TransformerReference.rmsNorm(wide(x), wide(weight), 1e-6f), get(out), "normalized");
    assertArrayEquals(new float[32], Arrays.copyOf(get(out), 32), 1e-30f);
    Matrix gradient = garbage(3, 32);
    transformer().rmsNormGradient(
      put(x, 3),
      put(weight, 1),
      1e-6f,
      put(gaussian(3 * 32), 3),
      false,
      gradient,
      put(weight, 1)
    );
    for (float value : get(gradient)) {
      assertTrue(Float.isFinite(value));
    }
  }

  // --- Positions.

  @Test
  void rotatesPairs() {
    for (int[] shape : new int[][] {
      { 1, 1, 1, 2, 1 },
      { 6, 3, 2, 8, 3 },
      { 10, 5, 3, 32, 16 },
      { 4, 2, 1, 70, 33 }
    }) {
      int n = shape[0];
      int length = shape[1];
      int columns = shape[2] * shape[3];
      int r = shape[4];
      float[] x = gaussian(n * columns);
      float[] angles = new float[length * 2 * r];
      for (int position = 0; position < length; position++) {
        for (int i = 0; i < r; i++) {
          double angle = random.nextDouble(7);
          angles[position * 2 * r + i] = (float) Math.cos(angle);
          angles[position * 2 * r + r + i] = (float) Math.sin(angle);
        }
      }
      for (boolean neighbours : new boolean[] { false, true }) {
        Matrix matrix = put(x, n);
        Matrix table = put(angles, length);
        for (boolean back : new boolean[] { false, true }) {
          double[] expected = TransformerReference.rotate(
            wide(get(matrix)),
            columns,
            shape[3],
            wide(angles),
            length,
            neighbours,
            back
          );
          transformer().rotate(matrix, shape[3], table, neighbours, back);
          assertClose(expected, get(matrix), "rotated " + Arrays.toString(shape) + neighbours + back);
        }
        assertClose(wide(x), get(matrix), "rotated there and back");
      }
    }
  }

  // --- Attention.

  /** Sequences and their shape. */
  private record Attention(int sequences, AttentionShape shape) {
    int rows() {
      return sequences * shape.length();
    }

    int queries() {
      return shape.heads() * shape.size();
    }

    int keys() {
      return shape.groups() * shape.size();
    }
  }

  private List<Attention> attentions() {
    List<Attention> all = new ArrayList<>(
      List.of(
        new Attention(1, new AttentionShape(1, 1, 1, 1, 1, 0)),
        new Attention(2, new AttentionShape(5, 4, 2, 3, 0.6f, 0)),
        new Attention(3, new AttentionShape(7, 3, 1, 8, 0.5f, 3)),
        new Attention(2, new AttentionShape(4, 2, 2, 4, 0.7f, 1)),
        new Attention(1, new AttentionShape(33, 2, 1, 16, 0.25f, 0))
      )
    );
    if (!isSlow()) {
      all.add(new Attention(2, new AttentionShape(150, 2, 1, 32, 0.2f, 0)));
      all.add(new Attention(1, new AttentionShape(150, 4, 4, 8, 0.3f, 0)));
      all.add(new Attention(2, new AttentionShape(170, 4, 2, 20, 0.2f, 75)));
      all.add(new Attention(1, new AttentionShape(90, 1, 1, 64, 0.1f, 17)));
    }
    return all;
  }

  @Test
  void attends() {
    for (Attention attention : attentions()) {
      AttentionShape shape = attention.shape();
      int n = attention.rows();
      float[] q = gaussian(n * attention.queries());
      float[] k = gaussian(n * attention.keys());
      float[] v = gaussian(n * attention.keys());
      Matrix out = garbage(n, attention.queries());
      Matrix logSums = garbage(n, shape.heads());
      transformer().attend(put(q, n), put(k, n), put(v, n), shape, out, logSums);
      double[] expected = TransformerReference.attend(wide(q), wide(k), wide(v), shape);
      assertClose(Arrays.copyOf(expected, q.length), get(out), "attention " + shape);
      assertClose(Arrays.copyOfRange(expected, q.length, expected.length), get(logSums), "logarithms of sums " + shape);
      assertAttentionGradient(attention, q, k, v, out, logSums);
    }
  }

  private void assertAttentionGradient(
    Attention attention,
    float[] q,
    float[] k,
    float[] v,
    Matrix out,
    Matrix logSums
  ) {
    AttentionShape shape = attention.shape();
    int n = attention.rows();
    float[] given = gaussian(q.length);
    // The sums of exponentials are no part of the loss.
    double[] weights = Arrays.copyOf(wide(given), q.length + n * shape.heads());
    Matrix outGradient = put(given, n);
    List<Matrix> gradients = List.of(
      garbage(n, attention.queries()),
      garbage(n, attention.keys()),
      garbage(n, attention.keys())
    );
    transformer().attendGradient(
      put(q, n),
      put(k, n),
      put(v, n),
      shape,
      out,
      logSums,
      outGradient,
      gradients.get(0),
      gradients.get(1),
      gradients.get(2)
    );
    float[][] found = gradients.stream().map(this::get).toArray(float[][]::new);
    double[][] expected = TransformerReference.attendGradient(wide(q), wide(k), wide(v), shape, wide(given));
    for (int i = 0; i < 3; i++) {
      assertClose(expected[i], found[i], 0.2, "gradient of " + "qkv".charAt(i) + ", " + shape);
    }
    if (n < 40) {
      assertGradient(
        other -> TransformerReference.dot(TransformerReference.attend(other, wide(k), wide(v), shape), weights),
        q,
        found[0],
        "gradient of q " + shape
      );
      assertGradient(
        other -> TransformerReference.dot(TransformerReference.attend(wide(q), other, wide(v), shape), weights),
        k,
        found[1],
        "gradient of k " + shape
      );
      assertGradient(
        other -> TransformerReference.dot(TransformerReference.attend(wide(q), wide(k), other, shape), weights),
        v,
        found[2],
        "gradient of v " + shape
      );
    }
    Matrix kGradient = garbage(n, attention.keys());
    Matrix vGradient = garbage(n, attention.keys());
    transformer().attendGradient(
      put(q, n),
      put(k, n),
      put(v, n),
      shape,
      out,
      logSums,
      outGradient,
      outGradient,
      kGradient,
      vGradient
    );
    assertArrayEquals(get(gradients.get(0)), get(outGradient), "in place " + shape);
    assertArrayEquals(get(gradients.get(1)), get(kGradient), "in place " + shape);
    assertArrayEquals(get(gradients.get(2)), get(vGradient), "in place " + shape);
  }

  /** A position's keys and values change nothing before it, beyond the window, or in another sequence. */
  @Test
  void seesNothingElse() {
    int length = isSlow() ? 9 : 100;
    int window = length / 2;
    AttentionShape shape = new AttentionShape(length, 2, 1, 8, 0.4f, window);
    int n = 3 * length;
    float[] q = gaussian(n * 16);
    float[] k = gaussian(n * 8);
    float[] v = gaussian(n * 8);
    Matrix out = garbage(n, 16);
    Matrix logSums = garbage(n, 2);
    transformer().attend(put(q, n), put(k, n), put(v, n), shape, out, logSums);
    float[] before = get(out);
    int position = length / 3;
    int changed = length + position;
    for (int i = changed * 8; i < changed * 8 + 8; i++) {
      k[i] += 1;
      v[i] -= 2;
    }
    transformer().attend(put(q, n), put(k, n), put(v, n), shape, out, logSums);
    float[] after = get(out);
    for (int row = 0; row < n; row++) {
      boolean sees = row >= changed && row < Math.min(changed + window, 2 * length);
      boolean same = Arrays.equals(before, row * 16, row * 16 + 16, after, row * 16, row * 16 + 16);
      assertEquals(sees, !same, "row " + row);
    }
  }

  @Test
  void attendsToExtremeScores() {
    AttentionShape shape = new AttentionShape(20, 1, 1, 4, 1, 0);
    float[] q = gaussian(20 * 4);
    float[] k = gaussian(20 * 4);
    float[] v = gaussian(20 * 4);
    for (int i = 0; i < 40; i++) {
      q[i] *= 100;
      k[i] *= 100;
    }
    Arrays.fill(k, 60, 80, 0);
    Matrix out = garbage(20, 4);
    Matrix logSums = garbage(20, 1);
    transformer().attend(put(q, 20), put(k, 20), put(v, 20), shape, out, logSums);
    double[] expected = TransformerReference.attend(wide(q), wide(k), wide(v), shape);
    float[] found = get(out);
    for (int i = 0; i < found.length; i++) {
      // Scores of up to 1e5 have few digits after the point.
      assertEquals(expected[i], found[i], 0.02 * (1 + Math.abs(expected[i])), "at " + i);
    }
    Matrix[] gradients = { garbage(20, 4), garbage(20, 4), garbage(20, 4) };
    transformer().attendGradient(
      put(q, 20),
      put(k, 20),
      put(v, 20),
      shape,
      out,
      logSums,
      put(gaussian(80), 20),
      gradients[0],
      gradients[1],
      gradients[2]
    );
    for (Matrix gradient : gradients) {
      for (float value : get(gradient)) {
        assertTrue(Float.isFinite(value));
      }
    }
  }

  // --- SwiGLU.

  @Test
  void gates() {
    for (int n : new int[] { 1, 5, 67 }) {
      float[] gate = gaussian(n * 37);
      float[] special = { 0, -0f, 88, -88, 1e4f, -1e4f, 1e30f, -1e30f };
      for (int i = 0; i < Math.min(special.length, 37); i++) {
        gate[i] = special[i];
      }
      float[] up = gaussian(n * 37);
      double[] expected = TransformerReference.swiGlu(wide(gate), wide(up));
      Matrix out = garbage(n, 37);
      transformer().swiGlu(put(gate, n), put(up, n), out);
      float[] found = get(out);
      for (int i = 0; i < found.length; i++) {
        assertNear(expected[i], found[i], 0, "gated " + gate[i]);
      }
      for (boolean toGate : new boolean[] { true, false }) {
        Matrix left = put(gate, n);
        Matrix right = put(up, n);
        transformer().swiGlu(left, right, toGate ? left : right);
        assertArrayEquals(found, get(toGate ? left : right), "in place");
      }
      float[] given = gaussian(n * 37);
      Matrix byGate = garbage(n, 37);
      Matrix byUp = garbage(n, 37);
      transformer().swiGluGradient(put(gate, n), put(up, n), put(given, n), byGate, byUp);
      for (int i = 0; i < gate.length; i++) {
        double g = gate[i];
        double s = 1 / (1 + Math.exp(-g));
        double gateDerivative = given[i] * up[i] * (s + (s == 1 || s == 0 ? 0 : g * s * (1 - s)));
        if (Math.abs(g) < 80) {
          double[] one = { g };
          double[] other = { up[i] };
          gateDerivative =
            given[i] * TransformerReference.derivative(x -> TransformerReference.swiGlu(x, other)[0], one, 0);
        }
        assertNear(gateDerivative, get(byGate)[i], 1e-3, "gradient of gate " + g);
        assertNear(given[i] * g * s, get(byUp)[i], 0, "gradient of up " + g);
      }
      assertGatesInPlace(gate, up, given, n, get(byGate), get(byUp));
    }
  }

  private void assertGatesInPlace(float[] gate, float[] up, float[] given, int n, float[] byGate, float[] byUp) {
    for (int first = 0; first < 3; first++) {
      for (int second = 0; second < 3; second++) {
        Matrix[] in = { put(gate, n), put(up, n), put(given, n) };
        if (first != second) {
          transformer().swiGluGradient(in[0], in[1], in[2], in[first], in[second]);
          assertArrayEquals(byGate, get(in[first]), "in place");
          assertArrayEquals(byUp, get(in[second]), "in place");
        }
      }
    }
  }

  // --- Losses.

  private static List<DistributionLoss> losses() {
    List<DistributionLoss> losses = new ArrayList<>();
    for (Divergence kind : Divergence.values()) {
      losses.add(new DistributionLoss(kind, 0.3f, 1, 0.7f, 0.4f, 0.25f));
      losses.add(new DistributionLoss(kind, 0.5f, 2.5f, 0.7f, 0.4f, 0.25f));
      losses.add(new DistributionLoss(kind, 0.9f, 0.5f, 1, 0, 1));
    }
    return losses;
  }

  /** A teacher's logarithms of events for a row, and how the student's follow from all. */
  private record Row(double[] teacher, int[] tokens) {
    double divergence(double[] logits, DistributionLoss loss) {
      double[] logs = TransformerReference.logSoftmax(logits, loss.temperature());
      return TransformerReference.divergence(
        teacher,
        tokens == null ? logs : TransformerReference.events(logs, tokens),
        loss
      );
    }
  }

  /** Computes a loss and checks every row. */
  private void assertLoss(float[] logits, int n, TeacherRows rows, Row[] teacher, int[] labels, DistributionLoss loss) {
    int vocabulary = logits.length / n;
    Matrix student = put(logits, n);
    Matrix losses = garbage(n, 2);
    transformer().distributionLoss(student, rows, labels, loss, losses);
    float[] gradient = get(student);
    float[] found = get(losses);
    for (int row = 0; row < n; row++) {
      String what = loss + ", row " + row;
      float[] own = Arrays.copyOfRange(logits, row * vocabulary, (row + 1) * vocabulary);
      Row said = teacher[row];
      int label = labels[row];
      ToDoubleFunction<double[]> divergence = x -> said == null ? 0 : said.divergence(x, loss);
      ToDoubleFunction<double[]> crossEntropy = x -> label < 0 ? 0 : -TransformerReference.logSoftmax(x, 1)[label];
      assertNear(divergence.applyAsDouble(wide(own)), found[2 * row], 1, what + ", divergence");
      assertNear(crossEntropy.applyAsDouble(wide(own)), found[2 * row + 1], 1, what + ", cross-entropy");
      double temperature = loss.temperature();
      double[] expected = TransformerReference.gradient(
        x ->
          loss.scale() *
          (loss.divergenceWeight() * temperature * temperature * divergence.applyAsDouble(x) +
            loss.crossEntropyWeight() * crossEntropy.applyAsDouble(x)),
        wide(own)
      );
      for (int i = 0; i < vocabulary; i++) {
        assertNear(expected[i], gradient[row * vocabulary + i], 0.05, what + ", gradient at " + i);
      }
    }
  }

  private int[] labels(int n, int vocabulary) {
    return random
      .ints(n, 0, vocabulary)
      .map(label -> random.nextInt(4) == 0 ? -1 - label : label)
      .toArray();
  }

  @Test
  void comparesWithAllOfTheTeachers() {
    for (int vocabulary : new int[] { 2, 37 }) {
      int n = 5;
      float[] logits = gaussian(n * vocabulary);
      float[] said = gaussian(n * vocabulary);
      for (int i = 0; i < logits.length; i++) {
        logits[i] *= 3;
        said[i] = (said[i] + logits[i]) * 2;
      }
      // The same, all alike, and none of a token.
      System.arraycopy(logits, 0, said, 0, vocabulary);
      Arrays.fill(logits, vocabulary, 2 * vocabulary, 0);
      said[2 * vocabulary] = Float.NEGATIVE_INFINITY;
      for (DistributionLoss loss : losses()) {
        Row[] rows = new Row[n];
        for (int row = 0; row < n; row++) {
          double[] own = wide(Arrays.copyOfRange(said, row * vocabulary, (row + 1) * vocabulary));
          rows[row] = new Row(TransformerReference.logSoftmax(own, loss.temperature()), null);
        }
        assertLoss(logits, n, new TeacherRows.Logits(put(said, n)), rows, labels(n, vocabulary), loss);
      }
    }
  }

  @Test
  void comparesWithTheTeachersLikeliest() {
    int n = 4;
    for (int[] shape : new int[][] { { 2, 1 }, { 40, 3 }, { 40, 18 }, { 20, 19 } }) {
      int vocabulary = shape[0];
      int k = shape[1];
      float[] logits = gaussian(n * vocabulary);
      float[] said = gaussian(n * vocabulary);
      int[] tokens = new int[n * k];
      for (int row = 0; row < n; row++) {
        int[] all = random.ints(0, vocabulary).distinct().limit(k).toArray();
        System.arraycopy(all, 0, tokens, row * k, k);
      }
      for (DistributionLoss loss : losses()) {
        float[] logs = new float[n * (k + 1)];
        Row[] rows = new Row[n];
        for (int row = 0; row < n; row++) {
          int[] own = Arrays.copyOfRange(tokens, row * k, (row + 1) * k);
          float[] all = Arrays.copyOfRange(said, row * vocabulary, (row + 1) * vocabulary);
          if (row == 1) {
            // The teacher knows of nothing else.
            Arrays.fill(all, Float.NEGATIVE_INFINITY);
            for (int token : own) {
              all[token] = 1;
            }
          }
          double[] events = TransformerReference.events(
            TransformerReference.logSoftmax(wide(all), loss.temperature()),
            own
          );
          for (int i = 0; i <= k; i++) {
            logs[row * (k + 1) + i] = (float) events[i];
            events[i] = logs[row * (k + 1) + i];
          }
          rows[row] = new Row(events, own);
        }
        TeacherRows teacher = new TeacherRows.Top(tokens, put(logs, n));
        assertLoss(logits, n, teacher, rows, labels(n, vocabulary), loss);
      }
    }
  }

  @Test
  void comparesWithTheTextAlone() {
    float[] logits = gaussian(5 * 30);
    DistributionLoss loss = new DistributionLoss(Divergence.FORWARD, 0, 2, 0, 1.5f, 0.5f);
    assertLoss(logits, 5, null, new Row[5], new int[] { 0, 29, -1, 7, 7 }, loss);
  }

  @Test
  void staysFiniteWithExtremeLogits() {
    int vocabulary = 50;
    float[] logits = gaussian(3 * vocabulary);
    float[] said = gaussian(3 * vocabulary);
    Arrays.fill(logits, 0, vocabulary, -1e4f);
    logits[3] = 1e4f;
    Arrays.fill(said, 0, vocabulary, 1e4f);
    Arrays.fill(said, vocabulary, 2 * vocabulary, Float.NEGATIVE_INFINITY);
    said[vocabulary + 7] = -1e4f;
    logits[2 * vocabulary] = 1e4f;
    said[2 * vocabulary] = -1e4f;
    int[] labels = { 0, -1, 1 };
    int[] tokens = { 3, 7, 7, 3, 0, 1 };
    float none = Float.NEGATIVE_INFINITY;
    float[] logs = { none, none, 0, 0, none, none, (float) Math.log(0.5), (float) Math.log(0.5), none };
    for (DistributionLoss loss : losses()) {
      for (TeacherRows teacher : List.of(
        new TeacherRows.Logits(put(said, 3)),
        new TeacherRows.Top(tokens, put(logs, 3))
      )) {
        Matrix student = put(logits, 3);
        Matrix losses = garbage(3, 2);
        transformer().distributionLoss(student, teacher, labels, loss, losses);
        for (float value : get(losses)) {
          assertTrue(Float.isFinite(value) && value >= -1e-5, loss + ": " + value);
        }
        assertEquals(2e4, get(losses)[1], 1);
        float[] gradient = get(student);
        for (int row = 0; row < 3; row++) {
          double sum = 0;
          for (int i = 0; i < vocabulary; i++) {
            assertTrue(Float.isFinite(gradient[row * vocabulary + i]), loss + ", row " + row);
            sum += gradient[row * vocabulary + i];
          }
          // Adding the same to all logits changes nothing.
          assertEquals(0, sum, 1e-4, loss + ", row " + row);
        }
      }
    }
  }

  @Test
  void comparesStates() {
    for (boolean cosine : new boolean[] { false, true }) {
      for (int d : new int[] { 1, 7, 70 }) {
        int n = 6;
        float[] states = gaussian(n * d);
        float[] said = gaussian(n * d);
        // The first two rows are zeros on one side, the third on both; the fourth ones are the same.
        Arrays.fill(said, 0, d, 0);
        Arrays.fill(states, d, 3 * d, 0);
        Arrays.fill(said, 2 * d, 3 * d, 0);
        System.arraycopy(states, 3 * d, said, 3 * d, d);
        Matrix student = put(states, n);
        Matrix losses = garbage(n, 1);
        transformer().stateLoss(student, put(said, n), cosine, 0.3f, losses);
        float[] gradient = get(student);
        for (int row = 0; row < n; row++) {
          double[] own = wide(Arrays.copyOfRange(states, row * d, (row + 1) * d));
          double[] other = wide(Arrays.copyOfRange(said, row * d, (row + 1) * d));
          assertNear(TransformerReference.stateLoss(own, other, cosine), get(losses)[row], 0.1, "loss of row " + row);
          double[] expected = cosine && row < 3
            ? new double[d]
            : TransformerReference.gradient(x -> 0.3 * TransformerReference.stateLoss(x, other, cosine), own);
          for (int i = 0; i < d; i++) {
            assertNear(expected[i], gradient[row * d + i], 0.01, "gradient of row " + row);
          }
        }
      }
    }
  }

  // --- Steps.

  @Test
  void sumsSquaresAndScales() {
    for (int n : new int[] { 1, 33, 700 }) {
      float[] x = gaussian(n * 41);
      Matrix matrix = put(x, n);
      double expected = TransformerReference.dot(wide(x), wide(x));
      assertEquals(expected, transformer().squares(matrix), 1e-12 * expected);
      transformer().scale(-0.3f, matrix);
      float[] scaled = get(matrix);
      for (int i = 0; i < x.length; i++) {
        assertEquals(x[i] * -0.3f, scaled[i]);
      }
      x[n * 20] = Float.NaN;
      x[n * 30] = Float.NEGATIVE_INFINITY;
      matrix = put(x, n);
      assertFalse(Double.isFinite(transformer().squares(matrix)));
      transformer().scale(0, matrix);
      assertArrayEquals(new float[x.length], get(matrix));
    }
    assertEquals(2e60, transformer().squares(put(new float[] { 1e30f, -1e30f }, 1)), 1e54);
  }

  @Test
  void steps() {
    int n = 77;
    float[] weights = gaussian(n);
    double[] w = wide(weights);
    double[] m = new double[n];
    double[] v = new double[n];
    Matrix changed = put(weights, 7);
    Matrix first = put(new float[n], 7);
    Matrix second = put(new float[n], 7);
    for (int t = 1; t <= 3; t++) {
      float[] gradient = gaussian(n);
      gradient[5] = 0;
      AdamStep step = new AdamStep(0.01f * t, 0.9f, 0.95f, 1e-8f, 0.1f, t, 0.5f);
      transformer().adamW(changed, put(gradient, 7), first, second, step);
      double b1 = step.beta1();
      double b2 = step.beta2();
      for (int i = 0; i < n; i++) {
        double g = 0.5 * gradient[i];
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        double change = m[i] / (1 - Math.pow(b1, t)) / (Math.sqrt(v[i] / (1 - Math.pow(b2, t))) + step.epsilon());
        w[i] -= step.rate() * (change + step.decay() * w[i]);
      }
      assertClose(w, get(changed), "weights");
      assertClose(m, get(first), "first");
      assertClose(v, get(second), "second");
    }
  }

  // --- Wrong arguments.

  private void assertRefused(String message, Executable operation) {
    String found = assertThrows(IllegalArgumentException.class, operation).getMessage();
    assertTrue(found.contains(message) && found.lines().count() == 1, found);
  }

  @Test
  void refusesWrongTokens() {
    Matrix table = scope.matrix(4, 3);
    Matrix out = scope.matrix(2, 3);
    assertRefused("token 4 at 1", () -> transformer().embed(new int[] { 0, 4 }, table, out));
    assertRefused("token -1 at 0", () -> transformer().embedGradient(new int[] { -1, 0 }, out, table));
    assertRefused("is (2, 3), expected (1, 3)", () -> transformer().embed(new int[1], table, out));
    Matrix logits = scope.matrix(2, 5);
    Matrix losses = scope.matrix(2, 2);
    DistributionLoss loss = new DistributionLoss(Divergence.FORWARD, 0, 1, 1, 1, 1);
    TeacherRows all = new TeacherRows.Logits(scope.matrix(2, 5));
    assertRefused("label 5 at 1", () -> transformer().distributionLoss(logits, all, new int[] { 0, 5 }, loss, losses));
    assertRefused("labels has 1", () -> transformer().distributionLoss(logits, all, new int[1], loss, losses));
    assertRefused("without a teacher", () -> transformer().distributionLoss(logits, null, new int[2], loss, losses));
    Matrix logs = scope.matrix(2, 3);
    for (int[] tokens : new int[][] { { 0, 1, 2, 5 }, { 0, 1, 3, 3 }, { 0, 1, 2 } }) {
      TeacherRows top = new TeacherRows.Top(tokens, logs);
      assertRefused("token", () -> transformer().distributionLoss(logits, top, new int[2], loss, losses));
    }
    TeacherRows tooMany = new TeacherRows.Top(new int[10], scope.matrix(2, 6));
    assertRefused("5 tokens", () -> transformer().distributionLoss(logits, tooMany, new int[2], loss, losses));
  }

  @Test
  void refusesWrongShapes() {
    Matrix x = scope.matrix(6, 8);
    Matrix row = scope.matrix(1, 8);
    Matrix out = scope.matrix(6, 8);
    Matrix other = scope.matrix(6, 8);
    assertRefused("bias", () -> transformer().addBias(x, out));
    assertRefused("biasGradient", () -> transformer().addBiasGradient(x, scope.matrix(1, 7)));
    assertRefused("divisor", () -> transformer().rmsNorm(x, scope.matrix(1, 3), 1, out));
    assertRefused("epsilon", () -> transformer().rmsNorm(x, row, 0, out));
    assertRefused("epsilon", () -> transformer().rmsNorm(x, row, Float.NaN, out));
    assertRefused("the size of a head", () -> transformer().rotate(x, 3, scope.matrix(2, 2), true, false));
    assertRefused("the size of a head", () -> transformer().rotate(x, 0, scope.matrix(2, 2), true, false));
    assertRefused("the length of a sequence", () -> transformer().rotate(x, 4, scope.matrix(4, 2), true, false));
    assertRefused("even number of columns up to 4", () -> transformer().rotate(x, 4, scope.matrix(2, 6), true, false));
    assertRefused("even number of columns up to 4", () -> transformer().rotate(x, 4, scope.matrix(2, 3), true, false));
    AttentionShape shape = new AttentionShape(3, 2, 1, 4, 1, 0);
    Matrix k = scope.matrix(6, 4);
    Matrix sums = scope.matrix(6, 2);
    assertRefused("k is (6, 8)", () -> transformer().attend(x, other, k, shape, out, sums));
    assertRefused("logSums is (6, 4)", () -> transformer().attend(x, k, k, shape, out, scope.matrix(6, 4)));
    AttentionShape longer = new AttentionShape(4, 2, 1, 4, 1, 0);
    assertRefused("the length of a sequence", () -> transformer().attend(x, k, k, longer, out, sums));
    assertRefused("up is", () -> transformer().swiGlu(x, k, out));
    assertRefused("losses", () -> transformer().stateLoss(x, out, true, 1, scope.matrix(6, 2)));
    AdamStep step = new AdamStep(1, 0, 0, 1, 0, 1, 1);
    assertRefused("second", () -> transformer().adamW(x, out, other, k, step));
    assertThrows(IllegalArgumentException.class, () -> new AdamStep(1, 1, 0, 1, 0, 1, 1));
    assertThrows(IllegalArgumentException.class, () -> new AdamStep(1, 0, 0, 1, 0, 0, 1));
    assertThrows(IllegalArgumentException.class, () -> new AttentionShape(1, 1 << 20, 1, 1 << 20, 1, 0));
  }

  @Test
  void refusesResultsInTheWay() {
    Matrix x = scope.matrix(6, 8);
    Matrix out = scope.matrix(6, 8);
    Matrix large = scope.matrix(7, 8);
    Matrix row = scope.matrix(1, 8);
    Matrix k = scope.matrix(6, 4);
    Matrix k2 = scope.matrix(6, 4);
    Matrix k3 = scope.matrix(6, 4);
    Matrix sums = scope.matrix(6, 2);
    AttentionShape shape = new AttentionShape(3, 2, 1, 4, 1, 0);
    String message = "would overwrite";
    assertRefused(message, () -> transformer().embed(new int[6], x, x));
    assertRefused(message, () -> transformer().addBias(x.rows(2, 1), x));
    assertRefused(message, () -> transformer().addBiasGradient(x, x.rows(2, 1)));
    assertRefused(message, () -> transformer().rmsNorm(large.rows(0, 6), row, 1, large.rows(1, 6)));
    assertRefused(message, () -> transformer().rmsNormGradient(x, row, 1, out, true, out, scope.matrix(1, 8)));
    assertRefused(message, () -> transformer().rmsNormGradient(x, row, 1, out, false, x, scope.matrix(1, 8)));
    assertRefused(message, () -> transformer().rmsNormGradient(x, row, 1, out, false, large.rows(0, 6), row));
    assertRefused(message, () -> transformer().attend(x, k, k, shape, x, sums));
    assertRefused(message, () ->
      transformer().attendGradient(x, k, k, shape, out, sums, large.rows(0, 6), large.rows(1, 6), k2, k3)
    );
    assertRefused(message, () ->
      transformer().attendGradient(x, k, k, shape, out, sums, large.rows(0, 6), large.rows(0, 6), k2, k2)
    );
    assertRefused(message, () -> transformer().swiGlu(large.rows(0, 6), out, large.rows(1, 6)));
    assertRefused(message, () -> transformer().swiGluGradient(x, out, large.rows(0, 6), x, x));
    DistributionLoss loss = new DistributionLoss(Divergence.FORWARD, 0, 1, 1, 1, 1);
    assertRefused(message, () -> transformer().distributionLoss(x, new TeacherRows.Logits(x), new int[6], loss, sums));
    assertRefused(message, () -> transformer().stateLoss(x, x, false, 1, scope.matrix(6, 1)));
    AdamStep step = new AdamStep(1, 0, 0, 1, 0, 1, 1);
    assertRefused(message, () -> transformer().adamW(x, out, x, large.rows(0, 6), step));
  }

  @Test
  void refusesClosedMatrices() {
    Scope other = device().scope();
    Matrix matrix = other.matrix(2, 2);
    other.close();
    assertThrows(IllegalStateException.class, () -> transformer().squares(matrix));
    assertThrows(IllegalStateException.class, () -> transformer().scale(1, matrix));
  }
}
