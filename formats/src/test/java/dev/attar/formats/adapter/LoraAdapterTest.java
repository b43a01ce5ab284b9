package dev.attar.formats.adapter;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Adapters for Llama: embedding 32, 4 heads and 2 groups of 8 values, 48 neurons, a vocabulary of 332; and for Mixtral of the same sizes,
 * with 3 experts.
 */
class LoraAdapterTest {

  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Path CHECKPOINTS = Path.of("src/test/resources/checkpoints");
  private static final Path LLAMA = CHECKPOINTS.resolve("llama-f32-hf");
  private static final String LORA = "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6}";
  private static final String PREFIX = "base_model.model.model.layers.1.";

  @TempDir
  private Path folder;

  private TestAdapter adapter;

  @BeforeEach
  void start() {
    adapter = new TestAdapter();
  }

  private static float[] decode(Tensor tensor) throws IOException {
    float[] values = new float[(int) tensor.info().elements()];
    tensor.decodeRows(0, (int) tensor.info().rows(), values, 0);
    return values;
  }

  /** What is the other way round in the embedding's factors. */
  private static float[] transposed(float[] values, int rowLength) {
    int rows = values.length / rowLength;
    float[] out = new float[values.length];
    for (int i = 0; i < values.length; i++) {
      out[(i % rowLength) * rows + i / rowLength] = values[i];
    }
    return out;
  }

  @Test
  void gguf() throws IOException {
    adapter
      .tensor("blk.1.ffn_down.weight.lora_b", 4, 32)
      .tensor("blk.1.attn_norm.weight", 32)
      .tensor("token_embd.weight.lora_a", 2, 332)
      .tensor("token_embd.weight.lora_b", 2, 32)
      .tensor("blk.0.attn_q.weight.lora_a", TensorType.Q8_0, 32, 32)
      .tensor("blk.0.attn_q.weight.lora_b", TensorType.Q8_0, 32, 32)
      .tensor("blk.1.ffn_down.weight.lora_a", TensorType.F16, 48, 4);
    Path file = adapter.gguf(folder.resolve("a.gguf"));
    try (Model base = Models.open(LLAMA); LoraAdapter opened = LoraAdapter.open(file, base)) {
      assertEquals(file, opened.source());
      assertEquals(List.of(file), opened.files());
      assertEquals(List.of("blk.1.attn_norm.weight"), opened.ignored());
      assertEquals(
        List.of("token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"),
        opened
          .tensors()
          .stream()
          .map(tensor -> tensor.target().name())
          .toList()
      );
      LoraTensor embedding = opened.tensors().get(0);
      assertEquals(4, embedding.scale()); // 8 / 2
      assertArrayEquals(adapter.values("token_embd.weight.lora_a"), decode(embedding.b()));
      assertArrayEquals(transposed(adapter.values("token_embd.weight.lora_b"), 2), decode(embedding.a()));
      LoraTensor queries = opened.tensors().get(1);
      assertEquals(0.25f, queries.scale());
      assertEquals(32, queries.rank());
      assertArrayEquals(adapter.values("blk.0.attn_q.weight.lora_a"), decode(queries.a()), 0.005f);
      LoraTensor down = opened.tensors().get(2);
      assertEquals(
        base
          .tensors()
          .stream()
          .filter(t -> t.info().equals(down.target()))
          .count(),
        1
      );
      assertEquals(2, down.scale());
      assertArrayEquals(adapter.values("blk.1.ffn_down.weight.lora_b"), decode(down.b()));
    }
  }

  /** {@code llama_adapter_lora_weight.get_scale}. */
  @Test
  void withoutAlphaTheScaleIsOne() throws IOException {
    adapter
      .with("adapter.lora.alpha", MetadataValue.float32(0))
      .tensor("output.weight.lora_a", 32, 3)
      .tensor("output.weight.lora_b", 3, 332);
    Path file = adapter.gguf(folder.resolve("a.gguf"));
    try (Model base = Models.open(LLAMA); LoraAdapter opened = LoraAdapter.open(file, base)) {
      assertEquals(1, opened.tensors().getFirst().scale());
    }
  }

  /** For a base in either form; row {@code 2 i + j} of a head of 8 in GGUF is row {@code 4 j + i} of the checkpoint. */
  @Test
  void peft() throws IOException {
    adapter
      .tensor(PREFIX + "self_attn.q_proj.lora_A.weight", 32, 4)
      .tensor(PREFIX + "self_attn.q_proj.lora_B.weight", TensorType.BF16, 4, 32)
      .tensor(PREFIX + "self_attn.k_proj.lora_A.default.weight", 32, 4)
      .tensor(PREFIX + "self_attn.k_proj.lora_B.default.weight", 4, 16)
      .tensor(PREFIX + "mlp.up_proj.lora_A.weight", 32, 9)
      .tensor(PREFIX + "mlp.up_proj.lora_B.weight", 9, 48)
      .tensor("base_model.model.model.embed_tokens.lora_embedding_A", 332, 4)
      .tensor("base_model.model.model.embed_tokens.lora_embedding_B", 4, 32)
      .tensor("base_model.model.model.embed_tokens.base_layer.weight", 32, 332);
    String settings =
      "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6, \"use_rslora\": true, \"modules_to_save\": []," +
      "\"rank_pattern\": {\"nothing\": 5, \"mlp.up_.*\": 9, \"up_proj\": 2}, \"alpha_pattern\": {\"1.mlp.up_proj\": 30}}";
    Path peft = adapter.peft(folder.resolve("peft"), settings);
    Path gguf;
    try (Model checkpoint = Models.open(LLAMA)) {
      gguf = TestAdapter.write(checkpoint, folder.resolve("base.gguf"));
    }
    for (Path source : List.of(LLAMA, gguf)) {
      for (Path path : List.of(peft, peft.resolve("adapter_model.safetensors"))) {
        try (Model base = Models.open(source); LoraAdapter opened = LoraAdapter.open(path, base)) {
          assertEquals(4, opened.tensors().size());
          for (LoraTensor tensor : opened.tensors()) {
            assertEquals(tensor.target().name().contains("ffn_up") ? 10 : 3, tensor.scale());
            checkPeft(tensor);
          }
        }
      }
    }
  }

  private void checkPeft(LoraTensor tensor) throws IOException {
    float[] a = decode(tensor.a());
    float[] b = decode(tensor.b());
    switch (tensor.target().name()) {
      case "token_embd.weight" -> {
        String stored = "base_model.model.model.embed_tokens.lora_embedding_";
        assertArrayEquals(transposed(adapter.values(stored + "A"), 332), b);
        assertArrayEquals(transposed(adapter.values(stored + "B"), 4), a);
      }
      case "blk.1.ffn_up.weight" -> {
        assertArrayEquals(adapter.values(PREFIX + "mlp.up_proj.lora_A.weight"), a);
        assertArrayEquals(adapter.values(PREFIX + "mlp.up_proj.lora_B.weight"), b);
      }
      case "blk.1.attn_q.weight" -> {
        assertArrayEquals(adapter.values(PREFIX + "self_attn.q_proj.lora_A.weight"), a);
        checkInterleaved(adapter.values(PREFIX + "self_attn.q_proj.lora_B.weight"), b, 4, 0.002f);
      }
      case "blk.1.attn_k.weight" -> {
        assertArrayEquals(adapter.values(PREFIX + "self_attn.k_proj.lora_A.default.weight"), a);
        checkInterleaved(adapter.values(PREFIX + "self_attn.k_proj.lora_B.default.weight"), b, 2, 0);
      }
      default -> throw new AssertionError(tensor.target());
    }
  }

  private static void checkInterleaved(float[] stored, float[] gguf, int heads, float tolerance) {
    for (int head = 0; head < heads; head++) {
      for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 2; j++) {
          for (int r = 0; r < 4; r++) {
            float expected = stored[(head * 8 + 4 * j + i) * 4 + r];
            assertEquals(expected, gguf[(head * 8 + 2 * i + j) * 4 + r], tolerance);
          }
        }
      }
    }
  }

  @Test
  void expertsAreStacked() throws IOException {
    for (int expert = 2; expert >= 0; expert--) {
      String module = PREFIX + "block_sparse_moe.experts." + expert + ".w2.";
      adapter.tensor(module + "lora_A.weight", 48, 4).tensor(module + "lora_B.weight", 4, 32);
    }
    Path peft = adapter.peft(folder.resolve("peft"), LORA);
    Path mixtral = CHECKPOINTS.resolve("mixtral");
    try (Model base = Models.open(mixtral); LoraAdapter opened = LoraAdapter.open(peft, base)) {
      LoraTensor tensor = opened.tensors().getFirst();
      assertEquals("blk.1.ffn_down_exps.weight", tensor.target().name());
      assertEquals(1.5f, tensor.scale());
      assertArrayEquals(new long[] { 48, 4, 3 }, tensor.a().info().shape());
      assertArrayEquals(new long[] { 4, 32, 3 }, tensor.b().info().shape());
      for (int expert = 0; expert < 3; expert++) {
        String module = PREFIX + "block_sparse_moe.experts." + expert + ".w2.";
        float[] b = new float[4 * 32];
        tensor.b().decodeRows(expert * 32, 32, b, 0);
        assertArrayEquals(adapter.values(module + "lora_B.weight"), b);
        float[] a = new float[4 * 48];
        tensor.a().decodeRows(expert * 4, 4, a, 0);
        assertArrayEquals(adapter.values(module + "lora_A.weight"), a);
      }
    }
    adapter = new TestAdapter()
      .tensor("blk.0.ffn_up_exps.weight.lora_a", 32, 2, 3)
      .tensor("blk.0.ffn_up_exps.weight.lora_b", 2, 48, 3);
    try (
      Model base = Models.open(mixtral);
      LoraAdapter opened = LoraAdapter.open(adapter.gguf(folder.resolve("a.gguf")), base)
    ) {
      assertEquals(4, opened.tensors().getFirst().scale());
    }
    // Some experts only, as a checkpoint can have it and GGUF cannot.
    String module = PREFIX + "block_sparse_moe.experts.";
    adapter = new TestAdapter()
      .tensor(module + "1.w2.lora_A.weight", 48, 4)
      .tensor(module + "1.w2.lora_B.weight", 4, 32);
    assertRefused(
      adapter.peft(folder.resolve("some"), LORA),
      mixtral,
      "factors of expert 0 of blk.1.ffn_down_exps.weight are missing"
    );
    adapter.tensor(module + "3.w2.lora_A.weight", 48, 4);
    assertRefused(
      adapter.peft(folder.resolve("more"), LORA),
      mixtral,
      ": expert 3, expected below 3 as " + mixtral + " has it"
    );
    adapter = new TestAdapter()
      .tensor("blk.0.ffn_up_exps.weight.lora_a", 32, 2)
      .tensor("blk.0.ffn_up_exps.weight.lora_b", 2, 48);
    assertRefused(
      adapter.gguf(folder.resolve("b.gguf")),
      mixtral,
      "tensor blk.0.ffn_up_exps.weight.lora_a: 1 experts, expected 3 as " + mixtral + " has it"
    );
  }

  private static void assertRefused(Path path, Path base, String expected) throws IOException {
    try (Model model = Models.open(base)) {
      FormatException e = assertThrows(FormatException.class, () -> LoraAdapter.open(path, model).close());
      assertTrue(e.getMessage().contains(expected), e.getMessage());
      assertTrue(e.getMessage().contains(path.getFileName().toString()), e.getMessage());
      assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    }
  }

  private void assertGgufRefused(UnaryOperator<TestAdapter> change, String expected) throws IOException {
    TestAdapter changed = change.apply(
      new TestAdapter().tensor("blk.0.attn_k.weight.lora_a", 32, 4).tensor("blk.0.attn_k.weight.lora_b", 4, 16)
    );
    assertRefused(changed.gguf(folder.resolve("bad.gguf")), LLAMA, expected);
  }

  @Test
  void damagedGgufIsOneLine() throws IOException {
    String asBase = " as " + LLAMA + " has it";
    String k = "blk.0.attn_k.weight.lora_";
    assertGgufRefused(
      a -> a.with("general.type", MetadataValue.string("model")),
      "general.type: found model, expected"
    );
    assertGgufRefused(a -> a.with("adapter.type", MetadataValue.uint32(1)), "adapter.type: found 1, expected lora");
    assertGgufRefused(
      a -> a.with("general.architecture", MetadataValue.string("qwen2")),
      "general.architecture: found qwen2, expected llama" + asBase
    );
    assertGgufRefused(
      a -> a.with("adapter.lora.alpha", MetadataValue.float32(Float.NaN)),
      "adapter.lora.alpha: found FLOAT32 NaN, expected a finite number"
    );
    assertGgufRefused(a -> a.with("adapter.lora.alpha", MetadataValue.uint32(8)), "found UINT32 8, expected");
    assertGgufRefused(
      a -> a.with("adapter.alora.invocation_tokens", MetadataValue.int32s(new int[] { 1 })),
      "an activated LoRA"
    );
    assertGgufRefused(a -> a.tensor(k + "a", 64, 4), k + "a: rows of 64, expected 32" + asBase);
    assertGgufRefused(a -> a.tensor(k + "b", 4, 32), k + "b: 32 rows, expected 16" + asBase);
    assertGgufRefused(a -> a.tensor(k + "b", 5, 16), k + "b: rank 5, expected 4 as " + k + "a has it");
    assertGgufRefused(a -> a.tensor(k + "a", 32, 4, 2), k + "a: 2 experts, expected 1" + asBase);
    assertGgufRefused(
      a -> a.tensor("output.weight.lora_a", 32, 4),
      "output.weight.lora_a is without its partner .lora_b"
    );
    assertGgufRefused(
      a -> a.tensor("blk.2.attn_k.weight.lora_a", 32, 4).tensor("blk.2.attn_k.weight.lora_b", 4, 16),
      ": " + LLAMA + " has no blk.2.attn_k.weight"
    );
    assertGgufRefused(
      a -> a.tensor("output_norm.weight.lora_a", 32, 4).tensor("output_norm.weight.lora_b", 4, 1),
      "is no matrix of real numbers"
    );
    assertGgufRefused(a -> a.tensor("blk.0.attn_k.bias", 16), "tensor blk.0.attn_k.bias is no factor of LoRA");
    assertRefused(new TestAdapter().gguf(folder.resolve("empty.gguf")), LLAMA, "no factors of LoRA in it");
    assertRefused(Files.writeString(folder.resolve("text.gguf"), "no adapter"), LLAMA, "byte 0");
    Path missing = folder.resolve("missing.gguf");
    try (Model base = Models.open(LLAMA)) {
      assertThrows(NoSuchFileException.class, () -> LoraAdapter.open(missing, base).close());
    }
  }

  @Test
  void theEmbeddingMustNotBeTheOutputToo() throws IOException {
    Path tied = folder.resolve("tied.gguf");
    try (Model base = Models.open(CHECKPOINTS.resolve("qwen3"))) {
      assertTrue(
        base
          .tensors()
          .stream()
          .noneMatch(tensor -> tensor.info().name().equals("output.weight"))
      );
      TestAdapter.write(base, tied);
      long vocabulary = base
        .tensors()
        .stream()
        .filter(tensor -> tensor.info().name().equals("token_embd.weight"))
        .findFirst()
        .orElseThrow()
        .info()
        .rows();
      adapter
        .with("general.architecture", MetadataValue.string("qwen3"))
        .tensor("token_embd.weight.lora_a", 2, vocabulary)
        .tensor("token_embd.weight.lora_b", 2, 32);
    }
    assertRefused(adapter.gguf(folder.resolve("a.gguf")), tied, ": " + tied + " has no output.weight");
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '#',
    textBlock = """
    "peft_type": "IA3" # peft_type: found "IA3", expected LORA
    "peft_type": null # peft_type
    "r": null # r: found nothing
    "r": 0 # r: found 0
    "r": 5 # lora_A.weight: rank 4, expected 5 as adapter_config.json says
    "lora_alpha": null # lora_alpha: found nothing
    "lora_alpha": "16" # lora_alpha: found "16"
    "use_rslora": 1 # use_rslora: found 1
    "use_dora": true # DoRA cannot be merged
    "bias": "all" # biases cannot be merged
    "lora_bias": true # biases cannot be merged
    "modules_to_save": ["lm_head"] # modules_to_save: found ["lm_head"], expected nothing
    "layer_replication": [[0, 2]] # layer_replication
    "trainable_token_indices": {"embed_tokens": [1]} # trainable_token_indices
    "alora_invocation_tokens": [1] # an activated LoRA
    "init_lora_weights": "pissa_niter_4" # such an adapter is for another base
    "rank_pattern": {"q_proj": 7} # lora_A.weight: rank 4, expected 7 as
    "rank_pattern": {"(": 7} # ( is no regular expression
    "rank_pattern": [1] # rank_pattern: found [1]
    "alpha_pattern": {"q_proj": "x"} # alpha_pattern.q_proj: found "x"
    """
  )
  void settingsThatCannotBeMergedAreOneLine(String setting, String expected) throws IOException {
    adapter
      .tensor(PREFIX + "self_attn.q_proj.lora_A.weight", 32, 4)
      .tensor(PREFIX + "self_attn.q_proj.lora_B.weight", 4, 32);
    ObjectNode settings = (ObjectNode) MAPPER.readTree(LORA);
    settings.setAll((ObjectNode) MAPPER.readTree("{" + setting + "}"));
    Path peft = adapter.peft(folder, settings.toString());
    try (Model base = Models.open(LLAMA)) {
      FormatException e = assertThrows(FormatException.class, () -> LoraAdapter.open(peft, base).close());
      assertTrue(e.getMessage().contains(expected), e.getMessage());
      assertTrue(e.getMessage().startsWith(folder.resolve("adapter_").toString()), e.getMessage());
      assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    }
  }

  private void assertPeftRefused(UnaryOperator<TestAdapter> change, String expected) throws IOException {
    String q = PREFIX + "self_attn.q_proj.lora_";
    TestAdapter changed = change.apply(new TestAdapter().tensor(q + "A.weight", 32, 4).tensor(q + "B.weight", 4, 32));
    Path file = changed.peft(folder, LORA).resolve("adapter_model.safetensors");
    assertRefused(file, LLAMA, expected);
  }

  @Test
  void damagedPeftIsOneLine() throws IOException {
    String asBase = " as " + LLAMA + " has it";
    String q = PREFIX + "self_attn.q_proj.";
    assertPeftRefused(a -> a.tensor(q + "lora_A.weight", 31, 4), q + "lora_A.weight: rows of 31, expected 32" + asBase);
    assertPeftRefused(a -> a.tensor(q + "lora_B.weight", 4, 30), q + "lora_B.weight: 30 rows, expected 32" + asBase);
    assertPeftRefused(a -> a.tensor(q + "lora_B.weight", 3, 32), "rank 3, expected 4 as adapter_config.json says");
    assertPeftRefused(a -> a.tensor(q + "lora_A.weight", 32, 4, 1), "expected a matrix of real numbers");
    assertPeftRefused(a -> a.tensor(q + "lora_A.weight", 0, 4), "expected a matrix of real numbers");
    assertPeftRefused(a -> a.tensor(PREFIX + "mlp.up_proj.lora_A.weight", 32, 4), " is without its partner");
    assertPeftRefused(a -> a.tensor(q + "lora_A.default.weight", 32, 4), " once more");
    assertPeftRefused(a -> a.tensor(q + "lora_magnitude_vector", 32), " is of DoRA");
    assertPeftRefused(a -> a.tensor(q + "lora_B.bias", 32), "lora_B.bias is no factor of LoRA");
    assertPeftRefused(a -> a.tensor("base_model.model.lm_head.weight", 32, 332), "lm_head.weight is no factor of LoRA");
    assertPeftRefused(
      a -> a.tensor(q.replace("q_proj", "qkv_proj") + "lora_A.weight", 32, 4),
      ": checkpoints of llama, the architecture of " + LLAMA + ", have no model.layers.1.self_attn.qkv_proj.weight"
    );
    assertPeftRefused(
      a -> a.tensor(q.replace("layers.1", "layers.7") + "lora_A.weight", 32, 4),
      ": " + LLAMA + " has no blk.7.attn_q.weight"
    );
    assertPeftRefused(
      a -> a.tensor("base_model.model.model.embed_tokens.lora_A.weight", 32, 4),
      ": token_embd.weight has factors lora_embedding_A and"
    );
    Files.delete(folder.resolve("adapter_config.json"));
    assertRefused(folder.resolve("adapter_model.safetensors"), LLAMA, "expected a PEFT adapter");
    try (Model base = Models.open(LLAMA)) {
      assertThrows(FormatException.class, () -> LoraAdapter.open(folder, base).close());
    }
  }
}
