package dev.attar.formats.architecture;

import static dev.attar.formats.architecture.TensorRule.Dimension.EMBEDDING;
import static dev.attar.formats.architecture.TensorRule.Dimension.FEED_FORWARD;
import static dev.attar.formats.architecture.TensorRule.Dimension.KEY_VALUE;
import static dev.attar.formats.architecture.TensorRule.Dimension.QUERY;
import static dev.attar.formats.architecture.TensorRule.Dimension.VOCABULARY;
import static dev.attar.formats.architecture.TensorRule.perLayer;
import static dev.attar.formats.architecture.TensorRule.tensor;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.tokenizer.Tokenizer;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Llama 1, 2 and 3. */
class LlamaArchitecture extends Architecture {

  /** What all decoders here have outside their layers. */
  static final List<TensorRule> ENDS = List.of(
    tensor("model.embed_tokens.weight", "token_embd.weight", VOCABULARY, EMBEDDING),
    tensor("model.norm.weight", "output_norm.weight", EMBEDDING),
    tensor("lm_head.weight", "output.weight", VOCABULARY, EMBEDDING).requiredIf(h -> !h.tied())
  );

  static final List<TensorRule> ATTENTION = List.of(
    perLayer("input_layernorm.weight", "attn_norm.weight", EMBEDDING),
    perLayer("self_attn.q_proj.weight", "attn_q.weight", QUERY, EMBEDDING).interleaved(),
    perLayer("self_attn.k_proj.weight", "attn_k.weight", KEY_VALUE, EMBEDDING).interleaved(),
    perLayer("self_attn.v_proj.weight", "attn_v.weight", KEY_VALUE, EMBEDDING),
    perLayer("self_attn.o_proj.weight", "attn_output.weight", EMBEDDING, QUERY),
    perLayer("self_attn.q_proj.bias", "attn_q.bias", QUERY).interleaved().requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.k_proj.bias", "attn_k.bias", KEY_VALUE)
      .interleaved()
      .requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.v_proj.bias", "attn_v.bias", KEY_VALUE).requiredIf(HyperParameters::attentionBias),
    perLayer("self_attn.o_proj.bias", "attn_output.bias", EMBEDDING).requiredIf(HyperParameters::attentionBias),
    perLayer("post_attention_layernorm.weight", "ffn_norm.weight", EMBEDDING)
  );

  static final List<TensorRule> FEED_FORWARD_NETWORK = List.of(
    perLayer("mlp.gate_proj.weight", "ffn_gate.weight", FEED_FORWARD, EMBEDDING),
    perLayer("mlp.up_proj.weight", "ffn_up.weight", FEED_FORWARD, EMBEDDING),
    perLayer("mlp.down_proj.weight", "ffn_down.weight", EMBEDDING, FEED_FORWARD)
  );

  private static final List<TensorRule> FEED_FORWARD_BIASES = List.of(
    perLayer("mlp.gate_proj.bias", "ffn_gate.bias", FEED_FORWARD).requiredIf(HyperParameters::feedForwardBias),
    perLayer("mlp.up_proj.bias", "ffn_up.bias", FEED_FORWARD).requiredIf(HyperParameters::feedForwardBias),
    perLayer("mlp.down_proj.bias", "ffn_down.bias", EMBEDDING).requiredIf(HyperParameters::feedForwardBias)
  );

  LlamaArchitecture() {
    this("LlamaForCausalLM", "LLaMAForCausalLM");
  }

  /** A family with Llama's graph and other defaults. */
  LlamaArchitecture(String... names) {
    super("llama", names);
  }

  @Override
  HyperParameters.Defaults defaults() {
    return new HyperParameters.Defaults(0, 0, true, 2048, 1e-6, 10_000);
  }

  @Override
  List<TensorRule> tensors() {
    return concat(ENDS, ATTENTION, FEED_FORWARD_NETWORK, FEED_FORWARD_BIASES);
  }

  @Override
  Tokenizer.Family tokenizer() {
    return Tokenizer.Family.LLAMA;
  }

  @Override
  void writeMetadata(HyperParameters h, Map<String, MetadataValue> out) {
    out.put("llama.vocab_size", MetadataValue.uint32(h.vocabulary()));
    out.put("llama.rope.dimension_count", MetadataValue.uint32(h.headSize()));
  }

  @SafeVarargs
  static List<TensorRule> concat(List<TensorRule>... parts) {
    return Stream.of(parts).flatMap(List::stream).toList();
  }
}
