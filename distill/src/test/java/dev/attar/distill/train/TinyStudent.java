package dev.attar.distill.train;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/** A student of two blocks with fresh weights. */
final class TinyStudent {

  static final int VOCABULARY = 64;
  static final int WIDTH = 32;
  static final int BLOCKS = 2;

  private final SplittableRandom random = new SplittableRandom(5);
  private final List<Tensor> tensors = new ArrayList<>();

  private TinyStudent() {}

  static MemoryModel model() {
    return new TinyStudent().make();
  }

  private MemoryModel make() {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string("llama"));
    number(metadata, "block_count", BLOCKS);
    number(metadata, "embedding_length", WIDTH);
    number(metadata, "feed_forward_length", 48);
    number(metadata, "attention.head_count", 4);
    number(metadata, "attention.head_count_kv", 2);
    metadata.put("llama.attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f));
    metadata.put("llama.rope.freq_base", MetadataValue.float32(10000));
    matrix("token_embd.weight", WIDTH, VOCABULARY);
    for (int i = 0; i < BLOCKS; i++) {
      String block = "blk." + i + ".";
      ones(block + "attn_norm.weight");
      matrix(block + "attn_q.weight", WIDTH, WIDTH);
      matrix(block + "attn_k.weight", WIDTH, WIDTH / 2);
      matrix(block + "attn_v.weight", WIDTH, WIDTH / 2);
      matrix(block + "attn_output.weight", WIDTH, WIDTH);
      ones(block + "ffn_norm.weight");
      matrix(block + "ffn_gate.weight", WIDTH, 48);
      matrix(block + "ffn_up.weight", WIDTH, 48);
      matrix(block + "ffn_down.weight", 48, WIDTH);
    }
    ones("output_norm.weight");
    return new MemoryModel(Metadata.of(metadata), tensors);
  }

  private static void number(Map<String, MetadataValue> metadata, String key, long value) {
    metadata.put("llama." + key, MetadataValue.uint32(value));
  }

  private void matrix(String name, int columns, int rows) {
    float[] values = new float[rows * columns];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) (0.15 * random.nextGaussian());
    }
    tensors.add(MemoryModel.tensor(new TensorInfo(name, TensorType.F32, new long[] { columns, rows }), values));
  }

  private void ones(String name) {
    float[] values = new float[WIDTH];
    Arrays.fill(values, 1);
    tensors.add(MemoryModel.tensor(new TensorInfo(name, TensorType.F32, new long[] { WIDTH }), values));
  }
}
