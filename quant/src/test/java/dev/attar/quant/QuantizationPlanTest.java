package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class QuantizationPlanTest {

  @TempDir
  private Path folder;

  private static HeaderModel.Builder builder() {
    return new HeaderModel.Builder("llama")
      .with("llama.block_count", MetadataValue.uint32(10))
      .with("llama.attention.head_count", MetadataValue.uint32(4));
  }

  @Test
  void putsTensorsInTheOrderOfLlamaQuantize() {
    HeaderModel.Builder model = builder();
    List<String> names = List.of(
      "blk.10.attn_q.weight",
      "blk.9.ffn_up.weight",
      "token_embd.weight",
      "blk.9.attn_q.weight",
      "output.weight",
      "blk.0.attn_q.weight",
      "output_norm.weight"
    );
    names.forEach(name -> model.tensor(name, TensorType.BF16, 256, 2));
    QuantizationPlan plan = QuantizationPlan.quantize(model.build(), QuantizeOptions.of(FileType.Q8_0));
    assertEquals(
      List.of(
        "output.weight",
        "output_norm.weight",
        "token_embd.weight",
        "blk.0.attn_q.weight",
        "blk.9.attn_q.weight",
        "blk.9.ffn_up.weight",
        "blk.10.attn_q.weight"
      ),
      plan.tensors().stream().map(TensorPlan::name).toList()
    );
  }

  @Test
  void countsBytes() {
    HeaderModel model = builder()
      .tensor("output_norm.weight", TensorType.F32, 256)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 100)
      .build();
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_K_S));
    assertEquals(256 + 25_600, plan.elements());
    assertEquals(1024 + 51_200, plan.bytesBefore());
    assertEquals(1024 + 14_400, plan.bytesAfter());
    assertEquals((8.0 * 15_424) / 25_856, plan.bitsPerWeight());
    assertTrue(plan.fileBytes() > plan.bytesAfter());
    assertEquals(Set.of(), plan.libraryTypes());
    assertEquals(
      Set.of(TensorType.TQ2_0),
      QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.TQ2_0)).libraryTypes()
    );
  }

  @Test
  void writesMetadataAsLlamaQuantizeAndItsOwn() throws IOException {
    HeaderModel model = builder()
      .with("general.file_type", MetadataValue.uint32(32))
      .with("split.no", MetadataValue.uint32(0))
      .with("split.count", MetadataValue.uint32(2))
      .with("split.tensors.count", MetadataValue.uint32(2))
      .with("attar.quantize.pure", MetadataValue.bool(true))
      .with("attar.prune.method", MetadataValue.string("wanda"))
      .with("tokenizer.ggml.model", MetadataValue.string("llama"))
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 100)
      .build();
    Path file = TestModels.write(folder.resolve("imatrix.dat"), Map.of("blk.0.attn_q.weight", new float[256]));
    try (ImportanceMatrix importance = ImportanceMatrix.open(file)) {
      QuantizationPlan plan = QuantizationPlan.quantize(
        model,
        QuantizeOptions.of(FileType.Q4_K_M)
          .withImportance(importance, "i".repeat(200))
          .withTensorTypes(List.of(TensorTypeRule.parse("attn_v=q8_0")))
          .withOutputTensorType(TensorType.Q6_K)
          .withTokenEmbeddingType(TensorType.Q4_0)
      );
      Map<String, MetadataValue> values = plan.metadata().values();
      assertEquals(
        List.of(
          "general.architecture",
          "llama.block_count",
          "llama.attention.head_count",
          "attar.prune.method",
          "tokenizer.ggml.model",
          "general.quantization_version",
          "general.file_type",
          "quantize.imatrix.file",
          "quantize.imatrix.entries_count",
          "attar.version",
          "attar.source",
          "attar.method",
          "attar.quantize.type",
          "attar.quantize.tensor_types",
          "attar.quantize.output_tensor_type",
          "attar.quantize.token_embedding_type"
        ),
        new ArrayList<>(values.keySet())
      );
      assertEquals(MetadataValue.uint32(15), values.get("general.file_type"));
      assertEquals(MetadataValue.string("i".repeat(127)), values.get("quantize.imatrix.file"));
      assertEquals(MetadataValue.string("Q4_K_M"), values.get("attar.quantize.type"));
      assertEquals(MetadataValue.string("model.gguf"), values.get("attar.source"));
      assertTrue(plan.tensors().getFirst().importance());
    }
  }

  @Test
  void findsImportanceOfTheWrongSize() throws IOException {
    HeaderModel model = builder()
      .tensor("token_embd.weight", TensorType.BF16, 256, 4)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 4)
      .tensor("blk.0.ffn_up_exps.weight", TensorType.BF16, 256, 4, 3)
      .build();
    Map<String, float[]> weights = Map.of(
      "token_embd.weight",
      new float[7],
      "blk.0.attn_q.weight",
      new float[512],
      "blk.0.ffn_up_exps.weight",
      new float[768]
    );
    try (ImportanceMatrix importance = ImportanceMatrix.open(TestModels.write(folder.resolve("i.dat"), weights))) {
      QuantizationPlan plan = QuantizationPlan.quantize(
        model,
        QuantizeOptions.of(FileType.Q4_K_M).withImportance(importance, "i.dat")
      );
      assertEquals(
        List.of("blk.0.attn_q.weight: 512 values of importance in " + importance.path() + ", expected 256"),
        plan.problems()
      );
      assertFalse(plan.tensors().get(0).importance());
      assertTrue(plan.tensors().get(2).importance());
    }
  }

  @Test
  void findsWhatCannotBeWritten() {
    HeaderModel model = builder()
      .tensor("token_embd.weight", TensorType.BF16, 80, 4)
      .tensor("blk.0.attn_k.weight", TensorType.I32, 256, 4)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 4)
      .tensor("blk.0.attn_v.weight", TensorType.BF16, 1L << 27, 1L << 20)
      .build();
    QuantizationPlan plan = QuantizationPlan.quantize(
      model,
      QuantizeOptions.of(FileType.Q4_0)
        .withTokenEmbeddingType(TensorType.Q4_K)
        .withTensorTypes(List.of(TensorTypeRule.parse("attn_q=q8_1")))
    );
    assertEquals(
      List.of(
        "token_embd.weight: rows of 80 values, Q4_K needs a multiple of 256",
        "blk.0.attn_k.weight: holds integers (I32), which cannot become Q4_0",
        "blk.0.attn_q.weight: Q8_1 is not a type that can be written",
        "blk.0.attn_v.weight: rows of 134217728 values, at most 8388608 are supported"
      ),
      plan.problems()
    );
    String message = assertThrows(QuantizationException.class, plan::requireNoProblems).getMessage();
    assertEquals("model.gguf: " + plan.problems().getFirst() + " (and 3 more problems)", message);
  }

  @Test
  void notesFallbacks() {
    HeaderModel model = builder()
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 288, 4)
      .tensor("blk.0.attn_v.weight", TensorType.BF16, 40, 4)
      .build();
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_K_S));
    assertEquals(TensorType.Q5_0, plan.tensors().get(0).target());
    assertEquals("rows of 288 do not fit Q4_K", plan.tensors().get(0).note());
    assertEquals(TensorType.F16, plan.tensors().get(1).target());
    assertEquals("rows of 40 do not fit Q5_K", plan.tensors().get(1).note());
  }

  @Test
  void leavesEmptyTensorsAndScalarsAlone() {
    HeaderModel model = builder()
      .tensor("a.weight", TensorType.F32, 0, 4)
      .tensor("b.weight", TensorType.F32, 1)
      .tensor("c.weight", TensorType.F32, 256, 0, 3)
      .build();
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q8_0));
    assertEquals(1, plan.elements());
  }

  @Test
  void convertsQuantizedTensorsOnlyToPlainOnes() {
    HeaderModel model = builder()
      .tensor("blk.0.attn_q.weight", TensorType.Q4_0, 256, 4)
      .tensor("blk.0.attn_k.weight", TensorType.Q8_0, 256, 4)
      .tensor("table", TensorType.I32, 256, 4)
      .build();
    assertEquals(List.of(), QuantizationPlan.convert(model, OutputType.BF16).problems());
    QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.Q8_0);
    assertEquals(List.of("blk.0.attn_q.weight: is quantized to Q4_0 already"), plan.problems());
    assertEquals(TensorType.I32, plan.tensors().get(2).target());
    assertEquals(7, plan.metadata().integer("general.file_type").orElseThrow());
  }
}
