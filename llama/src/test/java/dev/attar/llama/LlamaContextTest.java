package dev.attar.llama;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class LlamaContextTest {

  static final Path TINY = Path.of("src", "test", "resources", "tiny");

  /** The beginning and "the hen and the fox ran into the wood; she". */
  static final int[] TOKENS = {
    1,
    264,
    292,
    261,
    297,
    263,
    275,
    264,
    277,
    298,
    124,
    292,
    301,
    282,
    280,
    295,
    298,
    264,
    267,
    298,
    298,
    302,
    317,
    265
  };

  private static final int VOCABULARY = 330;

  // llama.cpp attends in half precision. With the reference's keys, values and queries rounded to it, the largest error is 0.006; the
  // logits' standard deviation is 1.4.
  private static final float HALF_PRECISION = 0.02f;

  private static LlamaModel model;

  @BeforeAll
  static void open() throws IOException {
    model = LlamaModel.open(TINY.resolve("model.gguf"), LlamaModel.Options.defaults());
  }

  @AfterAll
  static void close() {
    model.close();
  }

  private static LlamaContext context(int sequences) throws IOException {
    return model.context(new LlamaContext.Options(256, 256, 64, sequences, 1));
  }

  private static float[] golden(String file) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(TINY.resolve(file))).order(ByteOrder.LITTLE_ENDIAN);
    float[] values = new float[bytes.remaining() / 4];
    bytes.asFloatBuffer().get(values);
    return values;
  }

  /** Decodes tokens of one sequence, all of which are outputs. */
  private static float[] decode(LlamaContext context, int[] tokens, int position, int sequence) throws IOException {
    try (Batch batch = new Batch(tokens.length)) {
      for (int i = 0; i < tokens.length; i++) {
        batch.add(tokens[i], position + i, sequence, true);
      }
      context.decode(batch);
      return context.logits().toArray(JAVA_FLOAT);
    }
  }

  private static float[] rows(float[] logits, int from, int to) {
    return Arrays.copyOfRange(logits, from * VOCABULARY, to * VOCABULARY);
  }

  private static double largestDifference(float[] a, float[] b) {
    return IntStream.range(0, a.length)
      .mapToDouble(i -> Math.abs(a[i] - b[i]))
      .max()
      .orElseThrow();
  }

  @Test
  void givesTheLogitsOfTheReference() throws IOException {
    try (LlamaContext context = context(1)) {
      assertEquals(VOCABULARY, context.vocabularySize());
      assertEquals(256, context.contextLength());
      assertEquals(256, context.sequenceLength());
      assertEquals(256, context.batchSize());
      assertArrayEquals(golden("model.logits"), decode(context, TOKENS, 0, 0), HALF_PRECISION);
    }
  }

  @Test
  void aSequenceGoesOnWhereItEnded() throws IOException {
    float[] expected = golden("model.logits");
    try (LlamaContext context = context(1)) {
      decode(context, Arrays.copyOf(TOKENS, 10), 0, 0);
      for (int i = 10; i < TOKENS.length; i++) {
        float[] row = decode(context, new int[] { TOKENS[i] }, i, 0);
        assertArrayEquals(rows(expected, i, i + 1), row, HALF_PRECISION);
      }
    }
  }

  @Test
  void givesTheRowsOfTheOutputsAlone() throws IOException {
    float[] expected = golden("model.logits");
    try (LlamaContext context = context(1); Batch batch = new Batch(100)) {
      for (int i = 0; i < TOKENS.length; i++) {
        batch.add(TOKENS[i], i, 0, i == 3 || i == 20);
      }
      assertEquals(TOKENS.length, batch.size());
      assertEquals(2, batch.outputs());
      context.decode(batch);
      MemorySegment logits = context.logits();
      assertEquals(2L * VOCABULARY * 4, logits.byteSize());
      float[] found = logits.toArray(JAVA_FLOAT);
      assertArrayEquals(rows(expected, 3, 4), rows(found, 0, 1), HALF_PRECISION);
      assertArrayEquals(rows(expected, 20, 21), rows(found, 1, 2), HALF_PRECISION);

      batch.clear();
      batch.add(TOKENS[0], TOKENS.length, 0, false);
      context.decode(batch);
      assertEquals(0, context.logits().byteSize());
    }
  }

  @Test
  void whatWasClearedHasNoInfluence() throws IOException {
    try (LlamaContext context = context(1)) {
      float[] first = decode(context, TOKENS, 0, 0);
      context.clear();
      decode(context, new int[] { 300, 200, 100 }, 0, 0);
      context.clear();
      assertArrayEquals(first, decode(context, TOKENS, 0, 0));
    }
  }

  @Test
  void sequencesInOneBatchDoNotSeeEachOther() throws IOException {
    int[] other = { 1, 300, 50, 7, 264, 298 };
    float[] expectedOther;
    try (LlamaContext context = context(1)) {
      expectedOther = decode(context, other, 0, 0);
    }
    try (LlamaContext context = context(2); Batch batch = new Batch(64)) {
      assertEquals(512, context.contextLength());
      assertEquals(256, context.sequenceLength());
      for (int i = 0; i < TOKENS.length; i++) {
        batch.add(TOKENS[i], i, 0, true);
        if (i < other.length) {
          batch.add(other[i], i, 1, true);
        }
      }
      context.decode(batch);
      float[] found = context.logits().toArray(JAVA_FLOAT);
      float[] expected = golden("model.logits");
      int row = 0;
      for (int i = 0; i < TOKENS.length; i++, row++) {
        assertArrayEquals(rows(expected, i, i + 1), rows(found, row, row + 1), HALF_PRECISION);
        if (i < other.length) {
          row++;
          assertArrayEquals(rows(expectedOther, i, i + 1), rows(found, row, row + 1), HALF_PRECISION);
        }
      }
    }
  }

  @Test
  void threadsThatStayComputeTheSame() throws IOException {
    try (LlamaContext context = context(1)) {
      float[] expected = decode(context, TOKENS, 0, 0);
      for (int threads : new int[] { 2, 1, 2, 3, 2 }) {
        context.keepThreads(threads);
        context.clear();
        assertArrayEquals(expected, decode(context, TOKENS, 0, 0));
      }
      assertThrows(IllegalArgumentException.class, () -> context.keepThreads(0));
    }
  }

  @Test
  void theNumberOfThreadsDoesNotMatter() throws IOException {
    try (LlamaContext context = context(1)) {
      float[] one = decode(context, TOKENS, 0, 0);
      context.clear();
      context.threads(2);
      assertArrayEquals(one, decode(context, TOKENS, 0, 0));
      assertThrows(IllegalArgumentException.class, () -> context.threads(0));
      assertThrows(IllegalArgumentException.class, () -> context.threads(513));
    }
  }

  @Test
  void appliesAnAdapter() throws IOException {
    try (LlamaContext context = context(1)) {
      float[] without = decode(context, TOKENS, 0, 0);
      LlamaAdapter adapter = model.adapter(TINY.resolve("adapter.gguf"));
      context.adapters(List.of(adapter), new float[] { 0.5f });
      context.clear();
      float[] with = decode(context, TOKENS, 0, 0);
      assertArrayEquals(golden("adapter.logits"), with, HALF_PRECISION);
      assertTrue(largestDifference(with, without) > 1);
      context.adapters(List.of(), new float[0]);
      context.clear();
      assertArrayEquals(without, decode(context, TOKENS, 0, 0));
      assertThrows(IllegalArgumentException.class, () -> context.adapters(List.of(adapter), new float[0]));
    }
  }

  @Test
  void refusesAnotherModelsAdapter() throws IOException {
    try (
      LlamaModel other = LlamaModel.open(TINY.resolve("model.gguf"), LlamaModel.Options.defaults());
      LlamaContext context = context(1)
    ) {
      LlamaAdapter adapter = other.adapter(TINY.resolve("adapter.gguf"));
      assertThrows(IllegalArgumentException.class, () -> context.adapters(List.of(adapter), new float[] { 1 }));
    }
  }

  @Test
  void timingsCountTokens() throws IOException {
    try (LlamaContext context = context(1)) {
      context.resetTimings();
      assertEquals(0, context.timings().promptTokens());
      assertEquals(0, context.timings().generatedTokens());
      decode(context, TOKENS, 0, 0);
      for (int i = 0; i < 3; i++) {
        decode(context, new int[] { 5 }, TOKENS.length + i, 0);
      }
      Timings timings = context.timings();
      assertEquals(TOKENS.length, timings.promptTokens());
      assertEquals(3, timings.generatedTokens());
      assertTrue(timings.promptSeconds() > 0 && timings.promptSeconds() < 60, timings::toString);
      assertTrue(timings.generationSeconds() > 0 && timings.generationSeconds() < 60, timings::toString);
      assertTrue(timings.loadSeconds() > 0, timings::toString);
      context.resetTimings();
      assertEquals(0, context.timings().promptTokens());
    }
  }

  /** Each of these would end the process, or be refused by the library. */
  @ParameterizedTest
  @CsvSource({ "330, 0, 0", "2147483647, 0, 0", "0, 0, 1", "0, 0, 2147483647" })
  void refusesWhatTheLibraryWouldDieOf(int token, int position, int sequence) throws IOException {
    try (LlamaContext context = context(1); Batch batch = new Batch(2)) {
      batch.add(1, 0, 0, true);
      batch.add(token, position, sequence, true);
      assertThrows(IllegalArgumentException.class, () -> context.decode(batch));
      batch.clear();
      assertThrows(IllegalArgumentException.class, () -> context.decode(batch));
      batch.add(1, 0, 0, true);
      context.decode(batch);
    }
  }

  @Test
  void learnedPositionsEndWhereTrainingEnded() throws IOException {
    try (
      LlamaModel gpt2 = LlamaModel.open(TINY.resolve("gpt2.gguf"), LlamaModel.Options.defaults());
      LlamaContext context = gpt2.context(new LlamaContext.Options(256, 256, 64, 1, 1));
      Batch batch = new Batch(9)
    ) {
      for (int i = 0; i < 9; i++) {
        batch.add(i, i, 0, true);
      }
      Exception e = assertThrows(IllegalArgumentException.class, () -> context.decode(batch));
      assertEquals("position 8, expected 0 to 7", e.getMessage());
      batch.clear();
      for (int i = 0; i < 8; i++) {
        batch.add(i, i, 0, true);
      }
      context.decode(batch);
      assertEquals(8L * 40 * 4, context.logits().byteSize());
    }
  }

  @Test
  void refusesMoreTokensThanABatchMayHave() throws IOException {
    try (
      LlamaContext context = model.context(new LlamaContext.Options(256, 32, 16, 1, 1));
      Batch batch = new Batch(33)
    ) {
      assertEquals(32, context.batchSize());
      for (int i = 0; i < 33; i++) {
        batch.add(5, i, 0, false);
      }
      Exception e = assertThrows(IllegalArgumentException.class, () -> context.decode(batch));
      assertTrue(e.getMessage().contains("33"), e.getMessage());
    }
  }

  @Test
  void saysWhyTokensAreNotDecoded() throws IOException {
    try (LlamaContext context = context(1); Batch batch = new Batch(300)) {
      batch.add(5, 3, 0, true);
      context.decode(batch);
      batch.clear();
      batch.add(5, 9, 0, true);
      IOException gap = assertThrows(IOException.class, () -> context.decode(batch));
      assertTrue(gap.getMessage().contains("inconsistent sequence positions"), gap.getMessage());
      assertEquals(1, gap.getMessage().lines().count());
      assertEquals(0, context.logits().byteSize());

      context.clear();
      for (int position = 0; position < 256; position += 128) {
        batch.clear();
        for (int i = 0; i < 128; i++) {
          batch.add(5, position + i, 0, false);
        }
        context.decode(batch);
      }
      batch.clear();
      batch.add(5, 256, 0, false);
      IOException full = assertThrows(IOException.class, () -> context.decode(batch));
      assertTrue(full.getMessage().contains("no room for them in a context of 256 tokens"), full.getMessage());
    }
  }

  @Test
  void batchesCheckWhatIsAdded() {
    assertThrows(IllegalArgumentException.class, () -> new Batch(0));
    Batch batch = new Batch(1);
    assertThrows(IllegalArgumentException.class, () -> batch.add(-1, 0, 0, true));
    assertThrows(IllegalArgumentException.class, () -> batch.add(0, -1, 0, true));
    assertThrows(IllegalArgumentException.class, () -> batch.add(0, 0, -1, true));
    batch.add(0, 0, 0, true);
    assertThrows(IllegalStateException.class, () -> batch.add(0, 1, 0, true));
    batch.close();
    batch.clear();
    batch.close();
    assertThrows(IllegalStateException.class, () -> batch.add(0, 0, 0, true));
  }

  @Test
  void aClosedBatchIsNotDecoded() throws IOException {
    try (LlamaContext context = context(1)) {
      Batch batch = new Batch(1);
      batch.add(1, 0, 0, true);
      batch.close();
      assertThrows(IllegalStateException.class, () -> context.decode(batch));
    }
  }

  @Test
  void logitsEndWithTheNextBatch() throws IOException {
    LlamaContext context = context(1);
    decode(context, TOKENS, 0, 0);
    MemorySegment logits = context.logits();
    assertEquals(logits.get(JAVA_FLOAT, 4), context.logits().get(JAVA_FLOAT, 4));
    assertNotEquals(0, logits.get(JAVA_FLOAT, 0));
    decode(context, new int[] { 5 }, TOKENS.length, 0);
    assertThrows(IllegalStateException.class, () -> logits.get(JAVA_FLOAT, 0));
    MemorySegment last = context.logits();
    context.close();
    assertThrows(IllegalStateException.class, () -> last.get(JAVA_FLOAT, 0));
  }

  @Test
  void aClosedContextDoesNothing() throws IOException {
    LlamaContext context = context(1);
    context.close();
    context.close();
    assertEquals(VOCABULARY, context.vocabularySize());
    try (Batch batch = new Batch(1)) {
      batch.add(1, 0, 0, true);
      assertThrows(IllegalStateException.class, () -> context.decode(batch));
    }
    assertThrows(IllegalStateException.class, context::logits);
    assertThrows(IllegalStateException.class, context::clear);
    assertThrows(IllegalStateException.class, context::synchronize);
    assertThrows(IllegalStateException.class, context::timings);
    assertThrows(IllegalStateException.class, context::resetTimings);
    assertThrows(IllegalStateException.class, () -> context.threads(1));
    assertThrows(IllegalStateException.class, () -> context.adapters(List.of(), new float[0]));
  }

  @ParameterizedTest
  @CsvSource(
    {
      "0,1,1,1,1",
      "1,0,1,1,1",
      "1,1,0,1,1",
      "1,1,1,0,1",
      "256,3,1,4,1",
      "3,256,1,4,1",
      "1073741825,1,1,1,1",
      "1,1,1,257,1",
      "1,1,1,1,0",
      "1,1,1,1,513",
      "-1,1,1,1,1"
    }
  )
  void refusesSizesThatTheLibraryDoesNotTake(int context, int batch, int microBatch, int sequences, int threads) {
    assertThrows(IllegalArgumentException.class, () ->
      new LlamaContext.Options(context, batch, microBatch, sequences, threads)
    );
  }
}
