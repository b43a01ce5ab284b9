package dev.attar.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ModelFactsTest {

  @TempDir
  Path folder;

  private Path write(String name, Map<String, MetadataValue> metadata, TensorInfo... tensors) throws IOException {
    Path file = folder.resolve(name);
    try (GgufWriter writer = GgufWriter.create(file, Metadata.of(metadata), List.of(tensors), false)) {
      for (int i = 0; i < tensors.length; i++) {
        int bytes = (int) tensors[i].bytes();
        writer.write(i, 0, new byte[bytes], 0, bytes);
      }
      writer.commit();
    }
    return file;
  }

  private static TensorInfo tensor(String name, TensorType type, long... shape) {
    return new TensorInfo(name, type, shape);
  }

  private static ModelFacts facts(Path file, Path... adapters) throws IOException {
    try (Model model = Models.open(file)) {
      return ModelFacts.of(model, List.of(adapters));
    }
  }

  @Test
  void ofTheSample() throws IOException {
    Path sample = Path.of("../samples/sample");
    ModelFacts facts = facts(sample);
    assertEquals("llama", facts.architecture());
    assertEquals(Files.size(sample.resolve("model.safetensors")), facts.bytes());
    assertEquals(3_410_176, facts.parameters());
    // Matrices stay in BF16; the 9 norms of 256 values are presented in single precision.
    assertEquals((8.0 * (2 * 3_410_176 + 2 * 9 * 256)) / 3_410_176, facts.bitsPerWeight());
    assertEquals(4, facts.layers());
    assertEquals(1024, facts.context());
    assertEquals(List.of("BF16", "F32"), List.copyOf(facts.types().keySet()));
    assertEquals(Map.of("BF16", 29, "F32", 9), facts.types());
    assertEquals(Map.of(), facts.history());
  }

  @Test
  void ofGguf() throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("quantize.imatrix.file", MetadataValue.string("importance.gguf"));
    metadata.put("general.architecture", MetadataValue.string("qwen3"));
    metadata.put("attar.source", MetadataValue.string("a\u001b[31m\nb\u0000"));
    metadata.put("general.name", MetadataValue.string("Tiny \u0007 model"));
    metadata.put("qwen3.block_count", MetadataValue.uint32(2));
    metadata.put("llama.block_count", MetadataValue.uint32(7));
    metadata.put("qwen3.context_length", MetadataValue.uint64(40_960));
    metadata.put("general.quantization_version", MetadataValue.uint32(2));
    metadata.put("attar.seed", MetadataValue.uint64(-1));
    metadata.put("attar.layers", MetadataValue.int32s(new int[] { 1, 2, 3 }));
    metadata.put("attar.ratios", MetadataValue.float32s(new float[1000]));
    metadata.put("attar.text", MetadataValue.string("x".repeat(199) + "\ud83d\ude00" + "y".repeat(1_000_000)));
    metadata.put("quantize.imatrix.chunks_count", MetadataValue.int32(12));
    Path file = write(
      "tiny.gguf",
      metadata,
      tensor("output_norm.weight", TensorType.F32, 256),
      tensor("blk.0.attn_norm.weight", TensorType.F32, 256),
      tensor("token_embd.weight", TensorType.Q4_K, 256, 64)
    );
    ModelFacts facts = facts(file);
    assertEquals("Tiny \u0007 model", facts.title());
    assertEquals("qwen3", facts.architecture());
    assertEquals(Files.size(file), facts.bytes());
    assertEquals(2 * 256 + 64 * 256, facts.parameters());
    assertEquals((8.0 * (2 * 1024 + 64 * 144)) / (66 * 256), facts.bitsPerWeight());
    assertEquals(2, facts.layers());
    assertEquals(40_960, facts.context());
    assertEquals("{Q4_K=1, F32=2}", facts.types().toString());
    Map<String, String> history = new LinkedHashMap<>();
    history.put("attar.source", "a\u001b[31m\nb\u0000");
    history.put("attar.seed", "18446744073709551615");
    history.put("attar.layers", "[1, 2, 3]");
    history.put("attar.ratios", "float32[1000]");
    history.put("attar.text", "x".repeat(199) + "…");
    history.put("quantize.imatrix.file", "importance.gguf");
    history.put("quantize.imatrix.chunks_count", "12");
    assertEquals(List.copyOf(history.entrySet()), List.copyOf(facts.history().entrySet()));
  }

  @Test
  void adaptersCount() throws IOException {
    Path adapter = Files.write(folder.resolve("adapter.gguf"), new byte[1000]);
    Path file = write("model.gguf", Map.of(), tensor("a", TensorType.F32, 100));
    ModelFacts facts = facts(file, adapter, adapter);
    assertEquals(Files.size(file) + 2000, facts.bytes());
    assertEquals(100, facts.parameters());
    assertEquals(32 + 160, facts.bitsPerWeight());
    Path missing = folder.resolve("missing.gguf");
    assertThrows(NoSuchFileException.class, () -> facts(file, missing));
  }

  @Test
  void allPartsOfSplitModels() throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("split.no", MetadataValue.uint32(0));
    metadata.put("split.count", MetadataValue.uint32(2));
    Path first = write("m-00001-of-00002.gguf", metadata, tensor("a", TensorType.F16, 100));
    metadata.put("split.no", MetadataValue.uint32(1));
    Path second = write("m-00002-of-00002.gguf", metadata, tensor("b", TensorType.F16, 10_000));
    ModelFacts facts = facts(first);
    assertEquals(Files.size(first) + Files.size(second), facts.bytes());
    assertEquals(10_100, facts.parameters());
    assertEquals(16, facts.bitsPerWeight());
  }

  @Test
  void nothingNeedBeThere() throws IOException {
    ModelFacts facts = facts(write("empty.gguf", Map.of("general.name", MetadataValue.string(" "))));
    assertEquals("empty.gguf", facts.title());
    assertEquals("", facts.architecture());
    assertEquals(0, facts.parameters());
    assertEquals(0, facts.bitsPerWeight());
    assertEquals(0, facts.layers());
    assertEquals(0, facts.context());
    assertTrue(facts.types().isEmpty());
    assertTrue(facts.history().isEmpty());
  }

  @Test
  void numbersThatCannotBe() throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string("x"));
    metadata.put("general.name", MetadataValue.uint32(1));
    metadata.put("x.block_count", MetadataValue.uint32(0xFFFF_FFFFL));
    metadata.put("x.context_length", MetadataValue.uint64(-5));
    ModelFacts facts = facts(write("odd.gguf", metadata));
    assertEquals("odd.gguf", facts.title());
    assertEquals(0, facts.layers());
    assertEquals(0, facts.context());
  }
}
