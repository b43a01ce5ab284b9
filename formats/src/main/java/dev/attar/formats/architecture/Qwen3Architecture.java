package dev.attar.formats.architecture;

import static dev.attar.formats.architecture.TensorRule.Dimension.EMBEDDING;
import static dev.attar.formats.architecture.TensorRule.Dimension.HEAD;
import static dev.attar.formats.architecture.TensorRule.Dimension.KEY_VALUE;
import static dev.attar.formats.architecture.TensorRule.Dimension.QUERY;
import static dev.attar.formats.architecture.TensorRule.perLayer;

import dev.attar.formats.tokenizer.Tokenizer;
import java.util.List;

/** Qwen 3: queries and keys are normalized within their heads. */
final class Qwen3Architecture extends Architecture {

  private static final List<TensorRule> ATTENTION = List.of(
    perLayer("input_layernorm.weight", "attn_norm.weight", EMBEDDING),
    perLayer("self_attn.q_proj.weight", "attn_q.weight", QUERY, EMBEDDING),
    perLayer("self_attn.q_norm.weight", "attn_q_norm.weight", HEAD),
    perLayer("self_attn.k_proj.weight", "attn_k.weight", KEY_VALUE, EMBEDDING),
    perLayer("self_attn.k_norm.weight", "attn_k_norm.weight", HEAD),
    perLayer("self_attn.v_proj.weight", "attn_v.weight", KEY_VALUE, EMBEDDING),
    perLayer("self_attn.o_proj.weight", "attn_output.weight", EMBEDDING, QUERY),
    perLayer("self_attn.q_proj.bias", "attn_q.bias", QUERY).requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.k_proj.bias", "attn_k.bias", KEY_VALUE).requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.v_proj.bias", "attn_v.bias", KEY_VALUE).requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.o_proj.bias", "attn_output.bias", EMBEDDING).requiredIf(HyperParameters::attentionBias),
    perLayer("post_attention_layernorm.weight", "ffn_norm.weight", EMBEDDING)
  );

  Qwen3Architecture() {
    super("qwen3", "Qwen3ForCausalLM");
  }

  @Override
  HyperParameters.Defaults defaults() {
    return new HyperParameters.Defaults(32, 128, true, 32_768, 1e-6, 10_000);
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
