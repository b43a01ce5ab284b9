package dev.attar.formats.architecture;

import static dev.attar.formats.architecture.TensorRule.Dimension.EMBEDDING;
import static dev.attar.formats.architecture.TensorRule.Dimension.KEY_VALUE;
import static dev.attar.formats.architecture.TensorRule.Dimension.QUERY;
import static dev.attar.formats.architecture.TensorRule.perLayer;

import dev.attar.formats.tokenizer.Tokenizer;
import java.util.List;

/** Qwen 2 and 2.5: queries, keys and values have biases. */
final class Qwen2Architecture extends Architecture {

  private static final List<TensorRule> ATTENTION = List.of(
    perLayer("input_layernorm.weight", "attn_norm.weight", EMBEDDING),
    perLayer("self_attn.q_proj.weight", "attn_q.weight", QUERY, EMBEDDING),
    perLayer("self_attn.q_proj.bias", "attn_q.bias", QUERY),
    perLayer("self_attn.k_proj.weight", "attn_k.weight", KEY_VALUE, EMBEDDING),
    perLayer("self_attn.k_proj.bias", "attn_k.bias", KEY_VALUE),
    perLayer("self_attn.v_proj.weight", "attn_v.weight", KEY_VALUE, EMBEDDING),
    perLayer("self_attn.v_proj.bias", "attn_v.bias", KEY_VALUE),
    perLayer("self_attn.o_proj.weight", "attn_output.weight", EMBEDDING, QUERY),
    perLayer("post_attention_layernorm.weight", "ffn_norm.weight", EMBEDDING)
  );

  Qwen2Architecture() {
    super("qwen2", "Qwen2ForCausalLM");
  }

  @Override
  HyperParameters.Defaults defaults() {
    return new HyperParameters.Defaults(32, 0, false, 32_768, 1e-6, 10_000);
  }

  @Override
  List<TensorRule> tensors() {
    return LlamaArchitecture.concat(LlamaArchitecture.ENDS, ATTENTION, LlamaArchitecture.FEED_FORWARD_NETWORK);
  }

  @Override
  Tokenizer.Family tokenizer() {
    return Tokenizer.Family.QWEN;
  }
}
