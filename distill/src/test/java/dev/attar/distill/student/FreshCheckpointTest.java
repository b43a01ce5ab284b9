package dev.attar.distill.student;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class FreshCheckpointTest {

  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");
  private static final JsonMapper MAPPER = new JsonMapper();

  @TempDir
  private Path folder;

  /** A configuration, changed, in a folder of its own without a tokenizer. */
  private Path config(Path checkpoint, Consumer<ObjectNode> change) throws IOException {
    ObjectNode json = (ObjectNode) MAPPER.readTree(checkpoint.resolve("config.json").toFile());
    change.accept(json);
    Path own = Files.createTempDirectory(folder, "config");
    return Files.write(own.resolve("config.json"), MAPPER.writeValueAsBytes(json));
  }

  private Path out() throws IOException {
    return Files.createTempDirectory(folder, "out");
  }

  private static Map<String, String> shapes(Model model) {
    Map<String, String> shapes = new TreeMap<>();
    model.tensors().forEach(tensor -> shapes.put(tensor.info().name(), tensor.info().shapeText()));
    return shapes;
  }

  private static double mean(float[] values) {
    double sum = 0;
    for (float value : values) {
      sum += value;
    }
    return sum / values.length;
  }

  private static double deviation(float[] values) {
    double squares = 0;
    for (float value : values) {
      squares += (double) value * value;
    }
    return Math.sqrt(squares / values.length);
  }

  @ParameterizedTest
  @ValueSource(strings = { "llama-yarn", "llama3-bpe", "llama-f32-hf", "mistral", "qwen2-yarn", "qwen3" })
  void hasTheTensorsOfItsConfiguration(String name) throws Exception {
    Path checkpoint = CHECKPOINTS.resolve(name);
    try (Model original = Models.open(checkpoint)) {
      Path fresh = FreshCheckpoint.write(checkpoint, original, out(), 5);
      assertEquals(name, fresh.getFileName().toString());
      try (Model model = Models.open(fresh)) {
        assertEquals(shapes(original), shapes(model));
        original
          .metadata()
          .values()
          .forEach((key, value) -> {
            if (!key.equals("general.file_type")) {
              assertEquals(value, model.metadata().get(key).orElseThrow(), key);
            }
          });
        for (Tensor tensor : model.tensors()) {
          assertInitial(tensor, 2);
        }
      }
    }
  }

  /** The standard deviation of n numbers is known to a part of 1/√(2n), their mean to 1/√n of the deviation: five times that. */
  private static void assertInitial(Tensor tensor, int layers) throws IOException {
    String name = tensor.info().name();
    assertEquals(TensorType.F32, tensor.info().type());
    float[] values = MemoryModel.values(tensor);
    if (name.equals("rope_freqs.weight")) {
      return;
    }
    if (tensor.info().shape().length == 1) {
      for (float value : values) {
        assertEquals(name.endsWith("bias") ? 0 : 1, value, name);
      }
      return;
    }
    boolean adds = name.contains("attn_output") || name.contains("ffn_down");
    double expected = adds ? 0.02 / Math.sqrt(2 * layers) : 0.02;
    double part = 5 / Math.sqrt(values.length);
    assertEquals(expected, deviation(values), expected * part, name);
    assertEquals(0, mean(values), expected * part, name);
  }

  @Test
  void theSeedDecides() throws Exception {
    Path config = config(MemoryModel.SAMPLE, json -> json.put("initializer_range", 0.5).put("num_hidden_layers", 1));
    try (
      Model teacher = Models.open(MemoryModel.SAMPLE);
      Model one = Models.open(FreshCheckpoint.write(config, teacher, out(), 1));
      Model again = Models.open(FreshCheckpoint.write(config, teacher, out(), 1));
      Model other = Models.open(FreshCheckpoint.write(config, teacher, out(), 2))
    ) {
      for (String name : List.of("token_embd.weight", "blk.0.attn_q.weight", "blk.0.ffn_down.weight")) {
        float[] values = MemoryModel.values(MemoryModel.tensor(one, name));
        assertArrayEquals(values, MemoryModel.values(MemoryModel.tensor(again, name)));
        float[] others = MemoryModel.values(MemoryModel.tensor(other, name));
        double expected = name.contains("down") ? 0.5 / Math.sqrt(2) : 0.5;
        assertEquals(expected, deviation(values), expected * 0.02, name);
        assertEquals(expected * Math.sqrt(2), deviation(minus(values, others)), expected * 0.03, "independent");
      }
      float[] queries = MemoryModel.values(MemoryModel.tensor(one, "blk.0.attn_q.weight"));
      float[] outputs = MemoryModel.values(MemoryModel.tensor(one, "blk.0.ffn_gate.weight"));
      assertEquals(0.5 * Math.sqrt(2), deviation(minus(queries, outputs)), 0.01, "of each tensor its own");
    }
  }

  private static float[] minus(float[] a, float[] b) {
    float[] out = new float[Math.min(a.length, b.length)];
    for (int i = 0; i < out.length; i++) {
      out[i] = a[i] - b[i];
    }
    return out;
  }

  @Test
  void tokenizersOfTheTeacherAndSizesOfVocabularies() throws Exception {
    try (Model teacher = Models.open(MemoryModel.SAMPLE)) {
      Path missing = config(MemoryModel.SAMPLE, json -> json.put("num_hidden_layers", 1).remove("vocab_size"));
      Path fresh = FreshCheckpoint.write(missing, teacher, out(), 1);
      assertEquals(-1, Files.mismatch(MemoryModel.SAMPLE.resolve("tokenizer.model"), fresh.resolve("tokenizer.model")));
      try (Model model = Models.open(fresh)) {
        assertEquals(new SharedVocabulary(4096, List.of()), SharedVocabulary.of(teacher, model));
        assertEquals("256 x 4096", shapes(model).get("token_embd.weight"));
      }
      assertEquals("float32", MAPPER.readTree(fresh.resolve("config.json").toFile()).path("dtype").asText());
      // A file of another name gives the model its own.
      Path named = Files.copy(missing, missing.resolveSibling("tiny-0.1M.json"));
      assertEquals("tiny-0.1M", FreshCheckpoint.write(named, teacher, out(), 1).getFileName().toString());
      // Fewer: the teacher's real tokens are missing.
      Path fewer = config(MemoryModel.SAMPLE, json -> json.put("num_hidden_layers", 1).put("vocab_size", 4000));
      try (Model model = Models.open(FreshCheckpoint.write(fewer, teacher, out(), 1))) {
        String message = assertThrows(DistillException.class, () -> SharedVocabulary.of(teacher, model)).getMessage();
        assertTrue(message.contains("tokenizer.ggml.tokens: token 4000: found nothing, expected '"), message);
      }
    }
  }

  /** A vocabulary that is longer than the tokenizer's, cut to the shared part, on its way to a folder and back. */
  @ParameterizedTest
  @ValueSource(strings = { "mistral", "qwen3", "llama-f32-hf" })
  void paddedVocabulariesAreTruncatedAndWritten(String name) throws Exception {
    Path checkpoint = CHECKPOINTS.resolve(name);
    try (Model teacher = Models.open(checkpoint)) {
      int tokens = SharedVocabulary.withoutPadding(teacher);
      Path config = config(checkpoint, json -> json.put("vocab_size", 400).put("pad_token_id", 399));
      Path padded = FreshCheckpoint.write(config, teacher, out(), 3);
      try (Model student = Models.open(padded)) {
        int shared = SharedVocabulary.of(teacher, student).tokens();
        assertTrue(shared >= tokens && shared < 400, "shared " + shared);
        Model cut = TruncatedVocabulary.of(student, shared);
        assertEquals(new SharedVocabulary(shared, List.of()), SharedVocabulary.of(cut, cut));
        assertTrue(cut.metadata().integer("tokenizer.ggml.padding_token_id").orElse(0) < shared);
        Path back = out().resolve(padded.getFileName());
        HuggingFaceWriter.write(cut, padded, new int[] { 0, 1 }, back, false, (_, _, _) -> {}, _ -> {});
        try (Model again = Models.open(back)) {
          assertEquals(cut.metadata(), again.metadata());
          assertEquals(shapes(cut), shapes(again));
          for (Tensor tensor : cut.tensors()) {
            String named = tensor.info().name();
            assertArrayEquals(MemoryModel.bytes(tensor), MemoryModel.bytes(MemoryModel.tensor(again, named)), named);
            float[] whole = MemoryModel.values(MemoryModel.tensor(student, named));
            float[] first = MemoryModel.values(tensor);
            assertArrayEquals(Arrays.copyOf(whole, first.length), first, named);
          }
        }
        assertTrue(MAPPER.readTree(back.resolve("config.json").toFile()).path("pad_token_id").isNull());
      }
    }
  }

  @Test
  void runsInLlama() throws Exception {
    Path config = config(CHECKPOINTS.resolve("qwen3"), json -> json.put("vocab_size", 300));
    try (
      Model teacher = Models.open(CHECKPOINTS.resolve("qwen3"));
      Model student = Models.open(FreshCheckpoint.write(config, teacher, out(), 3))
    ) {
      int shared = SharedVocabulary.of(teacher, student).tokens();
      Path file = MemoryModel.write(TruncatedVocabulary.of(student, shared), folder.resolve("fresh.gguf"));
      try (
        LlamaModel llama = LlamaModel.open(file, LlamaModel.Options.defaults());
        LlamaContext context = llama.context(new LlamaContext.Options(64, 64, 64, 1, 1));
        Batch batch = new Batch(8)
      ) {
        assertEquals(shared, context.vocabularySize());
        for (int i = 0; i < 8; i++) {
          batch.add(7 * i, i, 0, true);
        }
        context.decode(batch);
        float[] logits = context.logits().toArray(JAVA_FLOAT);
        // The head is the embedding, with weights of 0.02, and what enters it has a norm of √32.
        assertEquals(0.02 * Math.sqrt(32), deviation(logits), 0.03);
      }
    }
  }

  @Test
  void whatCannotBeMade() throws Exception {
    try (Model teacher = Models.open(MemoryModel.SAMPLE)) {
      Path bare = config(MemoryModel.SAMPLE, json -> json.put("num_hidden_layers", 1));
      Model gguf = new MemoryModel(teacher.metadata(), List.of());
      String message = assertThrows(DistillException.class, () ->
        FreshCheckpoint.write(bare, gguf, out(), 1)
      ).getMessage();
      assertEquals(
        bare.getParent() +
          ": no tokenizer.json or tokenizer.model, and the teacher test-model is no Hugging Face folder that has one: " +
          "copy the tokenizer's files of the teacher's checkpoint beside config.json",
        message
      );
      assertRefused(teacher, json -> json.put("hidden_act", "gelu"), "hidden_act: found \"gelu\", expected silu");
      assertRefused(teacher, json -> json.put("initializer_range", 0), "initializer_range: found 0, expected a number");
      assertRefused(teacher, json -> json.remove("hidden_size"), "hidden_size: found nothing, expected a number");
      assertRefused(
        teacher,
        json -> json.putArray("architectures").add("MixtralForCausalLM"),
        "architectures: found a model of experts, expected a dense one"
      );
    }
    // The tokenizer is read before weights are written.
    try (Model teacher = Models.open(CHECKPOINTS.resolve("qwen3"))) {
      Path small = config(CHECKPOINTS.resolve("qwen3"), json -> json.put("vocab_size", 100));
      Path out = out();
      assertThrows(FormatException.class, () -> FreshCheckpoint.write(small, teacher, out, 1));
      assertEquals(List.of(), OutputFiles.entries(out));
    }
  }

  private void assertRefused(Model teacher, Consumer<ObjectNode> change, String message) throws IOException {
    Path config = config(MemoryModel.SAMPLE, change);
    Path out = out();
    IOException e = assertThrows(IOException.class, () -> FreshCheckpoint.write(config, teacher, out, 1));
    assertTrue(e.getMessage().startsWith(config + ": " + message), e.getMessage());
    assertEquals(List.of(), OutputFiles.entries(out));
  }
}
