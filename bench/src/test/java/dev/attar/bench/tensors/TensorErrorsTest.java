package dev.attar.bench.tensors;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntUnaryOperator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class TensorErrorsTest {

  private static final Path SAMPLE = Path.of("../samples/sample");
  private static final Optional<ImportanceMatrix> NO_WEIGHTS = Optional.empty();

  @TempDir
  Path folder;

  private record MemoryModel(List<Tensor> tensors) implements Model {
    static MemoryModel of(Tensor... tensors) {
      return new MemoryModel(List.of(tensors));
    }

    @Override
    public Path source() {
      return Path.of("model");
    }

    @Override
    public List<Path> files() {
      return List.of();
    }

    @Override
    public Metadata metadata() {
      return Metadata.of(Map.of());
    }

    @Override
    public void close() {}
  }

  /** A tensor that cannot be read from some row on. */
  private record DamagedTensor(TensorInfo info, long damagedRow, Throwable problem) implements Tensor {
    @Override
    public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
      throw new AssertionError();
    }

    @Override
    public void decodeRows(long firstRow, int rows, float[] out, int outOffset) throws IOException {
      if (firstRow + rows > damagedRow) {
        switch (problem) {
          case IOException e -> throw e;
          case Error e -> throw e;
          default -> throw new AssertionError(problem);
        }
      }
    }
  }

  private static Tensor f32(String name, float[] values, long... shape) {
    byte[] bytes = new byte[4 * values.length];
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().put(values);
    return new MappedTensor(new TensorInfo(name, TensorType.F32, shape), MemorySegment.ofArray(bytes));
  }

  private static Tensor zeros(String name, TensorType type, long... shape) {
    TensorInfo info = new TensorInfo(name, type, shape);
    return new MappedTensor(info, MemorySegment.ofArray(new byte[(int) info.bytes()]));
  }

  private static Tensor generated(String name, IntUnaryOperator sixtyFourths, long... shape) {
    float[] values = new float[(int) Arrays.stream(shape).reduce(1, (a, b) -> a * b)];
    for (int i = 0; i < values.length; i++) {
      values[i] = sixtyFourths.applyAsInt(i) / 64f;
    }
    return f32(name, values, shape);
  }

  private static Tensor generatedBase(String name, long... shape) {
    return generated(name, i -> (int) ((i * 37L) % 101) - 50, shape);
  }

  private static Tensor generatedVariant(String name, long... shape) {
    return generated(name, i -> (int) ((i * 37L) % 101) - 50 + (int) ((i * 53L) % 7) - 3, shape);
  }

  private ImportanceMatrix weights(String name, int count, IntUnaryOperator quarters) throws IOException {
    ByteBuffer out = ByteBuffer.allocate(16 + name.length() + 4 * count).order(ByteOrder.LITTLE_ENDIAN);
    out.putInt(1).putInt(name.length()).put(name.getBytes(StandardCharsets.UTF_8)).putInt(1).putInt(count);
    for (int i = 0; i < count; i++) {
      out.putFloat(quarters.applyAsInt(i) / 4f);
    }
    return ImportanceMatrix.open(Files.write(folder.resolve("weights.dat"), out.array()));
  }

  private static List<TensorError> compare(Model base, Model variant, Optional<ImportanceMatrix> weights, int threads)
    throws IOException, InterruptedException {
    return TensorErrors.compare(base, variant, weights, threads, _ -> {});
  }

  private static double error(Tensor base, Tensor variant) throws IOException, InterruptedException {
    return compare(MemoryModel.of(base), MemoryModel.of(variant), NO_WEIGHTS, 1).getFirst().relativeError();
  }

  /**
   * Values b[i] = ((37 i mod 101) - 50) / 64 and v[i] = b[i] + ((53 i mod 7) - 3) / 64, weights w[c] = (29 c mod 13) / 4 for each column
   * of each expert. Expected are norm(b - v) / norm(b), and the root of the ratio of the weighted averages of squares, by NumPy.
   */
  @ParameterizedTest
  @CsvSource(
    {
      "8,         0.07291677358534371, 0.08016535977276947",
      "8 6,       0.06858955392050298, 0.07100901139505793",
      "8 3 4,     0.06820191873037887, 0.07293266801368158",
      "512 1024,  0.06859945568457744, 0.06859946615209413",
      "512 300 3, 0.06859945463612012, 0.06859932856317277",
      "4 1 70000, 0.06859929902028103, 0.06859960728564234"
    }
  )
  void errorsAreNumpys(String dimensions, double plain, double weighted) throws Exception {
    long[] shape = Arrays.stream(dimensions.split(" ")).mapToLong(Long::parseLong).toArray();
    Model base = MemoryModel.of(generatedBase("blk.0.x.weight", shape));
    Model variant = MemoryModel.of(generatedVariant("blk.0.x.weight", shape));
    TensorError error = compare(base, variant, NO_WEIGHTS, 2).getFirst();
    assertEquals(plain, error.relativeError(), 1e-13);
    assertFalse(error.weighted());
    int columns = (int) (shape[0] * (shape.length > 2 ? shape[2] : 1));
    try (ImportanceMatrix weights = weights("blk.0.x.weight", columns, c -> (int) ((c * 29L) % 13))) {
      error = compare(base, variant, Optional.of(weights), 2).getFirst();
      assertEquals(weighted, error.relativeError(), 1e-13);
      assertTrue(error.weighted());
    }
  }

  @Test
  void weightsThatDoNotFitDoNotCount() throws Exception {
    Model base = MemoryModel.of(generatedBase("x.weight", 8, 3, 4), generatedBase("y.weight", 32, 3));
    Model variant = MemoryModel.of(generatedVariant("x.weight", 8, 3, 4), generatedVariant("y.weight", 32, 3));
    List<TensorError> plain = compare(base, variant, NO_WEIGHTS, 1);
    try (ImportanceMatrix weights = weights("x.weight", 8, c -> c)) {
      assertEquals(plain, compare(base, variant, Optional.of(weights), 1));
    }
  }

  @Test
  void theSampleLosesMoreWithFewerBits() throws Exception {
    try (
      Model base = Models.open(SAMPLE);
      ImportanceMatrix weights = ImportanceMatrix.open(SAMPLE.resolve("imatrix.gguf"))
    ) {
      List<TensorType> types = List.of(TensorType.Q8_0, TensorType.Q6_K, TensorType.Q4_K, TensorType.Q2_K);
      List<List<TensorError>> byType = new ArrayList<>();
      for (TensorType type : types) {
        byType.add(compare(base, encoded(firstLayer(base), type), Optional.of(weights), 2));
      }
      List<Tensor> layer = firstLayer(base);
      List<String> names = layer
        .stream()
        .map(t -> t.info().name())
        .toList();
      for (List<TensorError> errors : byType) {
        assertEquals(names, errors.stream().map(TensorError::name).toList());
      }
      for (int i = 0; i < names.size(); i++) {
        TensorInfo info = layer.get(i).info();
        double last = 0;
        for (int t = 0; t < types.size(); t++) {
          TensorError error = byType.get(t).get(i);
          boolean matrix = info.rank() > 1;
          assertEquals(matrix ? types.get(t).name() : "F32", error.type());
          assertEquals(matrix ? info.withType(types.get(t)).bytes() : info.bytes(), error.bytes());
          assertEquals(matrix, error.weighted(), info.name());
          if (matrix) {
            assertTrue(error.relativeError() > last, info + ": " + error.relativeError() + " after " + last);
            last = error.relativeError();
          } else {
            assertEquals(0, error.relativeError());
          }
        }
        assertTrue(last < 0.5, info + ": " + last);
      }
    }
  }

  private static List<Tensor> firstLayer(Model model) {
    List<Tensor> tensors = new ArrayList<>(model.tensors());
    tensors.removeIf(t -> !t.info().name().startsWith("blk.0."));
    return tensors;
  }

  private static Model encoded(List<? extends Tensor> originals, TensorType type) throws IOException {
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : originals) {
      TensorInfo info = tensor.info();
      float[] values = new float[(int) info.elements()];
      tensor.decodeRows(0, (int) info.rows(), values, 0);
      if (info.rank() == 1) {
        tensors.add(f32(info.name(), values, info.shape()));
        continue;
      }
      byte[] bytes = new byte[(int) info.withType(type).bytes()];
      BlockEncoders.of(type)
        .orElseThrow()
        .encode(values, 0, (int) info.rowLength(), (int) info.rows(), null, 0, bytes, 0);
      tensors.add(new MappedTensor(info.withType(type), MemorySegment.ofArray(bytes)));
    }
    return new MemoryModel(tensors);
  }

  @Test
  void threadsDoNotChangeTheResult() throws Exception {
    try (
      Model base = Models.open(SAMPLE);
      ImportanceMatrix weights = ImportanceMatrix.open(SAMPLE.resolve("imatrix.gguf"))
    ) {
      Model variant = encoded(base.tensors(), TensorType.Q8_0);
      List<TensorError> one = compare(base, variant, Optional.of(weights), 1);
      for (int threads : new int[] { 2, 3, 8 }) {
        assertEquals(one, compare(base, variant, Optional.of(weights), threads));
      }
    }
  }

  @ParameterizedTest
  @EnumSource(TensorType.class)
  void everyTypeOfRealNumbersIsCompared(TensorType type) throws Exception {
    float[] ones = new float[512];
    Arrays.fill(ones, 1);
    Model base = MemoryModel.of(f32("x", ones, 256, 2));
    List<TensorError> errors = compare(base, MemoryModel.of(zeros("x", type, 256, 2)), NO_WEIGHTS, 1);
    if (type.isFloat()) {
      assertEquals(1, errors.getFirst().relativeError(), 1e-6);
      assertEquals(type.name(), errors.getFirst().type());
    } else {
      assertEquals(List.of(), errors);
    }
  }

  @Test
  void whatIsNotInBothIsLeftOut() throws Exception {
    Model base = MemoryModel.of(
      generatedBase("third", 8, 2),
      generatedBase("pruned", 8, 4),
      generatedBase("only.base", 8),
      generatedBase("first", 8),
      zeros("integers", TensorType.I32, 8),
      zeros("turned", TensorType.F32, 8, 4)
    );
    Model variant = MemoryModel.of(
      generatedVariant("first", 8, 1),
      generatedVariant("only.variant", 8),
      generatedVariant("pruned", 8, 3),
      zeros("turned", TensorType.F32, 4, 8),
      zeros("integers", TensorType.I32, 8),
      generatedVariant("third", 8, 2)
    );
    List<TensorError> errors = compare(base, variant, NO_WEIGHTS, 2);
    assertEquals(List.of("third", "first"), errors.stream().map(TensorError::name).toList());
  }

  @Test
  void progressRisesToAllBytes() throws Exception {
    Model base = MemoryModel.of(generatedBase("a", 512, 1024), generatedBase("left.out", 8));
    Model variant = MemoryModel.of(generatedVariant("a", 512, 1024), generatedVariant("left.out", 9));
    List<Long> heard = new ArrayList<>();
    TensorErrors.compare(base, variant, NO_WEIGHTS, 3, heard::add);
    long band = 4 << 17;
    assertEquals(List.of(36L, 36 + band, 36 + 2 * band, 36 + 3 * band, 36 + 4 * band), heard);
  }

  @Test
  void zerosAndValuesThatAreNotFinite() throws Exception {
    float[] some = { 1, -2, 3, 0.5f };
    float[] none = new float[4];
    assertEquals(0, error(f32("x", some, 4), f32("x", some, 4)));
    assertEquals(0, error(f32("x", none, 4), f32("x", none, 4)));
    assertEquals(1, error(f32("x", some, 4), f32("x", none, 4)));
    assertEquals(Double.POSITIVE_INFINITY, error(f32("x", none, 4), f32("x", some, 4)));
    assertEquals(0, error(f32("x", new float[0], 4, 0), f32("x", new float[0], 4, 0)));
    for (float odd : new float[] { Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY }) {
      float[] changed = { 1, -2, odd, 0.5f };
      assertEquals(Double.POSITIVE_INFINITY, error(f32("x", some, 4), f32("x", changed, 4)));
      assertEquals(Double.POSITIVE_INFINITY, error(f32("x", changed, 4), f32("x", some, 4)));
      assertEquals(Double.POSITIVE_INFINITY, error(f32("x", changed, 4), f32("x", changed, 4)));
    }
  }

  @Test
  void hugeAndTinyValuesKeepTheirRatio() throws Exception {
    for (float scale : new float[] { Float.MAX_VALUE, 1, 0x1p-126f }) {
      float[] base = { scale, scale / 2, -scale, scale };
      float[] variant = { scale, scale, -scale / 2, scale };
      assertEquals(Math.sqrt(0.5 / 3.25), error(f32("x", base, 4), f32("x", variant, 4)), 1e-6);
    }
  }

  @ParameterizedTest
  @CsvSource(
    nullValues = "-",
    value = {
      "blk.3.ffn_down.weight,           3,     ffn_down",
      "blk.12.attn_q.bias,              12,    attn_q.bias",
      "token_embd.weight,               -,     token_embd",
      "output.bias,                     -,     output.bias",
      "enc.blk.3.attn_q.weight,         3,     enc.attn_q",
      "v.blk.0.ffn_up.weight,           0,     v.ffn_up",
      "notblk.0.ffn_up.weight,          -,     notblk.0.ffn_up",
      "blk.0.blk.1.x,                   1,     blk.0.x",
      "blk.9999999999999999999.x,       -,     blk.9999999999999999999.x",
      "blk.-1.x,                        -,     blk.-1.x",
      "blk.0.weight,                    0,     weight"
    }
  )
  void layerAndKind(String name, Integer layer, String kind) throws Exception {
    Model model = MemoryModel.of(f32(name, new float[4], 4));
    TensorError error = compare(model, model, NO_WEIGHTS, 1).getFirst();
    assertEquals(layer == null ? OptionalInt.empty() : OptionalInt.of(layer), error.layer());
    assertEquals(kind, error.kind());
  }

  @Test
  void firstProblemEndsTheComparison() {
    IOException problem = new IOException("gone");
    Model base = MemoryModel.of(generatedBase("x", 512, 1024));
    TensorInfo info = base.tensors().getFirst().info();
    Model variant = MemoryModel.of(new DamagedTensor(info, 600, problem));
    for (int threads : new int[] { 1, 4 }) {
      assertSame(problem, assertThrows(IOException.class, () -> compare(base, variant, NO_WEIGHTS, threads)));
    }
    Model shorter = MemoryModel.of(new DamagedTensor(info, 0, new InternalError("a fault occurred")));
    IOException changed = assertThrows(IOException.class, () -> compare(base, shorter, NO_WEIGHTS, 2));
    assertEquals("model: tensor x: cannot be read, the file has changed", changed.getMessage());
  }

  @Test
  void interruptionEndsTheComparison() throws InterruptedException {
    Model base = MemoryModel.of(generatedBase("x", 512, 4096));
    Thread caller = Thread.currentThread();
    AtomicInteger calls = new AtomicInteger();
    assertThrows(InterruptedException.class, () ->
      TensorErrors.compare(base, base, NO_WEIGHTS, 2, bytes -> {
        calls.incrementAndGet();
        if (bytes > 0) {
          caller.interrupt();
        }
      })
    );
    assertNotEquals(0, calls.get());
    Thread.interrupted();
    for (Thread thread : Thread.getAllStackTraces().keySet()) {
      if (thread.getName().startsWith("attar-tensors-")) {
        // A thread lives on for a moment when its last task is done.
        assertTrue(thread.join(Duration.ofSeconds(10)), thread.getName());
      }
    }
  }
}
