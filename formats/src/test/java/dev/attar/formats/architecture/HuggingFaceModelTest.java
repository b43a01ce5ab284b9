package dev.attar.formats.architecture;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class HuggingFaceModelTest {

  private static final ObjectMapper MAPPER = new ObjectMapper();

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource(
    delimiter = '#',
    textBlock = """
    {"architectures": ["GemmaForCausalLM"]} # LlamaForCausalLM, LLaMAForCausalLM, MistralForCausalLM, MixtralForCausalLM, Qwen2
    {"architectures": []} # found nothing, expected one of
    {"architectures": "MistralForCausalLM"} # found nothing, expected one of
    {"vision_config": {}} # a model of more than text
    {"quantization_config": {"quant_method": "gptq"}} # weights quantized by gptq
    {"num_attention_heads": 0} # num_attention_heads: found 0, expected a number from 1
    {"num_attention_heads": 3} # num_key_value_heads: found 2, expected a divisor
    {"num_attention_heads": null} # num_attention_heads: found nothing
    {"num_key_value_heads": 3} # a divisor of num_attention_heads 4
    {"head_dim": 7} # an even size of a head
    {"head_dim": null, "num_attention_heads": 5} # a divisor of hidden_size
    {"hidden_size": -32} # hidden_size: found -32
    {"hidden_size": 32.5} # hidden_size: found 32.5
    {"hidden_size": "32"} # hidden_size: found "32"
    {"hidden_size": 64} # expected shape [330, 64]
    {"hidden_size": 1e300} # hidden_size
    {"num_hidden_layers": 3} # tensor model.layers.2.input_layernorm.weight is missing
    {"num_hidden_layers": 1} # found layer 1, expected below num_hidden_layers 1
    {"num_hidden_layers": 2147483647} # expected a number from 1 to 10000
    {"num_hidden_layers": 9223372036854775808} # expected a number from 1 to 10000
    {"vocab_size": 329} # found shape [330, 32], expected shape [329, 32]
    {"vocab_size": 99999999999} # vocab_size
    {"intermediate_size": 49} # expected shape [32, 49]
    {"rms_norm_eps": "tiny"} # rms_norm_eps
    {"rms_norm_eps": 0} # a number above 0
    {"rope_theta": 0} # a number above 0
    {"tie_word_embeddings": "yes"} # true or false
    {"rope_scaling": {"type": "longrope"}} # rope_scaling.type: found "longrope", expected one of default
    {"rope_scaling": {"type": "linear"}} # rope_scaling.factor
    {"rope_scaling": {"type": "linear", "factor": 0}} # rope_scaling.factor: found 0
    {"rope_scaling": [1]} # rope_scaling: found [1], expected an object
    {"rope_scaling": {"rope_type": "llama3", "high_freq_factor": 1}} # more than low_freq_factor
    {"max_position_embeddings": 99999999999} # max_position_embeddings
    """
  )
  void malformedConfigIsOneLine(String change, String expected) throws IOException {
    Path checkpoint = copyOf("mistral");
    Path config = checkpoint.resolve("config.json");
    ObjectNode node = (ObjectNode) MAPPER.readTree(config.toFile());
    node.setAll((ObjectNode) MAPPER.readTree(change));
    MAPPER.writeValue(config.toFile(), node);
    assertRefused(checkpoint, expected);
  }

  @ParameterizedTest
  @CsvSource(
    {
      "model.norm.weight, model.nope.weight, tensor model.nope.weight is not one of this architecture",
      "model.layers.0.input_layernorm.weight, model.layers.00.nput_layernorm.weight, is not one of this architecture",
      "self_attn.k_proj.weight, self_attn.k_proj.qweigh, is not one of this architecture",
      "model.layers.1.mlp.up_proj.weight, model.layers.1.mlp.upproj.qweight, a quantized weight",
      "model.layers.0.mlp.up_proj.weight, model.layers.9.mlp.up_proj.weight, found layer 9"
    }
  )
  void misnamedTensorIsOneLine(String name, String other, String expected) throws IOException {
    Path checkpoint = copyOf("mistral");
    rename(checkpoint, name, other);
    assertRefused(checkpoint, expected);
  }

  @Test
  void missingExpertIsNamed() throws IOException {
    Path checkpoint = copyOf("mixtral");
    rename(
      checkpoint,
      "model.layers.1.block_sparse_moe.experts.2.w3.weight",
      "model.layers.1.rotary_embxxxxxx.rotary_emb.inv_freq"
    );
    assertRefused(checkpoint, "tensor model.layers.1.block_sparse_moe.experts.2.w3.weight is missing");
  }

  @Test
  void surplusExpertIsNamed() throws IOException {
    Path checkpoint = copyOf("mixtral");
    Path config = checkpoint.resolve("config.json");
    Files.writeString(config, Files.readString(config).replace("\"num_local_experts\": 3", "\"num_local_experts\": 2"));
    assertRefused(checkpoint, "found expert 2, expected below num_local_experts 2");
  }

  @Test
  void integerWeightsAreRefused() throws IOException {
    Path checkpoint = copyOf("mistral");
    rename(checkpoint, "\"BF16\"", "\"I16\" ");
    assertRefused(checkpoint, "dtype I16, expected F32, F16, BF16 or F64");
  }

  @Test
  void directoryWithoutConfigIsRefused() {
    assertRefused(folder, "config.json: found nothing");
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '#',
    textBlock = """
    tokenizer.json # {} # model.type: found nothing, expected BPE
    tokenizer.json # [] # top level
    tokenizer.json # {"model": {"type": "Unigram", "vocab": [["a", 0]]}} # found Unigram, expected BPE
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": 0}}} # pre_tokenizer: found none
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": -1}}} # token a: found number -1
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": 99999999999}}} # token a: found number 99999999999
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": "0"}}} # expected a number
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}} # the number of a
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"a": 5000}}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}} # below vocab_size
    tokenizer.json # {"model": {"type": "BPE", "vocab": {"\\ud800": 0}}, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}} # lone surrogate
    tokenizer.json # {"model": {"type": "BPE", "merges": [["a"]]}} # two strings
    tokenizer.json # {"model": {"type": "BPE", "merges": [["a", "b", "c"]]}} # two strings
    tokenizer.json # {"model": {"type": "BPE", "merges": [1]}} # two strings
    tokenizer.json # {"model": {"type": "BPE", "vocab": {}}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[a-z]+"}, "behavior": "Isolated"}} # found split [a-z]+, expected that of llama-bpe, smaug-bpe
    tokenizer.json # {"model": {"type": "BPE", "byte_fallback": true, "vocab": {"a": 1}}, "decoder": {"type": "Sequence"}} # each number below 1 once
    tokenizer.json # {"added_tokens": [1], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "model": {"type": "BPE", "vocab": {"a": 1}}} # added_tokens[0]
    tokenizer.json # {"added_tokens": [{"content": "x", "id": -1}], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "model": {"type": "BPE", "vocab": {"a": 1}}} # token x: found number -1
    tokenizer_config.json # {"added_tokens_decoder": {"x": {"content": "y"}}} # tokenizer
    tokenizer_config.json # {"a": # not JSON
    config.json # {"architectures": # not JSON
    """
  )
  void malformedTokenizerIsOneLine(String file, String content, String expected) throws IOException {
    Path checkpoint = copyOf("mistral");
    Files.delete(checkpoint.resolve("tokenizer.model"));
    Files.writeString(checkpoint.resolve(file), content);
    assertRefused(checkpoint, expected);
  }

  @Test
  void deepNestingIsRefused() throws IOException {
    Path checkpoint = copyOf("llama3-bpe");
    Files.writeString(checkpoint.resolve("tokenizer.json"), "{\"normalizer\":" + "[".repeat(1_000_000));
    assertRefused(checkpoint, "not JSON");
  }

  @Test
  void truncatedSentencePieceModelIsRefused() throws IOException {
    Path checkpoint = copyOf("mistral");
    Path model = checkpoint.resolve("tokenizer.model");
    byte[] bytes = Files.readAllBytes(model);
    Files.write(model, java.util.Arrays.copyOf(bytes, 1000));
    assertRefused(checkpoint, "not a SentencePiece model");
    Files.write(model, new byte[0]);
    assertRefused(checkpoint, "no pieces");
    Files.writeString(model, "IQ== 0\nIg== 1\n");
    assertRefused(checkpoint, "not a SentencePiece model");
  }

  @Test
  void singleFileOpensLikeItsDirectory() throws IOException {
    Path checkpoint = Path.of("src/test/resources/checkpoints/mistral");
    try (
      Model directory = HuggingFaceModel.open(checkpoint);
      Model file = HuggingFaceModel.open(checkpoint.resolve("model.safetensors"))
    ) {
      assertEquals(directory.metadata(), file.metadata());
      assertEquals(infos(directory), infos(file));
    }
  }

  @Test
  void rowsReadOneByOneAreThoseReadTogether() throws IOException {
    for (String name : List.of("llama-yarn", "mixtral", "llama-f64-mixed")) {
      try (Model model = HuggingFaceModel.open(Path.of("src/test/resources/checkpoints").resolve(name))) {
        for (Tensor tensor : model.tensors()) {
          assertRowsAgree(tensor);
        }
      }
    }
  }

  private static void assertRowsAgree(Tensor tensor) throws IOException {
    TensorInfo info = tensor.info();
    int rows = (int) info.rows();
    int rowBytes = (int) info.rowBytes();
    int length = (int) info.rowLength();
    byte[] bytes = new byte[rows * rowBytes];
    byte[] singleBytes = new byte[rows * rowBytes];
    float[] values = new float[rows * length];
    float[] singleValues = new float[rows * length];
    tensor.readRows(0, rows, bytes, 0);
    tensor.decodeRows(0, rows, values, 0);
    for (int i = rows - 1; i >= 0; i--) {
      tensor.readRows(i, 1, singleBytes, i * rowBytes);
      tensor.decodeRows(i, 1, singleValues, i * length);
    }
    assertArrayEquals(bytes, singleBytes, info.name());
    assertArrayEquals(values, singleValues, info.name());
  }

  @Test
  void outputTypeFollowsTheReference() throws IOException {
    try (Model model = HuggingFaceModel.open(Path.of("../samples/sample"))) {
      assertEquals(OutputType.BF16, OutputType.AUTO.resolve(model));
    }
    TensorInfo matrix = new TensorInfo("blk.0.attn_q.weight", TensorType.BF16, new long[] { 64, 3 });
    assertEquals(TensorType.Q8_0, OutputType.Q8_0.typeOf(matrix));
    TensorInfo uneven = new TensorInfo("blk.0.attn_q.weight", TensorType.BF16, new long[] { 48, 3 });
    assertEquals(TensorType.F16, OutputType.Q8_0.typeOf(uneven));
    TensorInfo router = new TensorInfo("blk.0.ffn_gate_inp.weight", TensorType.BF16, new long[] { 64, 3 });
    assertEquals(TensorType.F32, OutputType.Q8_0.typeOf(router));
    TensorInfo vector = new TensorInfo("blk.0.attn_q.bias", TensorType.F32, new long[] { 64 });
    assertEquals(TensorType.F32, OutputType.F16.typeOf(vector));
    assertThrows(IllegalStateException.class, () -> OutputType.AUTO.typeOf(matrix));
    assertEquals(OutputType.Q8_0, OutputType.byName("q8_0").orElseThrow());
    assertTrue(OutputType.byName("q4_k").isEmpty());
  }

  private static List<TensorInfo> infos(Model model) {
    return model.tensors().stream().map(Tensor::info).toList();
  }

  private static void assertRefused(Path checkpoint, String expected) {
    FormatException e = assertThrows(FormatException.class, () -> HuggingFaceModel.open(checkpoint).close());
    assertTrue(e.getMessage().contains(expected), e.getMessage());
    assertEquals(1, e.getMessage().lines().count());
  }

  private Path copyOf(String name) throws IOException {
    Path source = Path.of("src/test/resources/checkpoints").resolve(name);
    Path copy = Files.createDirectories(folder.resolve(name));
    try (Stream<Path> files = Files.list(source)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
    return copy;
  }

  /** Replaces text of the header by other text of the same length. */
  private static void rename(Path checkpoint, String text, String other) throws IOException {
    assertEquals(text.length(), other.length());
    Path file = checkpoint.resolve("model.safetensors");
    String content = Files.readString(file, StandardCharsets.ISO_8859_1);
    assertTrue(content.contains(text));
    Files.writeString(file, content.replace(text, other), StandardCharsets.ISO_8859_1);
  }
}
