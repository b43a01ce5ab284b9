package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.DataInputStream;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgmlTest {

  private static final int Q8_0 = 8;
  private static final int Q8_1 = 9;
  private static final int Q4_K = 12;
  private static final int IQ2_XXS = 16;
  private static final int IQ3_S = 21;
  private static final int I32 = 26;
  private static final int ROW = 512;

  private static Ggml ggml;

  @BeforeAll
  static void load() throws IOException {
    ggml = Ggml.load();
  }

  private static float[] normal(int n, long seed) {
    Random random = new Random(seed);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = (float) random.nextGaussian() * 0.02f;
    }
    return x;
  }

  private static float[] weights(int n, long seed) {
    float[] w = normal(n, seed);
    for (int i = 0; i < n; i++) {
      w[i] *= w[i];
    }
    return w;
  }

  @Test
  void encodesTheBytesThatTheFormatSays() {
    // Largest magnitude 127: the scale is 1, half-precision 0x3c00, and the values are their own codes.
    float[] x = new float[32];
    byte[] expected = new byte[34];
    expected[1] = 0x3c;
    for (int i = 0; i < 32; i++) {
      x[i] = i == 0 ? -127 : i;
      expected[2 + i] = (byte) x[i];
    }
    byte[] blocks = ggml.quantize(Q8_0, x, 1, 32, null, 34);
    assertArrayEquals(expected, blocks);
    assertArrayEquals(x, ggml.dequantize(Q8_0, blocks, 32));
  }

  @Test
  void knowsTheTypes() {
    assertEquals("q4_K", ggml.typeName(Q4_K));
    assertEquals(256, ggml.blockSize(Q4_K));
    assertEquals(288, ggml.rowBytes(Q4_K, 512));
    assertEquals("q2_0", ggml.typeName(Ggml.TYPES - 1));
    assertTrue(ggml.requiresImportance(IQ2_XXS));
    assertFalse(ggml.requiresImportance(IQ3_S));
    for (int removed : new int[] { 4, 5, 31, 32, 33, 36, 37, 38 }) {
      assertThrows(IllegalArgumentException.class, () -> ggml.typeName(removed));
    }
    assertThrows(IllegalArgumentException.class, () -> ggml.typeName(-1));
    assertThrows(IllegalArgumentException.class, () -> ggml.typeName(Ggml.TYPES));
  }

  /** Every type that can be written, and the largest error relative to the values' norm that its number of bits allows. */
  @ParameterizedTest
  @CsvSource(
    {
      "1, 0.001",
      "30, 0.004",
      "2, 0.11",
      "3, 0.1",
      "6, 0.06",
      "7, 0.05",
      "8, 0.01",
      "10, 0.35",
      "11, 0.2",
      "12, 0.1",
      "13, 0.05",
      "14, 0.03",
      "16, 0.6",
      "17, 0.5",
      "18, 0.35",
      "19, 0.75",
      "20, 0.11",
      "21, 0.3",
      "22, 0.45",
      "23, 0.11",
      "29, 0.7",
      "34, 0.9",
      "35, 0.9",
      "39, 0.2",
      "40, 0.2",
      "41, 0.9",
      "42, 0.9"
    }
  )
  void allWaysToEncodeGiveTheSameBytes(int type, double worst) {
    int rows = 34; // more than go through the native buffer at once
    float[] x = normal(rows * ROW, type);
    float[] w = weights(ROW, 100 + type);
    int rowBytes = (int) ggml.rowBytes(type, ROW);
    byte[] whole = ggml.quantize(type, x, rows, ROW, w, rows * rowBytes);

    float[] xShifted = new float[x.length + 3];
    System.arraycopy(x, 0, xShifted, 3, x.length);
    float[] wShifted = new float[ROW + 5];
    System.arraycopy(w, 0, wShifted, 5, ROW);
    byte[] shifted = new byte[whole.length + 7];
    ggml.quantize(type, xShifted, 3, ROW, rows, wShifted, 5, shifted, 7);
    assertArrayEquals(whole, Arrays.copyOfRange(shifted, 7, shifted.length));

    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(whole.length);
      ggml.quantize(
        type,
        arena.allocateFrom(ValueLayout.JAVA_FLOAT, x),
        ROW,
        rows,
        arena.allocateFrom(ValueLayout.JAVA_FLOAT, w),
        out
      );
      assertArrayEquals(whole, out.toArray(ValueLayout.JAVA_BYTE));
    }

    assertTrue(ggml.validateRow(type, whole));
    float[] back = ggml.dequantize(type, whole, x.length);
    double error = 0;
    double norm = 0;
    for (int i = 0; i < x.length; i++) {
      error += (back[i] - x[i]) * (double) (back[i] - x[i]);
      norm += x[i] * (double) x[i];
    }
    assertTrue(Math.sqrt(error / norm) < worst, ggml.typeName(type) + ": " + Math.sqrt(error / norm));
  }

  @Test
  void threadsMayEncodeAtOnce() throws Exception {
    float[] x = normal(16 * ROW, 7);
    float[] w = weights(ROW, 8);
    byte[] expected = ggml.quantize(IQ2_XXS, x, 16, ROW, w, 16 * (int) ggml.rowBytes(IQ2_XXS, ROW));
    List<Callable<byte[]>> tasks = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      tasks.add(() -> ggml.quantize(IQ2_XXS, x, 16, ROW, w, expected.length));
    }
    try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
      for (Future<byte[]> bytes : threads.invokeAll(tasks)) {
        assertArrayEquals(expected, bytes.get());
      }
    }
  }

  @Test
  void noRowsAreNoBytes() {
    assertEquals(0, ggml.quantize(Q4_K, new float[0], 0, 256, null, 0).length);
  }

  @Test
  void refusesWhatTheLibraryWouldDieOf() {
    float[] x = normal(ROW, 1);
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(Q4_K, x, 1, 100, null, 144));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(Q4_K, x, 1, 0, null, 0));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(Q4_K, x, -1, 256, null, -144));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(Q8_1, x, 1, ROW, null, 576));
    for (int type : new int[] { 15, 24, 25, I32, 27, 28 }) {
      int bytes = (int) ggml.rowBytes(type, ROW);
      assertThrows(IllegalArgumentException.class, () -> ggml.quantize(type, x, 1, ROW, null, bytes));
    }
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(5, x, 1, ROW, null, ROW));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(99, x, 1, ROW, null, ROW));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(IQ2_XXS, x, 1, ROW, null, 132));
    assertThrows(IllegalArgumentException.class, () -> ggml.quantize(Q4_K, x, 1, ROW, null, 287));
    assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, x, 2, ROW, null, 576));
    assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, x, 1, ROW, new float[10], 288));
    assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, x, 1, ROW, 1, null, 0, new byte[288], 0));
    assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, x, 0, ROW, 1, null, 0, new byte[288], 1));
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocateFrom(ValueLayout.JAVA_FLOAT, x);
      MemorySegment out = arena.allocate(288);
      assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, in, ROW, 2, null, out));
      assertThrows(IndexOutOfBoundsException.class, () -> ggml.quantize(Q4_K, in, ROW, 1, null, out.asSlice(1)));
      assertThrows(IllegalArgumentException.class, () ->
        ggml.quantize(Q4_K, MemorySegment.ofArray(x), ROW, 1, null, out)
      );
    }
    assertThrows(IllegalArgumentException.class, () -> ggml.dequantize(Q4_K, new byte[143], 256));
    assertThrows(IllegalArgumentException.class, () -> ggml.dequantize(Q4_K, new byte[144], 100));
    assertThrows(IllegalArgumentException.class, () -> ggml.dequantize(I32, new byte[144], 32));
    assertThrows(IllegalArgumentException.class, () -> ggml.validateRow(Q4_K, new byte[143]));
  }

  @ParameterizedTest
  @ValueSource(ints = { 16, 17, 18, 19, 21, 22, 29 })
  void refusesValuesThatTheTypesAssertOn(int type) {
    int bytes = (int) ggml.rowBytes(type, ROW);
    for (float bad : new float[] { Float.NaN, Float.POSITIVE_INFINITY, Float.NEGATIVE_INFINITY, 1e20f, -1e20f }) {
      float[] x = normal(ROW, 1);
      x[300] = bad;
      Exception e = assertThrows(IllegalArgumentException.class, () ->
        ggml.quantize(type, x, 1, ROW, weights(ROW, 2), bytes)
      );
      assertTrue(e.getMessage().contains("value 300 is " + bad), e.getMessage());
    }
    for (float bad : new float[] { Float.NaN, Float.POSITIVE_INFINITY, -1e-20f, 1e20f }) {
      float[] w = weights(ROW, 2);
      w[300] = bad;
      Exception e = assertThrows(IllegalArgumentException.class, () ->
        ggml.quantize(type, normal(ROW, 1), 1, ROW, w, bytes)
      );
      assertTrue(e.getMessage().contains("importance 300 is " + bad), e.getMessage());
    }
  }

  /** If a value that is let through made the library assert, this test's process would end. */
  @ParameterizedTest
  @ValueSource(ints = { 16, 17, 18, 19, 21, 22, 29 })
  void valuesAtTheLimitsDoNotEndTheProcess(int type) {
    Random random = new Random(type);
    int bytes = (int) ggml.rowBytes(type, 256);
    for (int round = 0; round < 96; round++) {
      float[] x = new float[256];
      float[] w = new float[256];
      double xScale = Math.pow(10, random.nextDouble(-45, 9));
      double wScale = Math.pow(10, random.nextDouble(-45, 9));
      for (int i = 0; i < 256; i++) {
        double spread = round % 3 == 0
          ? 1
          : round % 3 == 1
            ? random.nextGaussian()
            : Math.pow(10, random.nextDouble(-50, 9));
        x[i] = (float) Math.clamp(xScale * spread, -Ggml.LARGEST, Ggml.LARGEST);
        w[i] = random.nextInt(4) == 0 ? 0 : (float) Math.clamp(wScale * Math.abs(spread), 0, Ggml.LARGEST);
      }
      assertEquals(bytes, ggml.quantize(type, x, 1, 256, w, bytes).length);
      Arrays.fill(w, (round / 32) * 32, Math.min(256, (round / 32) * 32 + 32), 0);
      assertEquals(bytes, ggml.quantize(type, x, 1, 256, w, bytes).length);
      if (!ggml.requiresImportance(type)) {
        assertEquals(bytes, ggml.quantize(type, x, 1, 256, null, bytes).length);
      }
    }
  }

  @Test
  void seesScalesThatAreNotNumbers() throws IOException {
    // In a worker, for the library complains on standard error.
    try (WorkerProcess worker = TestWorkers.start(ValidateMain.class)) {
      DataInputStream answer = worker.receive().input();
      assertTrue(answer.readBoolean());
      assertFalse(answer.readBoolean());
    }
  }

  /** Tells whether a sound block is sound, and one whose scale is infinite. */
  static final class ValidateMain {

    private ValidateMain() {}

    public static void main(String[] args) throws IOException {
      WorkerChannel channel = WorkerChannel.open();
      byte[] block = new byte[34];
      boolean sound = Ggml.load().validateRow(Q8_0, block);
      block[1] = 0x7c;
      boolean infinite = Ggml.load().validateRow(Q8_0, block);
      Frame answer = Frame.of(0, out -> {
        out.writeBoolean(sound);
        out.writeBoolean(infinite);
      });
      channel.send(answer);
    }
  }

  @Test
  void aFailedAssertionEndsOnlyTheWorker() throws IOException {
    NativeFailure e = TestWorkers.failureOf(AbortMain.class);
    assertTrue(e.getMessage().contains("GGML_ASSERT(imatrix != NULL) failed"), e.getMessage());
    assertEquals(1, e.getMessage().lines().count());
    assertTrue(e.exitCode() > 1);
    assertFalse(e.log().isEmpty());
  }

  /** Calls the library without the checks: a type that needs importance weights gets none. */
  static final class AbortMain {

    private AbortMain() {}

    public static void main(String[] args) throws Throwable {
      WorkerChannel channel = WorkerChannel.open();
      MethodHandle quantize = LlamaLibrary.load().function(
        "ggml_quantize_chunk",
        FunctionDescriptor.of(
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_INT,
          ValueLayout.ADDRESS,
          ValueLayout.ADDRESS,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_LONG,
          ValueLayout.JAVA_LONG,
          ValueLayout.ADDRESS
        )
      );
      MemorySegment buffer = Arena.global().allocate(4 * ROW);
      long bytes = (long) quantize.invokeExact(IQ2_XXS, buffer, buffer, 0L, 1L, (long) ROW, MemorySegment.NULL);
      channel.send(Frame.of(0, out -> out.writeLong(bytes)));
    }
  }
}
