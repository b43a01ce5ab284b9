package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.MadeUpInputs;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.calibration.linear.Pruning;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Sparsity;
import dev.attar.compute.Workers;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoders;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class MatrixQuantizerTest {

  private static final int N = 512;
  private static final int ROWS = 50;
  private static final float[] GRAM = MadeUpInputs.correlated(N, 1);
  private static final float[] WEIGHTS = MadeUpInputs.weights(ROWS, N, 2);

  private static final Workers WORKERS = new Workers(2);

  private static Device device;

  @BeforeAll
  static void openDevice() throws IOException {
    device = Devices.cpu(2);
  }

  @AfterAll
  static void closeDevice() {
    device.close();
    WORKERS.close();
  }

  private record Result(byte[] encoded, float[] decoded, MatrixError error) {}

  private static PreparedGram prepare(float[] gram, Effort effort) {
    return MadeUpInputs.prepare(
      device,
      gram,
      N,
      new PreparedGram.Use(0.01, effort.reach() > 0 ? PreparedGram.Order.GROUPED : PreparedGram.Order.SORTED, true)
    );
  }

  private static Result quantize(float[] gram, float[] weights, float[] drift, TensorType type, Effort effort)
    throws IOException {
    try (PreparedGram input = prepare(gram, effort)) {
      return quantize(effort, input, weights, drift, type, new BandReader(device));
    }
  }

  private static Result quantize(
    Effort effort,
    PreparedGram input,
    float[] weights,
    float[] drift,
    TensorType type,
    BandReader reader
  ) throws IOException {
    return quantize(new MatrixQuantizer(device, WORKERS, effort, type), input, weights, drift, type, reader);
  }

  private static Result quantize(
    MatrixQuantizer quantizer,
    PreparedGram input,
    float[] weights,
    float[] drift,
    TensorType type,
    BandReader reader
  ) throws IOException {
    int rows = weights.length / N;
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    try (BandReader bands = reader) {
      bands.add((first, count, to) -> System.arraycopy(weights, (int) first * N, to, 0, count * N), rows, N);
      MatrixError error = quantizer.quantize(
        input,
        bands,
        drift == null ? null : (first, count, to) -> System.arraycopy(drift, (int) first * N, to, 0, count * N),
        rows,
        input.importance(),
        (encoded, length) -> out.write(encoded, 0, length)
      );
      byte[] encoded = out.toByteArray();
      assertEquals(type.rowBytes(N) * rows, encoded.length);
      return new Result(encoded, decode(encoded, type), error);
    }
  }

  private static float[] decode(byte[] encoded, TensorType type) {
    float[] decoded = new float[Math.toIntExact((encoded.length / type.rowBytes(N)) * N)];
    BlockDecoders.of(type).decode(encoded, 0, decoded, 0, decoded.length);
    for (float value : decoded) {
      assertTrue(Float.isFinite(value));
    }
    return decoded;
  }

  @ParameterizedTest
  @EnumSource(
    names = { "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS" }
  )
  void leavesLessErrorThanRoundingAndLessWithMoreEffort(TensorType type) throws IOException {
    assertTrue(MatrixQuantizer.supports(type));
    byte[] encoded = new byte[Math.toIntExact(type.rowBytes(N) * ROWS)];
    float[] importance = MadeUpInputs.diagonal(GRAM, N);
    BlockEncoders.of(type).orElseThrow().encode(WEIGHTS, 0, N, ROWS, importance, 0, encoded, 0);
    double rounding = MadeUpInputs.error(WEIGHTS, decode(encoded, type), GRAM, N);
    List<Double> ratios = new ArrayList<>();
    for (int effort = 0; effort <= Effort.MOST; effort++) {
      Result result = quantize(GRAM, WEIGHTS, null, type, Effort.of(effort));
      double left = MadeUpInputs.error(WEIGHTS, result.decoded, GRAM, N);
      assertEquals(rounding, result.error.rounding(), 1e-4 * rounding);
      assertEquals(left, result.error.result(), 1e-4 * rounding);
      ratios.add(result.error.ratio());
    }
    assertTrue(ratios.getFirst() < 0.5, ratios.toString());
    // From effort 1 on, columns that share scales stay together in the order: that can cost more than the better scales bring.
    assertTrue(ratios.get(1) < ratios.get(0) * 1.1, ratios.toString());
    assertTrue(ratios.get(2) < ratios.get(1), ratios.toString());
    assertTrue(ratios.get(3) < ratios.get(2), ratios.toString());
  }

  /** Removes the half of least magnitude of each row. */
  private static final class Half implements Pruning {

    @Override
    public boolean prunes(TensorInfo tensor) {
      return true;
    }

    @Override
    public Optional<String> problem(TensorInfo tensor) {
      return Optional.empty();
    }

    @Override
    public boolean needsAllRows() {
      return false;
    }

    @Override
    public void prune(Device device, PreparedGram input, Matrix weights, Matrix pruned) {
      device.add(1, weights, pruned);
      device.prune(pruned, null, new Sparsity.Rows(N / 2));
    }

    @Override
    public Map<String, String> settings() {
      return Map.of();
    }
  }

  private static Result prune(PreparedGram input, TensorType type, Effort effort) throws IOException {
    MatrixQuantizer quantizer = new MatrixQuantizer(device, WORKERS, effort, type, Optional.of(new Half()));
    return quantize(quantizer, input, WEIGHTS, null, type, new BandReader(device));
  }

  private static PreparedGram natural() {
    return MadeUpInputs.prepare(device, GRAM, N, new PreparedGram.Use(0.01, PreparedGram.Order.NATURAL, true));
  }

  /**
   * Whether those weights are 0 that are among the smaller half of their row.
   *
   * @param onlyThese whether no other one may be
   */
  private static void assertPruned(float[] found, boolean onlyThese) {
    for (int row = 0; row < ROWS; row++) {
      float[] sizes = new float[N];
      for (int i = 0; i < N; i++) {
        sizes[i] = Math.abs(WEIGHTS[row * N + i]);
      }
      float[] sorted = sizes.clone();
      Arrays.sort(sorted);
      for (int i = 0; i < N; i++) {
        boolean removed = sizes[i] < sorted[N / 2];
        boolean isZero = found[row * N + i] == 0;
        assertTrue(removed ? isZero : !isZero || !onlyThese, "row " + row + ", column " + i);
      }
    }
  }

  /** Removing and rounding in one walk leaves less than rounding what is left, and, but for the coarsest types, than removing alone. */
  @ParameterizedTest
  @EnumSource(names = { "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K" })
  void prunedWeightsStayExactlyZeroAndTheOthersMakeUpForThem(TensorType type) throws IOException {
    assertTrue(MatrixQuantizer.keepsZeros(type));
    try (PreparedGram input = natural()) {
      double removing = MadeUpInputs.error(WEIGHTS, prune(input, TensorType.F32, Effort.of(0)).decoded, GRAM, N);
      for (int effort = 0; effort <= 1; effort++) {
        Result result = prune(input, type, Effort.of(effort));
        assertPruned(result.decoded, false);
        double left = MadeUpInputs.error(WEIGHTS, result.decoded, GRAM, N);
        assertEquals(left, result.error.result(), 1e-3 * left);
        assertTrue(result.error.ratio() < 0.75, effort + ": " + result.error);
        assertTrue(left < removing, type + ": " + left + ", removing alone " + removing);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(names = { "F32", "F16", "BF16" })
  void weightsAreOnlyRemovedWhereThereIsNoGrid(TensorType type) throws IOException {
    try (PreparedGram input = natural()) {
      Result result = prune(input, type, Effort.of(1));
      assertPruned(result.decoded, true);
      for (int i = 0; i < WEIGHTS.length; i++) {
        if (result.decoded[i] != 0) {
          assertEquals(WEIGHTS[i], result.decoded[i], Math.abs(WEIGHTS[i]) / 250);
        }
      }
      // Nothing makes up for what magnitude removes.
      assertEquals(1, result.error.ratio(), type == TensorType.F32 ? 0 : 0.02);
      double left = MadeUpInputs.error(WEIGHTS, result.decoded, GRAM, N);
      assertEquals(left, result.error.result(), 0.02 * left);
    }
  }

  @Test
  void typesWithoutZeroHoldNoPrunedWeights() {
    for (TensorType type : TensorType.values()) {
      boolean plain = List.of(TensorType.F32, TensorType.F16, TensorType.BF16).contains(type);
      boolean exact = MatrixQuantizer.supports(type) && type != TensorType.IQ4_NL && type != TensorType.IQ4_XS;
      assertEquals(plain || exact, MatrixQuantizer.keepsZeros(type), type::name);
    }
    Optional<Pruning> half = Optional.of(new Half());
    assertThrows(IllegalArgumentException.class, () ->
      new MatrixQuantizer(device, WORKERS, Effort.of(0), TensorType.IQ4_XS, half)
    );
  }

  @Test
  void supportsTypesWithGrids() {
    List<TensorType> supported = Arrays.stream(TensorType.values()).filter(MatrixQuantizer::supports).toList();
    assertEquals(12, supported.size(), supported.toString());
    assertThrows(IllegalArgumentException.class, () ->
      new MatrixQuantizer(device, WORKERS, Effort.of(0), TensorType.IQ3_S)
    );
    assertThrows(IllegalArgumentException.class, () ->
      new MatrixQuantizer(device, WORKERS, Effort.of(0), TensorType.BF16)
    );
  }

  @Test
  void bandsDoNotShow() throws IOException {
    float[] weights = MadeUpInputs.weights(600, N, 3);
    Effort effort = Effort.of(2);
    for (TensorType type : List.of(TensorType.Q4_0, TensorType.Q3_K)) {
      try (PreparedGram input = prepare(GRAM, effort)) {
        Result whole = quantize(effort, input, weights, weights, type, new BandReader(device));
        Result bands = quantize(effort, input, weights, weights, type, new BandReader(device, 1));
        assertArrayEquals(whole.encoded, bands.encoded);
        // Each is of a sample of its own.
        assertEquals(whole.error.ratio(), bands.error.ratio(), 0.03 * whole.error.ratio());
      }
    }
  }

  /** Then bands are read ahead, and come in pieces; what the device cannot encode goes back to the processor. */
  @Test
  void aDeviceWithMemoryOfItsOwnGivesTheSame() throws IOException {
    Device remote = (Device) Proxy.newProxyInstance(
      Device.class.getClassLoader(),
      new Class<?>[] { Device.class },
      (_, method, arguments) ->
        switch (method.getName()) {
          case "hasOwnMemory" -> true;
          case "freeMemory" -> 1L << 30;
          default -> method.invoke(device, arguments);
        }
    );
    // More than one piece, and more than one band where they are small.
    float[] weights = MadeUpInputs.weights(9000, N, 3);
    Effort effort = Effort.of(0);
    try (PreparedGram input = prepare(GRAM, effort)) {
      Result expected = quantize(effort, input, weights, weights, TensorType.Q4_0, new BandReader(device, 1 << 23));
      for (int bandValues : new int[] { 1 << 20, 1 << 23 }) {
        BandReader reader = new BandReader(remote, bandValues);
        MatrixQuantizer quantizer = new MatrixQuantizer(remote, WORKERS, effort, TensorType.Q4_0);
        Result found = quantize(quantizer, input, weights, weights, TensorType.Q4_0, reader);
        assertArrayEquals(expected.encoded, found.encoded);
      }
    }
  }

  @Test
  void deadInputsDoNoHarm() throws IOException {
    float[] gram = GRAM.clone();
    MadeUpInputs.kill(gram, N, 0, 100, 101, 511);
    // A whole block of Q4_0, and of a group of Q3_K.
    for (int i = 32; i < 64; i++) {
      MadeUpInputs.kill(gram, N, i);
    }
    for (TensorType type : List.of(TensorType.Q4_0, TensorType.Q3_K, TensorType.Q4_K, TensorType.IQ4_XS)) {
      Result result = quantize(gram, WEIGHTS, null, type, Effort.of(2));
      assertTrue(result.error.ratio() < 0.9, type + ": " + result.error.ratio());
    }
  }

  @Test
  void weightsOfZeroStayZero() throws IOException {
    for (TensorType type : List.of(TensorType.Q4_1, TensorType.Q2_K, TensorType.Q6_K, TensorType.IQ4_NL)) {
      Result result = quantize(GRAM, new float[N], null, type, Effort.of(3));
      assertArrayEquals(new float[N], result.decoded, 1e-30f);
      assertEquals(1, result.error.ratio());
    }
  }

  /** With Q8_0, which changes little, what is left of the move is seen: half of the drift times the inverse of the damped matrix. */
  @Test
  void makesUpForHalfOfTheDrift() throws IOException {
    int rows = 9;
    float[] weights = MadeUpInputs.weights(rows, N, 4);
    float[] moves = MadeUpInputs.weights(rows, N, 5);
    float[] damped = GRAM.clone();
    double mean = 0;
    for (float x : MadeUpInputs.diagonal(GRAM, N)) {
      mean += (double) x / N;
    }
    for (int i = 0; i < N; i++) {
      damped[i * N + i] += (float) (0.01 * mean);
    }
    float[] drift = new float[rows * N];
    float[] expected = weights.clone();
    for (int row = 0; row < rows; row++) {
      for (int j = 0; j < N; j++) {
        double sum = 0;
        for (int i = 0; i < N; i++) {
          sum += (double) moves[row * N + i] * damped[i * N + j];
        }
        drift[row * N + j] = (float) sum;
        expected[row * N + j] += 0.5f * moves[row * N + j];
      }
    }
    Result moved = quantize(GRAM, weights, drift, TensorType.Q8_0, Effort.of(0));
    // Of what the move changes, next to nothing is left.
    double change = MadeUpInputs.error(weights, expected, GRAM, N);
    assertEquals(0, MadeUpInputs.error(expected, moved.decoded, GRAM, N), 1e-3 * change);
    Result stayed = quantize(GRAM, weights, null, TensorType.Q8_0, Effort.of(0));
    assertEquals(0, MadeUpInputs.error(weights, stayed.decoded, GRAM, N), 1e-3 * change);
    assertFalse(Arrays.equals(moved.encoded, stayed.encoded));
  }

  @Test
  void aMatrixThatIsNotPositiveDefiniteGetsMoreDamping() throws IOException {
    float[] gram = GRAM.clone();
    // More than two columns can have in common.
    gram[N + 2] = (float) (1.2 * Math.sqrt(gram[N + 1] * gram[2 * N + 2]));
    try (PreparedGram input = prepare(gram, Effort.of(0))) {
      assertTrue(input.damping() == 0.1 || input.damping() == 1, "" + input.damping());
      Result result = quantize(Effort.of(0), input, WEIGHTS, null, TensorType.Q4_K, new BandReader(device));
      assertTrue(Double.isFinite(result.error.result()));
    }
    gram[N + 2] = 1e9f;
    ArithmeticException e = assertThrows(ArithmeticException.class, () -> prepare(gram, Effort.of(0)).close());
    assertEquals(
      "the Gram matrix of 512 columns is not positive definite even with damping 1.0, so it is damaged; --overwrite measures it again",
      e.getMessage()
    );
    gram[N + 2] = Float.NaN;
    assertThrows(ArithmeticException.class, () -> prepare(gram, Effort.of(0)).close());
  }

  @Test
  void dampingIsRaisedAsFarAsOneFromHoweverLittle() {
    int n = 64;
    float[] gram = new float[n * n];
    for (int i = 0; i < n; i++) {
      gram[i * n + i] = 1;
    }
    // The least eigenvalue is 1 less what is set here.
    for (double[] dampings : new double[][] {
      { 1.5, 1e-9, 1 },
      { 1.005, 1e-9, 0.01 },
      { 1.005, 3e-295, 0.03 },
      { 1.5, 0.3, 1 },
      { 1.95, 1, 1 },
      { 0.5, 1e-9, 1e-9 }
    }) {
      gram[9] = (float) dampings[0];
      PreparedGram.Use use = new PreparedGram.Use(dampings[1], PreparedGram.Order.GROUPED, true);
      try (PreparedGram input = MadeUpInputs.prepare(device, gram, n, use)) {
        assertEquals(dampings[2], input.damping());
      }
    }
  }

  @Test
  void groupsStayTogetherInTheOrder() {
    try (PreparedGram input = prepare(GRAM, Effort.of(1)); PreparedGram free = prepare(GRAM, Effort.of(0))) {
      int[] order = input.order();
      float[] diagonal = MadeUpInputs.diagonal(GRAM, N);
      for (int length : new int[] { 16, 32 }) {
        for (int i = 0; i < N; i++) {
          assertEquals(order[i - (i % length)] / length, order[i] / length);
        }
      }
      for (int i = 1; i < N; i++) {
        assertTrue(diagonal[free.order()[i]] <= diagonal[free.order()[i - 1]]);
      }
      assertEquals(N, Arrays.stream(order).distinct().count());
      assertEquals(N, Arrays.stream(free.order()).distinct().count());
    }
  }
}
