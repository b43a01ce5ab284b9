package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class SpeedPredictionTest {

  private static final Metadata LLAMA = Metadata.of(Map.of("general.architecture", MetadataValue.string("llama")));
  private static final int PROMPT = 512;
  private static final int GENERATED = 128;

  /** Two layers of width 64, counted by hand. */
  @Test
  void countsWhatLlamaCppComputes() {
    SpeedPrediction.Work work = SpeedPrediction.Work.of(LLAMA, model(96, 32));
    double attention = 64 * 64 + 2 * 64 * 32 + 64 * 64;
    double scores = 64.0 * PROMPT; // half of the prompt, for queries with keys and for weights with values
    double network = 3 * 64 * 96;
    double operations = PROMPT * (2 * (attention + scores) + network) + network + 64 * 1000;
    assertEquals(operations, work.operations());
    // Q8_0 takes 34 bytes for 32 values, keys and values 2 bytes each; the vector is in single precision.
    double matrices = ((2 * (attention + network) + 64 * 1000) * 34) / 32;
    double cache = 2 * (2 * 32 * 2) * (GENERATED / 2.0);
    assertEquals(matrices + 64 * 4 + cache, work.bytes());
  }

  @Test
  void aTiedEmbeddingIsReadAsTheHead() {
    List<TensorInfo> tied = new ArrayList<>(model(96, 32));
    tied.removeIf(tensor -> tensor.name().equals("output.weight"));
    SpeedPrediction.Work own = SpeedPrediction.Work.of(LLAMA, model(96, 32));
    assertEquals(own, SpeedPrediction.Work.of(LLAMA, tied));
  }

  @Test
  void ofExpertsThoseThatAreUsedCount() {
    Metadata mixture = LLAMA.with("llama.expert_count", MetadataValue.uint32(8)).with(
      "llama.expert_used_count",
      MetadataValue.uint32(2)
    );
    List<TensorInfo> experts = List.of(
      new TensorInfo("blk.0.ffn_up_exps.weight", TensorType.F16, new long[] { 64, 32, 8 }),
      new TensorInfo("blk.1.attn_q.weight", TensorType.F16, new long[] { 64, 64 })
    );
    SpeedPrediction.Work work = SpeedPrediction.Work.of(mixture, experts);
    assertEquals(PROMPT * (2.0 * 64 * 32 + 64 * 64), work.operations());
    assertEquals(2 * (2.0 * 64 * 32 + 64 * 64), work.bytes());
  }

  @Test
  void lessWorkIsFaster() {
    SpeedPrediction.Work whole = SpeedPrediction.Work.of(LLAMA, model(96, 32));
    SpeedPrediction.Work pruned = SpeedPrediction.Work.of(LLAMA, model(64, 32));
    SpeedPrediction predicted = SpeedPrediction.of(whole, pruned);
    assertEquals(whole.operations() / pruned.operations(), predicted.prompt());
    assertEquals(whole.bytes() / pruned.bytes(), predicted.generation());
    assertEquals(new SpeedPrediction(1, 1), SpeedPrediction.of(whole, whole));
  }

  private static List<TensorInfo> model(int neurons, int keys) {
    List<TensorInfo> tensors = new ArrayList<>();
    tensors.add(matrix("token_embd", 64, 1000));
    tensors.add(matrix("output", 64, 1000));
    tensors.add(new TensorInfo("output_norm.weight", TensorType.F32, new long[] { 64 }));
    for (String layer : List.of("blk.0.", "blk.1.")) {
      tensors.add(matrix(layer + "attn_q", 64, 64));
      tensors.add(matrix(layer + "attn_k", 64, keys));
      tensors.add(matrix(layer + "attn_v", 64, keys));
      tensors.add(matrix(layer + "attn_output", 64, 64));
      tensors.add(matrix(layer + "ffn_gate", 64, neurons));
      tensors.add(matrix(layer + "ffn_up", 64, neurons));
      tensors.add(matrix(layer + "ffn_down", neurons, 64));
    }
    return tensors;
  }

  private static TensorInfo matrix(String name, int columns, int rows) {
    return new TensorInfo(name + ".weight", TensorType.Q8_0, new long[] { columns, rows });
  }
}
