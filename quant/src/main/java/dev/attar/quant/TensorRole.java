package dev.attar.quant;

import java.util.List;
import java.util.Map;

/** What a tensor does in the network, as far as the choice of its type depends on it. */
public enum TensorRole {
  OUTPUT,
  TOKEN_EMBEDDING,
  ATTENTION_QKV,
  ATTENTION_KV_B,
  ATTENTION_V,
  ATTENTION_K,
  ATTENTION_Q,
  ATTENTION_OUTPUT,
  FFN_UP,
  FFN_GATE,
  FFN_DOWN,
  OTHER;

  /** Parts of names, the first match counts. Experts' tensors ({@code ffn_up_exps}) have the role of the plain ones. */
  private static final List<Map.Entry<String, TensorRole>> PARTS = List.of(
    Map.entry("attn_qkv.weight", ATTENTION_QKV),
    Map.entry("attn_kv_b.weight", ATTENTION_KV_B),
    Map.entry("attn_v.weight", ATTENTION_V),
    Map.entry("attn_k.weight", ATTENTION_K),
    Map.entry("attn_q.weight", ATTENTION_Q),
    Map.entry("attn_output.weight", ATTENTION_OUTPUT),
    Map.entry("ffn_up", FFN_UP),
    Map.entry("ffn_gate", FFN_GATE),
    Map.entry("ffn_down", FFN_DOWN)
  );

  /** The role of the tensor with this GGUF name. */
  public static TensorRole of(String name) {
    return switch (name) {
      case "output.weight" -> OUTPUT;
      case "token_embd.weight", "per_layer_token_embd.weight" -> TOKEN_EMBEDDING;
      default -> PARTS.stream()
        .filter(part -> name.contains(part.getKey()))
        .map(Map.Entry::getValue)
        .findFirst()
        .orElse(OTHER);
    };
  }

  /** Whether the tensor yields the attention's values, which suffer most from coarse types. */
  boolean yieldsValues() {
    return this == ATTENTION_V || this == ATTENTION_QKV || this == ATTENTION_KV_B;
  }
}
