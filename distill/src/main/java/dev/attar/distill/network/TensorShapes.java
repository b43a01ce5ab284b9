package dev.attar.distill.network;

import java.util.LinkedHashMap;
import java.util.Map;

/** Which tensors a student of a shape has, by GGUF's names. */
final class TensorShapes {

  static final String EMBEDDING = "token_embd.weight";
  static final String OUTPUT_NORM = "output_norm.weight";
  static final String OUTPUT = "output.weight";

  /** Divisors of the rotary frequencies: not trained. */
  static final String FREQUENCIES = "rope_freqs.weight";

  /** Linear layers of a block, in the order of the computation. */
  static final String QUERY = "attn_q";

  static final String KEY = "attn_k";
  static final String VALUE = "attn_v";
  static final String ATTENTION_OUTPUT = "attn_output";
  static final String GATE = "ffn_gate";
  static final String UP = "ffn_up";
  static final String DOWN = "ffn_down";

  private TensorShapes() {}

  /**
   * A matrix, or a vector as one row.
   *
   * @param rows of results
   * @param columns of inputs
   * @param isVector whether GGUF has it with one dimension
   */
  record Size(int rows, int columns, boolean isVector) {}

  /** The name of a block's tensor. */
  static String name(int block, String part) {
    return "blk." + block + "." + part;
  }

  /** All tensors that are trained, in the order of the computation. */
  static Map<String, Size> of(Shape shape) {
    Map<String, Size> all = new LinkedHashMap<>();
    all.put(EMBEDDING, new Size(shape.vocabulary(), shape.embedding(), false));
    for (int block = 0; block < shape.blocks(); block++) {
      addBlock(shape, block, all);
    }
    all.put(OUTPUT_NORM, vector(shape.embedding()));
    if (!shape.tied()) {
      all.put(OUTPUT, new Size(shape.vocabulary(), shape.embedding(), false));
    }
    return all;
  }

  private static void addBlock(Shape shape, int block, Map<String, Size> to) {
    int d = shape.embedding();
    int queries = shape.heads() * shape.size();
    int keys = shape.groups() * shape.size();
    to.put(name(block, "attn_norm.weight"), vector(d));
    addLinear(shape, block, QUERY, queries, d, to);
    addLinear(shape, block, KEY, keys, d, to);
    addLinear(shape, block, VALUE, keys, d, to);
    if (shape.normalized()) {
      to.put(name(block, "attn_q_norm.weight"), vector(shape.size()));
      to.put(name(block, "attn_k_norm.weight"), vector(shape.size()));
    }
    addLinear(shape, block, ATTENTION_OUTPUT, d, queries, to);
    to.put(name(block, "ffn_norm.weight"), vector(d));
    addLinear(shape, block, GATE, shape.feedForward(), d, to);
    addLinear(shape, block, UP, shape.feedForward(), d, to);
    addLinear(shape, block, DOWN, d, shape.feedForward(), to);
  }

  private static void addLinear(Shape shape, int block, String layer, int rows, int columns, Map<String, Size> to) {
    to.put(name(block, layer + ".weight"), new Size(rows, columns, false));
    if (shape.biases().contains(layer)) {
      to.put(name(block, layer + ".bias"), vector(rows));
    }
  }

  private static Size vector(int length) {
    return new Size(1, length, true);
  }
}
