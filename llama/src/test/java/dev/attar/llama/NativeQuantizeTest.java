package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativeQuantizeTest {

  private static final int WIDTH = 256;
  private static final String EMBEDDING = "token_embd.weight";
  private static final String DOWN = "blk.0.ffn_down.weight";

  @TempDir
  private Path temp;

  private Path in;
  private Path out;
  private float[] embedding;
  private float[] down;

  /** A model of the llama architecture with two matrices, which is all that the quantizer wants to see. */
  @BeforeEach
  void writeModel() throws IOException {
    in = temp.resolve("in.gguf");
    out = temp.resolve("out.gguf");
    embedding = normal(16 * WIDTH, 1);
    down = normal(WIDTH * WIDTH, 2);
    ByteBuffer file = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);
    file.put("GGUF".getBytes(StandardCharsets.US_ASCII)).putInt(3).putLong(2).putLong(7);
    text(file, "general.architecture").putInt(8);
    text(file, "llama");
    text(file, "llama.context_length").putInt(4).putInt(128);
    text(file, "llama.embedding_length").putInt(4).putInt(WIDTH);
    text(file, "llama.block_count").putInt(4).putInt(1);
    text(file, "llama.feed_forward_length").putInt(4).putInt(WIDTH);
    text(file, "llama.attention.head_count").putInt(4).putInt(4);
    text(file, "llama.attention.layer_norm_rms_epsilon").putInt(6).putFloat(1e-5f);
    text(file, EMBEDDING).putInt(2).putLong(WIDTH).putLong(16).putInt(0).putLong(0);
    text(file, DOWN).putInt(2).putLong(WIDTH).putLong(WIDTH).putInt(0).putLong(4L * embedding.length);
    file.position(((file.position() + 31) / 32) * 32);
    file.asFloatBuffer().put(embedding).put(down);
    file.position(file.position() + 4 * (embedding.length + down.length));
    Files.write(in, Arrays.copyOf(file.array(), file.position()));
  }

  private static ByteBuffer text(ByteBuffer file, String text) {
    return file.putLong(text.length()).put(text.getBytes(StandardCharsets.US_ASCII));
  }

  private static float[] normal(int n, long seed) {
    Random random = new Random(seed);
    float[] x = new float[n];
    for (int i = 0; i < n; i++) {
      x[i] = (float) random.nextGaussian();
    }
    return x;
  }

  private static float[] ones() {
    float[] ones = new float[WIDTH];
    Arrays.fill(ones, 1);
    return ones;
  }

  private static byte[] encode(int type, float[] x, float[] importance) throws IOException {
    Ggml ggml = Ggml.load();
    int rows = x.length / WIDTH;
    return ggml.quantize(type, x, rows, WIDTH, importance, rows * (int) ggml.rowBytes(type, WIDTH));
  }

  /** The end of the file must be the two tensors: the quantizer writes those outside of the layers first. */
  private void assertEndsWith(byte[] first, byte[] second) throws IOException {
    byte[] file = Files.readAllBytes(out);
    int start = file.length - first.length - second.length;
    assertArrayEquals(first, Arrays.copyOfRange(file, start, start + first.length));
    assertArrayEquals(second, Arrays.copyOfRange(file, start + first.length, file.length));
  }

  @Test
  void quantizesAModel() throws IOException {
    NativeQuantize.Result result = NativeQuantize.run(in, out, NativeQuantize.Options.of(7, 2));
    assertEndsWith(encode(8, embedding, null), encode(8, down, null));
    assertTrue(result.time().isPositive());
    assertTrue(String.join("\n", result.log()).contains("quant size"), () -> result.log().toString());
  }

  @Test
  void passesTheOptionsOn() throws IOException {
    float[] importance = normal(WIDTH, 3);
    for (int i = 0; i < WIDTH; i++) {
      importance[i] *= importance[i];
    }
    NativeQuantize.Options options = new NativeQuantize.Options(
      15, // Q4_K_M
      1,
      false,
      false,
      true,
      OptionalInt.empty(),
      OptionalInt.of(14),
      List.of(new NativeQuantize.TensorType("ffn_d.wn", 11)),
      Map.of(DOWN, importance)
    );
    NativeQuantize.run(in, out, options);
    assertEndsWith(encode(14, embedding, null), encode(11, down, importance));
  }

  @Test
  void pureMeansOneType() throws IOException {
    NativeQuantize.run(in, out, NativeQuantize.Options.of(15, 1).asPure());
    assertEndsWith(encode(12, embedding, null), encode(12, down, null));
  }

  @Test
  void aRefusalIsAnErrorAndLeavesNoFile() {
    NativeFailure e = assertThrows(NativeFailure.class, () ->
      NativeQuantize.run(temp.resolve("missing.gguf"), out, NativeQuantize.Options.of(7, 1))
    );
    assertTrue(e.getMessage().startsWith("llama.cpp failed: failed to quantize: "), e.getMessage());
    assertTrue(e.getMessage().contains("missing.gguf"), e.getMessage());
    assertEquals(1, e.exitCode());
    assertFalse(Files.exists(out));
  }

  @Test
  void anAbortIsAnErrorAndLeavesNoFile() {
    // The importance of the embedding is not known, and IQ2_XXS cannot do without.
    NativeQuantize.Options options = NativeQuantize.Options.of(19, 1).asPure().withImportance(Map.of(DOWN, ones()));
    NativeFailure e = assertThrows(NativeFailure.class, () -> NativeQuantize.run(in, out, options));
    assertTrue(e.getMessage().contains("GGML_ASSERT(imatrix != NULL) failed"), e.getMessage());
    assertTrue(String.join("\n", e.log()).contains("did not find weights for " + EMBEDDING), e.log()::toString);
    assertFalse(Files.exists(out));
  }

  @Test
  void importanceWeightsComeBackAsTheyWere() throws IOException {
    Path file = temp.resolve("importance");
    Map<String, float[]> importance = Map.of("a", new float[] { 1, 2, 3 }, "b.ö", new float[] { 0.5f });
    NativeQuantize.writeImportance(file, importance);
    Map<String, float[]> back = NativeQuantize.readImportance(file);
    assertEquals(importance.keySet(), back.keySet());
    assertArrayEquals(importance.get("a"), back.get("a"));
    assertArrayEquals(importance.get("b.ö"), back.get("b.ö"));
    byte[] bytes = Files.readAllBytes(file);
    for (int length = 0; length < bytes.length; length++) {
      Files.write(file, Arrays.copyOf(bytes, length));
      assertThrows(IOException.class, () -> NativeQuantize.readImportance(file));
    }
  }
}
