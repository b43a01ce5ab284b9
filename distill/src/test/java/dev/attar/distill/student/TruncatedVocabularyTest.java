package dev.attar.distill.student;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;

class TruncatedVocabularyTest {

  private static final String KEY = "tokenizer.ggml.";

  /** A model with rows for more tokens than it has names for, as one whose tokenizer's files name fewer. */
  private static Model model(int rows, String... tokens) {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string("llama"));
    metadata.put("general.size_label", MetadataValue.string("9K"));
    metadata.put("llama.vocab_size", MetadataValue.uint32(rows));
    metadata.put(KEY + "tokens", MetadataValue.strings(List.of(tokens)));
    metadata.put(KEY + "scores", MetadataValue.float32s(new float[tokens.length]));
    metadata.put(KEY + "token_type", MetadataValue.int32s(new int[tokens.length]));
    metadata.put(KEY + "merges", MetadataValue.strings(List.of(tokens)));
    metadata.put(KEY + "bos_token_id", MetadataValue.uint32(1));
    metadata.put(KEY + "padding_token_id", MetadataValue.uint32(4));
    return new MemoryModel(
      Metadata.of(metadata),
      List.of(
        tensor("token_embd.weight", TensorType.Q8_0, 64, rows),
        tensor("blk.0.ffn_up.weight", TensorType.F32, 64, rows),
        tensor("output.weight", TensorType.F16, 64, rows)
      )
    );
  }

  private static Tensor tensor(String name, TensorType type, long... shape) {
    TensorInfo info = new TensorInfo(name, type, shape);
    float[] values = new float[(int) info.elements()];
    Random random = new Random(3);
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return MemoryModel.tensor(info, values);
  }

  private static String problem(Model model, int tokens) {
    return assertThrows(DistillException.class, () -> TruncatedVocabulary.of(model, tokens)).getMessage();
  }

  @Test
  void rowsAndListsAreCut() throws IOException {
    Model model = model(6, "a", "b", "c", "d", "e");
    Model cut = TruncatedVocabulary.of(model, 3);
    Map<String, MetadataValue> expected = new LinkedHashMap<>(model.metadata().values());
    expected.put("general.size_label", MetadataValue.string("0.8K"));
    expected.put("llama.vocab_size", MetadataValue.uint32(3));
    expected.put(KEY + "tokens", MetadataValue.strings(List.of("a", "b", "c")));
    expected.put(KEY + "scores", MetadataValue.float32s(new float[3]));
    expected.put(KEY + "token_type", MetadataValue.int32s(new int[3]));
    expected.remove(KEY + "padding_token_id");
    assertEquals(Metadata.of(expected), cut.metadata());
    for (int i = 0; i < 3; i++) {
      Tensor whole = model.tensors().get(i);
      Tensor left = cut.tensors().get(i);
      assertEquals(whole.info().name(), left.info().name());
      assertEquals(whole.info().type(), left.info().type());
      assertEquals(i == 1 ? "64 x 6" : "64 x 3", left.info().shapeText());
      byte[] bytes = MemoryModel.bytes(left);
      assertArrayEquals(Arrays.copyOf(MemoryModel.bytes(whole), bytes.length), bytes);
      float[] values = MemoryModel.values(left);
      assertArrayEquals(Arrays.copyOf(MemoryModel.values(whole), values.length), values);
    }
  }

  @Test
  void rowsWithoutNamesArePadding() throws IOException {
    Model model = model(6, "a", "b", "c", "d", "e");
    assertEquals("64 x 5", TruncatedVocabulary.of(model, 5).tensors().getFirst().info().shapeText());
    Model whole = model(5, "a", "b", "c", "d", "e");
    assertSame(whole, TruncatedVocabulary.of(whole, 5));
  }

  @Test
  void fewerThanAskedFor() {
    assertEquals(
      "test-model: tensor token_embd.weight: found 5 rows, expected at least 6, one for each token",
      problem(model(5, "a", "b", "c", "d", "e"), 6)
    );
    assertEquals(
      "test-model: tokenizer.ggml.tokens: found 2 tokens, expected at least 6",
      problem(model(6, "a", "b"), 6)
    );
  }
}
