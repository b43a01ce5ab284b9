package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.llama.DryRun;
import java.io.IOException;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** The types of whole models against llama.cpp's own choice. Shapes have few rows: no rule looks at their number. */
class MixtureTest {

  private static final int ROWS = 2;
  private static DryRun llama;

  @TempDir
  private Path folder;

  @BeforeAll
  static void load() throws IOException {
    llama = new DryRun();
  }

  /** Models that differ in what the rules look at. */
  enum Shape {
    LLAMA_SHARED_KEYS {
      @Override
      HeaderModel model() {
        return dense("llama", 32, 32, 8, 256, 512, true);
      }
    },
    LLAMA_70B {
      @Override
      HeaderModel model() {
        return dense("llama", 80, 64, 8, 256, 512, true);
      }
    },
    LLAMA_65B {
      @Override
      HeaderModel model() {
        return dense("llama", 80, 64, 64, 256, 512, true);
      }
    },
    LLAMA_TIED {
      @Override
      HeaderModel model() {
        return dense("llama", 17, 8, 8, 256, 768, false);
      }
    },
    QWEN2_72B {
      @Override
      HeaderModel model() {
        return dense("qwen2", 80, 64, 8, 256, 512, true);
      }
    },
    ROWS_OF_32 {
      @Override
      HeaderModel model() {
        return dense("llama", 9, 4, 4, 320, 864, true);
      }
    },
    ROWS_OF_64_TIED {
      @Override
      HeaderModel model() {
        return dense("llama", 9, 4, 4, 320, 448, false);
      }
    },
    ROWS_OF_16 {
      @Override
      HeaderModel model() {
        return dense("llama", 4, 4, 2, 80, 256, true);
      }
    },
    EXPERTS_8 {
      @Override
      HeaderModel model() {
        HeaderModel.Builder b = experts(32, 8);
        for (int i = 0; i < 32; i++) {
          for (String part : List.of("gate", "up", "down")) {
            b.tensor("blk." + i + ".ffn_" + part + "_exps.weight", TensorType.BF16, 256, ROWS, 8);
          }
        }
        return b.build();
      }
    },
    EXPERTS_8_ONE_BY_ONE {
      @Override
      HeaderModel model() {
        HeaderModel.Builder b = experts(16, 8);
        for (int i = 0; i < 16; i++) {
          for (int e = 0; e < 8; e++) {
            for (String part : List.of("gate", "up", "down")) {
              b.tensor("blk." + i + ".ffn_" + part + "." + e + ".weight", TensorType.F16, 256, ROWS);
            }
          }
        }
        return b.build();
      }
    },
    EXPERTS_4 {
      @Override
      HeaderModel model() {
        HeaderModel.Builder b = experts(20, 4);
        for (int i = 0; i < 20; i++) {
          for (String part : List.of("gate", "up", "down")) {
            b.tensor("blk." + i + ".ffn_" + part + "_exps.weight", TensorType.F16, 256, ROWS, 4);
            b.tensor("blk." + i + ".ffn_" + part + "_shexp.weight", TensorType.F16, 256, ROWS);
          }
        }
        return b.build();
      }
    },
    FALCON {
      @Override
      HeaderModel model() {
        HeaderModel.Builder b = header("falcon", 32, 71, 1, 0)
          .with("falcon.attention.layer_norm_epsilon", MetadataValue.float32(1e-5f))
          .tensor("token_embd.weight", TensorType.F16, 256, ROWS)
          .tensor("output_norm.weight", TensorType.F32, 256)
          .tensor("output.weight", TensorType.F16, 256, ROWS);
        for (int i = 0; i < 32; i++) {
          b.tensor("blk." + i + ".attn_qkv.weight", TensorType.F16, 256, ROWS);
          b.tensor("blk." + i + ".attn_output.weight", TensorType.F16, 256, ROWS);
          b.tensor("blk." + i + ".ffn_up.weight", TensorType.F16, 256, ROWS);
          b.tensor("blk." + i + ".ffn_down.weight", TensorType.F16, 512, ROWS);
        }
        return b.build();
      }
    },
    /** Names of all kinds of models, most of which stay as they are. */
    ODD_NAMES {
      @Override
      HeaderModel model() {
        HeaderModel.Builder b = header("llama", 2, 8, 2, 0)
          .tensor("token_embd.weight", TensorType.F32, 256, ROWS)
          .tensor("per_layer_token_embd.weight", TensorType.F32, 256, ROWS)
          .tensor("position_embd.weight", TensorType.F32, 256, ROWS)
          .tensor("token_types.weight", TensorType.F32, 256, ROWS)
          .tensor("per_layer_model_proj.weight", TensorType.F32, 256, ROWS)
          .tensor("altup_proj.weight", TensorType.F32, 256, ROWS, 3)
          .tensor("v.patch_embd.weight", TensorType.F32, 256, ROWS)
          .tensor("v.blk.0.attn_q.weight", TensorType.F32, 256, ROWS)
          .tensor("mm.a.code_embd.weight", TensorType.F32, 256, ROWS)
          .tensor("a.rvq.codebook.weight", TensorType.F32, 256, ROWS)
          .tensor("sam.neck.0.weight", TensorType.F32, 256, ROWS)
          .tensor("rope_freqs.weight", TensorType.F32, 256)
          .tensor("some.weight.scale", TensorType.F32, 256, ROWS)
          .tensor("bias", TensorType.F32, 256, ROWS)
          .tensor("row.weight", TensorType.F32, 256, 1)
          .tensor("cls.weight", TensorType.BF16, 256, ROWS)
          .tensor("four.weight", TensorType.BF16, 256, ROWS, 3, 1);
        for (int i = 0; i < 2; i++) {
          for (String name : ODD) {
            b.tensor("blk." + i + "." + name, TensorType.F32, 256, ROWS);
          }
        }
        return b.build();
      }
    };

    private static final List<String> ODD = List.of(
      "attn_kv_b.weight",
      "attn_k_b.weight",
      "attn_v_b.weight",
      "attn_q_a.weight",
      "attn_q_norm.weight",
      "attn_rel_b.weight",
      "attn_qkv.weight",
      "attn_sinks.weight",
      "ffn_gate_inp.weight",
      "ffn_gate_inp_shexp.weight",
      "ffn_gate_tid2eid.weight",
      "ffn_up_enc.weight",
      "ssm_conv1d.weight",
      "ssm_in.weight",
      "shortconv.conv.weight",
      "shortconv.in_proj.weight",
      "indexer.k_proj.weight",
      "indexer.q_proj.weight",
      "indexer.proj.weight",
      "laurel_l.weight",
      "time_mix_first.weight",
      "time_mix_w1.weight",
      "time_mix_g2.weight",
      "time_mix_decay_w1.weight",
      "time_mix_lerp_fused.weight",
      "time_mix_key.weight",
      "inp_gate.weight"
    );

    abstract HeaderModel model();

    private static HeaderModel.Builder header(String arch, int layers, int heads, int keyHeads, int experts) {
      HeaderModel.Builder b = new HeaderModel.Builder(arch)
        .with(arch + ".block_count", MetadataValue.uint32(layers))
        .with(arch + ".context_length", MetadataValue.uint32(128))
        .with(arch + ".embedding_length", MetadataValue.uint32(64L * heads))
        .with(arch + ".feed_forward_length", MetadataValue.uint32(512))
        .with(arch + ".attention.head_count", MetadataValue.uint32(heads))
        .with(arch + ".attention.head_count_kv", MetadataValue.uint32(keyHeads))
        .with(arch + ".attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f))
        .with(arch + ".vocab_size", MetadataValue.uint32(ROWS));
      if (experts > 0) {
        b.with(arch + ".expert_count", MetadataValue.uint32(experts));
        b.with(arch + ".expert_used_count", MetadataValue.uint32(2));
      }
      return b;
    }

    private static void attention(HeaderModel.Builder b, int layers, TensorType type, int width) {
      for (int i = 0; i < layers; i++) {
        b.tensor("blk." + i + ".attn_norm.weight", TensorType.F32, width);
        for (String part : List.of("q", "k", "v", "output")) {
          b.tensor("blk." + i + ".attn_" + part + ".weight", type, width, ROWS);
        }
        b.tensor("blk." + i + ".attn_q.bias", TensorType.F32, width);
      }
    }

    private static HeaderModel dense(
      String arch,
      int layers,
      int heads,
      int keyHeads,
      int width,
      int inner,
      boolean output
    ) {
      HeaderModel.Builder b = header(arch, layers, heads, keyHeads, 0)
        .tensor("token_embd.weight", TensorType.BF16, width, ROWS)
        .tensor("output_norm.weight", TensorType.F32, width);
      if (output) {
        b.tensor("output.weight", TensorType.BF16, width, ROWS);
      }
      attention(b, layers, TensorType.BF16, width);
      for (int i = 0; i < layers; i++) {
        b.tensor("blk." + i + ".ffn_gate.weight", TensorType.BF16, width, ROWS);
        b.tensor("blk." + i + ".ffn_up.weight", TensorType.BF16, width, ROWS);
        b.tensor("blk." + i + ".ffn_down.weight", TensorType.BF16, inner, ROWS);
      }
      return b.build();
    }

    private static HeaderModel.Builder experts(int layers, int experts) {
      HeaderModel.Builder b = header("llama", layers, 32, 8, experts)
        .tensor("token_embd.weight", TensorType.BF16, 256, ROWS)
        .tensor("output.weight", TensorType.BF16, 256, ROWS);
      attention(b, layers, TensorType.BF16, 256);
      for (int i = 0; i < layers; i++) {
        b.tensor("blk." + i + ".ffn_gate_inp.weight", TensorType.F32, 256, experts);
      }
      return b;
    }
  }

  @ParameterizedTest
  @EnumSource(Shape.class)
  void choosesAsLlama(Shape shape) throws IOException {
    HeaderModel model = shape.model();
    Path file = write(model);
    try (ImportanceMatrix importance = importance(model)) {
      for (FileType type : EnumSet.complementOf(EnumSet.of(FileType.COPY))) {
        QuantizeOptions plain = QuantizeOptions.of(type);
        check(model, file, type, plain, _ -> {});
        check(model, file, type, plain.withPure(true), p -> p.set("pure", true));
        check(model, file, type, plain.withImportance(importance, "i"), DryRun.Params::importance);
      }
    }
  }

  @ParameterizedTest
  @EnumSource(value = Shape.class, names = { "LLAMA_TIED", "ROWS_OF_32", "EXPERTS_4", "ODD_NAMES" })
  void followsWishesAsLlama(Shape shape) throws IOException {
    HeaderModel model = shape.model();
    Path file = write(model);
    for (FileType type : List.of(FileType.Q4_K_M, FileType.Q8_0, FileType.F16, FileType.Q2_K, FileType.MXFP4_MOE)) {
      QuantizeOptions plain = QuantizeOptions.of(type);
      check(model, file, type, plain.withLeaveOutputTensor(true), p -> p.set("quantize_output_tensor", false));
      check(model, file, type, plain.withOutputTensorType(TensorType.Q5_1), p ->
        p.set("output_tensor_type", TensorType.Q5_1.id())
      );
      check(model, file, type, plain.withTokenEmbeddingType(TensorType.IQ4_NL), p ->
        p.set("token_embedding_type", TensorType.IQ4_NL.id())
      );
      check(
        model,
        file,
        type,
        plain.withPure(true).withTokenEmbeddingType(TensorType.F16).withOutputTensorType(TensorType.F32),
        p ->
          p
            .set("pure", true)
            .set("token_embedding_type", TensorType.F16.id())
            .set("output_tensor_type", TensorType.F32.id())
      );
      for (String pattern : List.of(
        "attn_v",
        "blk\\.[0-3]\\.ffn_(up|gate)",
        "^token_embd",
        "per_layer_token_embd",
        "blk.(?:1|2).*weight$",
        "[[:digit:]]{2}\\.ffn_down",
        "[^a-z]1[.]attn_[qk]\\.",
        "\\bffn_down\\b|attn_k"
      )) {
        Map<String, Integer> types = new LinkedHashMap<>();
        types.put(pattern, TensorType.Q6_K.id());
        types.put("attn|ffn_d", TensorType.Q5_0.id());
        List<TensorTypeRule> rules = List.of(
          TensorTypeRule.parse(pattern + "=q6_K"),
          TensorTypeRule.parse("ATTN|ffn_d=Q5_0")
        );
        check(model, file, type, plain.withTensorTypes(rules), p -> p.tensorTypes(types));
        check(model, file, type, plain.withTensorTypes(rules).withTokenEmbeddingType(TensorType.Q4_1), p ->
          p.tensorTypes(types).set("token_embedding_type", TensorType.Q4_1.id())
        );
      }
    }
  }

  @Test
  void needsALayerNumberWithExperts() throws IOException {
    HeaderModel model = Shape.header("llama", 2, 8, 8, 8).tensor("x.ffn_down.weight", TensorType.F16, 256, 2).build();
    QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_K_M));
    assertTrue(plan.problems().getFirst().contains("no layer number below 2"), plan.problems().toString());
    assertTrue(llama.run(write(model), FileType.Q4_K_M.id(), _ -> {}).failed());
  }

  private void check(HeaderModel model, Path file, FileType type, QuantizeOptions options, DryRun.Wishes wishes) {
    Supplier<String> what = () -> type + " " + options;
    DryRun.Result theirs = llama.run(file, type.id(), wishes);
    QuantizationPlan ours = QuantizationPlan.quantize(model, options);
    boolean noFallback = ours
      .problems()
      .stream()
      .anyMatch(p -> p.contains("no fallback"));
    assertEquals(theirs.failed(), noFallback, () -> what.get() + theirs.log());
    if (theirs.failed()) {
      return;
    }
    Map<String, String> types = new LinkedHashMap<>();
    for (TensorPlan tensor : ours.tensors()) {
      types.put(tensor.name(), tensor.target().name().toLowerCase(Locale.ROOT));
    }
    Map<String, String> expected = new LinkedHashMap<>();
    theirs.types().forEach((name, t) -> expected.put(name, t.toLowerCase(Locale.ROOT)));
    assertEquals(model.tensors().size(), expected.size(), theirs::log);
    assertEquals(List.copyOf(expected.entrySet()), List.copyOf(types.entrySet()), what);
    assertEquals(
      theirs.requiresImportance(),
      ours
        .problems()
        .stream()
        .anyMatch(p -> p.contains("requires an importance matrix") && !isHead(p)),
      what
    );
  }

  /** Whether a problem is about embeddings or the output, of which llama-quantize does not warn: it aborts when it gets there. */
  private static boolean isHead(String problem) {
    return Stream.of("token_embd.weight:", "per_layer_token_embd.weight:", "output.weight:").anyMatch(
      problem::startsWith
    );
  }

  private Path write(HeaderModel model) throws IOException {
    Path file = folder.resolve("model.gguf");
    List<TensorInfo> infos = model.tensors().stream().map(Tensor::info).toList();
    try (GgufWriter writer = GgufWriter.create(file, model.metadata(), infos, true)) {
      for (int i = 0; i < infos.size(); i++) {
        writer.write(i, 0, new byte[(int) infos.get(i).bytes()], 0, (int) infos.get(i).bytes());
      }
      writer.commit();
    }
    return file;
  }

  private ImportanceMatrix importance(HeaderModel model) throws IOException {
    Map<String, float[]> weights = new LinkedHashMap<>();
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      weights.put(info.name(), new float[(int) (info.rowLength() * info.dimension(2))]);
    }
    return ImportanceMatrix.open(TestModels.write(folder.resolve("imatrix.dat"), weights));
  }
}
