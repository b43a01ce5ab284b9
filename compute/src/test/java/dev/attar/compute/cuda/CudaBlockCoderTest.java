package dev.attar.compute.cuda;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT_UNALIGNED;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.BlockCoder;
import dev.attar.compute.Matrix;
import dev.attar.compute.QuantizationGrid;
import dev.attar.compute.Scope;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.block.BlockGrid;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The GPU's encoders against those of the processor, bit for bit. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
@ResourceLock(CudaUnderTest.LOCK)
class CudaBlockCoderTest {

  private static final ValueLayout.OfFloat FLOAT = JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /** How rows can look. */
  private enum Values {
    NORMAL,
    SMALL,
    TINY,
    SUBNORMAL,
    LARGE,
    HUGE,
    HALVES_OVERFLOW,
    HALVES_UNDERFLOW,
    NEGLIGIBLE,
    ZERO,
    ZEROS_OF_BOTH_SIGNS,
    CONSTANT,
    NEGATIVE_CONSTANT,
    POSITIVE,
    NEGATIVE,
    OUTLIER,
    SPARSE,
    WHOLE_NUMBERS,
    MIXED_SCALES,
    FAR_FROM_ZERO,
    ANY_BITS;

    float next(int i, SplittableRandom random) {
      float x = (float) random.nextGaussian();
      float value = switch (this) {
        case NORMAL -> x;
        case SMALL -> 1e-3f * x;
        case TINY -> 1e-20f * x;
        case SUBNORMAL -> 1e-41f * x;
        case LARGE -> 1e18f * x;
        case HUGE -> Float.MAX_VALUE * Math.clamp(x, -1, 1);
        case HALVES_OVERFLOW -> 1e6f * x;
        case HALVES_UNDERFLOW -> 2e-7f * x;
        case NEGLIGIBLE -> 1e-15f * x;
        case ZERO -> 0;
        case ZEROS_OF_BOTH_SIGNS -> random.nextBoolean() ? 0f : -0f;
        case CONSTANT -> 0.37f;
        case NEGATIVE_CONSTANT -> -0.37f;
        case POSITIVE -> Math.abs(x);
        case NEGATIVE -> -Math.abs(x);
        case OUTLIER -> i % 256 == 5 ? 1e5f : x;
        case SPARSE -> random.nextInt(20) == 0 ? x : 0;
        case WHOLE_NUMBERS -> (float) Math.rint(2 * x);
        case MIXED_SCALES -> x * (float) Math.exp(6 * ((((i / 16) * 7) % 5) - 2));
        case FAR_FROM_ZERO -> (i / 32) % 2 == 0 ? 3 + Math.abs(x) : 1e-3f * x;
        case ANY_BITS -> Float.intBitsToFloat(random.nextInt());
      };
      return Float.isFinite(value) ? value : Math.copySign(Float.MAX_VALUE, value);
    }
  }

  /** How important columns can be. */
  private enum Importance {
    NONE,
    SQUARES,
    WITH_ZEROS,
    TINY_OR_ZERO_GROUPS,
    ZERO,
    EQUAL;

    float next(int i, SplittableRandom random) {
      double x = random.nextGaussian();
      return (float) switch (this) {
        case NONE -> throw new AssertionError();
        case SQUARES -> x * x;
        case WITH_ZEROS -> random.nextInt(3) == 0 ? 0 : Math.exp(4 * x);
        case TINY_OR_ZERO_GROUPS -> i % 64 < 32 ? 0 : x * x * 1e-30;
        case ZERO -> 0;
        case EQUAL -> 1;
      };
    }
  }

  private CudaDevice device;
  private Scope scope;

  @BeforeAll
  void open() throws IOException {
    device = CudaUnderTest.load().open();
  }

  @AfterAll
  void close() {
    device.close();
  }

  @BeforeEach
  void openScope() {
    scope = device.scope();
  }

  @AfterEach
  void closeScope() {
    scope.close();
  }

  @Test
  void encodesTheTypesThatHaveAGrid() {
    for (TensorType type : TensorType.values()) {
      assertEquals(BlockGrid.of(type).isPresent(), device.coder(type.name()).isPresent(), type.name());
    }
    assertTrue(device.coder("q4_k").isEmpty());
  }

  @ParameterizedTest
  @EnumSource(CudaBlockType.class)
  void encodesAsTheProcessorDoes(CudaBlockType type) {
    int n = 2 * type.blockLength();
    SplittableRandom random = new SplittableRandom(type.ordinal());
    for (Importance importance : Importance.values()) {
      // A row of each kind, then rows whose groups are of several.
      int kinds = Values.values().length;
      int rows = 2 * kinds;
      float[] weights = new float[rows * n];
      for (int i = 0; i < weights.length; i++) {
        int row = i / n;
        int kind = row < kinds ? row : (row + (i / 16) * 11) % kinds;
        weights[i] = Values.values()[kind].next(i % n, random);
      }
      check(type, importance, weights, n, random);
    }
  }

  @ParameterizedTest
  @EnumSource(CudaBlockType.class)
  void encodesMoreRowsThanABlockHasThreads(CudaBlockType type) {
    int n = type.blockLength();
    SplittableRandom random = new SplittableRandom(1);
    float[] weights = new float[131 * n];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = Values.NORMAL.next(i, random);
    }
    check(type, Importance.NONE, weights, n, random);
    check(type, Importance.SQUARES, weights, n, random);
  }

  private void check(CudaBlockType of, Importance kind, float[] weights, int n, SplittableRandom random) {
    TensorType type = TensorType.valueOf(of.name());
    int rows = weights.length / n;
    float[] importance = null;
    if (kind != Importance.NONE) {
      importance = new float[n];
      for (int i = 0; i < n; i++) {
        importance[i] = kind.next(i, random);
      }
    }
    byte[] expected = new byte[Math.toIntExact(rows * type.rowBytes(n))];
    BlockEncoders.of(type).orElseThrow().encode(weights, 0, n, rows, importance, 0, expected, 0);

    BlockCoder coder = device.coder(of.name()).orElseThrow();
    Matrix levels = scope.matrix(n, rows);
    QuantizationGrid grid = coder.search(scope, transposed(weights, n), importance, levels);
    byte[] encoded = new byte[expected.length];
    Arrays.fill(encoded, (byte) 0x55);
    coder.pack(grid, levels, MemorySegment.ofArray(encoded));

    String name = type + ", importance " + kind;
    checkMatrices(name, type, expected, grid, levels);
    assertArrayEquals(expected, encoded, name);
  }

  /** Matrices must be what the processor's bytes say. */
  private void checkMatrices(String name, TensorType type, byte[] expected, QuantizationGrid grid, Matrix levels) {
    BlockGrid format = BlockGrid.of(type).orElseThrow();
    assertArrayEquals(format.levels(), grid.levels(), name);
    assertEquals(type.blockLength(), grid.blockLength(), name);
    assertEquals(format.groupLength(), grid.groupLength(), name);
    assertEquals(format.leastScale(), grid.leastScale(), name);
    assertEquals(format.mostScale(), grid.mostScale(), name);
    assertEquals(format.leastMinimum(), grid.leastMinimum(), name);
    assertEquals(format.mostMinimum(), grid.mostMinimum(), name);
    int rows = grid.rows();
    int blocks = grid.d().rows();
    int groups = format.groups();
    int length = type.blockLength();
    float[] d = new float[blocks * rows];
    float[] dmin = new float[blocks * rows];
    float[] scale = new float[blocks * groups * rows];
    float[] minimum = new float[blocks * groups * rows];
    float[] level = new float[blocks * length * rows];
    BlockGrid.Scales scales = format.newScales();
    byte[] codes = new byte[length];
    for (int block = 0; block < blocks; block++) {
      for (int row = 0; row < rows; row++) {
        int at = (row * blocks + block) * type.blockBytes();
        format.readScales(expected, at, scales);
        format.readCodes(expected, at, codes, 0);
        d[block * rows + row] = scales.d;
        dmin[block * rows + row] = scales.dmin;
        for (int g = 0; g < groups; g++) {
          scale[(block * groups + g) * rows + row] = scales.s[g];
          minimum[(block * groups + g) * rows + row] = scales.m[g];
        }
        for (int i = 0; i < length; i++) {
          level[(block * length + i) * rows + row] = format.levels()[codes[i] & 0xFF];
        }
      }
    }
    assertArrayEquals(d, numbers(grid.d()), name + ", d");
    assertArrayEquals(dmin, numbers(grid.dmin()), name + ", dmin");
    assertArrayEquals(scale, numbers(grid.scale()), name + ", scale");
    assertArrayEquals(minimum, numbers(grid.minimum()), name + ", minimum");
    assertArrayEquals(level, numbers(levels), name + ", levels");
  }

  @ParameterizedTest
  @EnumSource(CudaBlockType.class)
  void packsAnyScalesAndLevels(CudaBlockType of) {
    TensorType type = TensorType.valueOf(of.name());
    BlockGrid format = BlockGrid.of(type).orElseThrow();
    int rows = 5;
    int blocks = 3;
    int n = blocks * type.blockLength();
    SplittableRandom random = new SplittableRandom(2);
    BlockCoder coder = device.coder(of.name()).orElseThrow();
    Matrix levels = scope.matrix(n, rows);
    QuantizationGrid grid = coder.search(scope, transposed(new float[rows * n], n), null, levels);
    byte[] expected = new byte[rows * blocks * type.blockBytes()];
    float[] d = new float[blocks * rows];
    float[] dmin = new float[blocks * rows];
    float[] scale = new float[blocks * format.groups() * rows];
    float[] minimum = new float[scale.length];
    float[] level = new float[n * rows];
    BlockGrid.Scales scales = format.newScales();
    byte[] codes = new byte[type.blockLength()];
    for (int block = 0; block < blocks; block++) {
      for (int row = 0; row < rows; row++) {
        scales.d = BlockGrid.nearestHalf((float) random.nextGaussian());
        scales.dmin = format.hasMinimum() ? BlockGrid.nearestHalf((float) random.nextGaussian()) : 0;
        d[block * rows + row] = scales.d;
        dmin[block * rows + row] = scales.dmin;
        for (int g = 0; g < format.groups(); g++) {
          scales.s[g] = (byte) random.nextInt(format.leastScale(), format.mostScale() + 1);
          scales.m[g] = (byte) random.nextInt(format.leastMinimum(), format.mostMinimum() + 1);
          scale[(block * format.groups() + g) * rows + row] = scales.s[g];
          minimum[(block * format.groups() + g) * rows + row] = scales.m[g];
        }
        for (int i = 0; i < codes.length; i++) {
          codes[i] = (byte) random.nextInt(format.levels().length);
          level[(block * codes.length + i) * rows + row] = format.levels()[codes[i] & 0xFF];
        }
        int at = (row * blocks + block) * type.blockBytes();
        format.writeScales(scales, expected, at);
        format.writeCodes(codes, 0, expected, at);
      }
    }
    device.upload(MemorySegment.ofArray(d), grid.d());
    device.upload(MemorySegment.ofArray(dmin), grid.dmin());
    device.upload(MemorySegment.ofArray(scale), grid.scale());
    device.upload(MemorySegment.ofArray(minimum), grid.minimum());
    device.upload(MemorySegment.ofArray(level), levels);
    byte[] encoded = new byte[expected.length + 3];
    coder.pack(grid, levels, MemorySegment.ofArray(encoded));
    assertArrayEquals(Arrays.copyOf(expected, encoded.length), encoded, of.name());
  }

  @Test
  void refusesWhatDoesNotFit() {
    BlockCoder coder = device.coder("Q4_K").orElseThrow();
    Matrix weights = scope.matrix(512, 3);
    Matrix levels = scope.matrix(512, 3);
    Matrix odd = scope.matrix(128, 3);
    refuses("search: weights is (128, 3), expected a multiple of 256 rows", () -> coder.search(scope, odd, null, odd));
    refuses("search: levels is (128, 3), expected (512, 3)", () -> coder.search(scope, weights, null, odd));
    refuses("search: levels would overwrite weights", () -> coder.search(scope, weights, null, weights));
    refuses("search: importance of 511 columns, expected 512", () ->
      coder.search(scope, weights, new float[511], levels)
    );
    QuantizationGrid grid = coder.search(scope, weights, null, levels);
    MemorySegment room = MemorySegment.ofArray(new byte[2 * 3 * 144]);
    refuses("pack: levels is (128, 3), expected (512, 3)", () -> coder.pack(grid, odd, room));
    refuses("pack: room for 863 bytes, expected 864", () -> coder.pack(grid, levels, room.asSlice(1)));
    refuses("pack: a grid with groups of 32 in blocks of 256, expected 16 in 256", () ->
      device.coder("Q6_K").orElseThrow().pack(grid, levels, room)
    );
    try (Scope closed = device.scope()) {
      Matrix gone = closed.matrix(512, 3);
      closed.close();
      assertThrows(IllegalStateException.class, () -> coder.search(scope, gone, null, levels));
      assertThrows(IllegalStateException.class, () -> coder.pack(grid, gone, room));
    }
  }

  private static void refuses(String message, Runnable operation) {
    assertEquals(message, assertThrows(IllegalArgumentException.class, operation::run).getMessage());
  }

  /** Rows as a matrix that has a column for each. */
  private Matrix transposed(float[] values, int n) {
    Matrix rows = scope.matrix(values.length / n, n);
    Matrix columns = scope.matrix(n, values.length / n);
    device.upload(MemorySegment.ofArray(values), rows);
    device.transpose(rows, columns);
    return columns;
  }

  private float[] numbers(Matrix matrix) {
    MemorySegment numbers = MemorySegment.ofArray(new float[matrix.rows() * matrix.columns()]);
    device.download(matrix, numbers);
    return numbers.toArray(FLOAT);
  }
}
