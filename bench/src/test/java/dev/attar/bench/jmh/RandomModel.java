package dev.attar.bench.jmh;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * Writes a Llama-shaped BF16 GGUF with normally distributed random weights, for timing: with 16 layers and no vocabulary, 501 million
 * parameters in 1.0 GB.
 */
public final class RandomModel {

  private static final int WIDTH = 1536;
  private static final int FFN = 4096;
  private static final int HEADS = 12;
  private static final int KV_HEADS = 4;
  private static final int VOCABULARY = 32_000;
  private static final int BAND_BYTES = 1 << 20;

  private RandomModel() {}

  /**
   * @param args output file, number of layers, and a model whose vocabulary it gets, if it is to read texts
   */
  public static void main(String[] args) throws IOException {
    if (args.length != 2 && args.length != 3) {
      System.err.println("usage: RandomModel OUT.gguf LAYERS [MODEL.gguf]");
      System.exit(2);
    }
    Map<String, MetadataValue> vocabulary = new LinkedHashMap<>();
    if (args.length == 2) {
      vocabulary.put("llama.vocab_size", MetadataValue.uint32(VOCABULARY));
      vocabulary.put("tokenizer.ggml.model", MetadataValue.string("no_vocab"));
    } else {
      try (GgufModel model = GgufModel.open(Path.of(args[2]))) {
        model
          .metadata()
          .values()
          .forEach((key, value) -> {
            if (key.startsWith("tokenizer.") || key.equals("llama.vocab_size")) {
              vocabulary.put(key, value);
            }
          });
      }
    }
    write(Path.of(args[0]), Integer.parseInt(args[1]), vocabulary);
  }

  private static void write(Path out, int layers, Map<String, MetadataValue> vocabulary) throws IOException {
    Metadata metadata = metadata(layers, vocabulary);
    List<TensorInfo> tensors = tensors(layers, metadata.integer("llama.vocab_size").orElseThrow());
    SplittableRandom random = new SplittableRandom(1);
    try (GgufWriter writer = GgufWriter.create(out, metadata, tensors, true)) {
      byte[] band = new byte[BAND_BYTES];
      for (int i = 0; i < tensors.size(); i++) {
        long bytes = tensors.get(i).bytes();
        for (long at = 0; at < bytes; at += BAND_BYTES) {
          int length = (int) Math.min(BAND_BYTES, bytes - at);
          fill(tensors.get(i).type(), random, band, length);
          writer.write(i, at, band, 0, length);
        }
      }
      writer.commit();
    }
  }

  private static Metadata metadata(int layers, Map<String, MetadataValue> vocabulary) {
    Map<String, MetadataValue> values = new LinkedHashMap<>();
    values.put("general.architecture", MetadataValue.string("llama"));
    values.put("general.name", MetadataValue.string("Random " + layers));
    values.put("llama.block_count", MetadataValue.uint32(layers));
    values.put("llama.context_length", MetadataValue.uint32(2048));
    values.put("llama.embedding_length", MetadataValue.uint32(WIDTH));
    values.put("llama.feed_forward_length", MetadataValue.uint32(FFN));
    values.put("llama.attention.head_count", MetadataValue.uint32(HEADS));
    values.put("llama.attention.head_count_kv", MetadataValue.uint32(KV_HEADS));
    values.put("llama.attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f));
    values.put("llama.rope.dimension_count", MetadataValue.uint32(WIDTH / HEADS));
    values.put("general.file_type", MetadataValue.uint32(32));
    values.putAll(vocabulary);
    return Metadata.of(values);
  }

  private static List<TensorInfo> tensors(int layers, long vocabulary) {
    int kv = (WIDTH / HEADS) * KV_HEADS;
    List<TensorInfo> tensors = new ArrayList<>();
    tensors.add(matrix("token_embd", WIDTH, vocabulary));
    tensors.add(norm("output_norm"));
    tensors.add(matrix("output", WIDTH, vocabulary));
    for (int i = 0; i < layers; i++) {
      String block = "blk." + i + ".";
      tensors.add(norm(block + "attn_norm"));
      tensors.add(matrix(block + "attn_q", WIDTH, WIDTH));
      tensors.add(matrix(block + "attn_k", WIDTH, kv));
      tensors.add(matrix(block + "attn_v", WIDTH, kv));
      tensors.add(matrix(block + "attn_output", WIDTH, WIDTH));
      tensors.add(norm(block + "ffn_norm"));
      tensors.add(matrix(block + "ffn_gate", WIDTH, FFN));
      tensors.add(matrix(block + "ffn_up", WIDTH, FFN));
      tensors.add(matrix(block + "ffn_down", FFN, WIDTH));
    }
    return tensors;
  }

  private static TensorInfo matrix(String name, long rowLength, long rows) {
    return new TensorInfo(name + ".weight", TensorType.BF16, new long[] { rowLength, rows });
  }

  private static TensorInfo norm(String name) {
    return new TensorInfo(name + ".weight", TensorType.F32, new long[] { WIDTH });
  }

  /** Normal values of standard deviation 0.02, by the sum of the four 16-bit parts of a random long. */
  private static void fill(TensorType type, SplittableRandom random, byte[] out, int length) {
    int size = type.blockBytes();
    for (int at = 0; at + size <= length; at += size) {
      long bits = random.nextLong();
      long sum = (short) bits + (short) (bits >> 16) + (short) (bits >> 32) + (short) (bits >> 48);
      int value = Float.floatToRawIntBits(sum * (0.02f / 37_837f));
      for (int i = 0; i < size; i++) {
        out[at + i] = (byte) (value >> (8 * (4 - size + i)));
      }
    }
  }
}
