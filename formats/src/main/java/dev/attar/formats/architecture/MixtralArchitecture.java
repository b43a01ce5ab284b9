package dev.attar.formats.architecture;

import static dev.attar.formats.architecture.TensorRule.Dimension.EMBEDDING;
import static dev.attar.formats.architecture.TensorRule.Dimension.EXPERTS;
import static dev.attar.formats.architecture.TensorRule.Dimension.FEED_FORWARD;
import static dev.attar.formats.architecture.TensorRule.perLayer;

import java.util.List;

/** Mixtral: Mistral with a mixture of experts for a feed-forward network. */
final class MixtralArchitecture extends LlamaArchitecture {

  private static final String EXPERT = "block_sparse_moe.experts." + TensorRule.EXPERT;

  private static final List<TensorRule> MIXTURE = List.of(
    perLayer("block_sparse_moe.gate.weight", "ffn_gate_inp.weight", EXPERTS, EMBEDDING),
    perLayer(EXPERT + ".w1.weight", "ffn_gate_exps.weight", FEED_FORWARD, EMBEDDING).stacked(),
    perLayer(EXPERT + ".w2.weight", "ffn_down_exps.weight", EMBEDDING, FEED_FORWARD).stacked(),
    perLayer(EXPERT + ".w3.weight", "ffn_up_exps.weight", FEED_FORWARD, EMBEDDING).stacked()
  );

  MixtralArchitecture() {
    super("MixtralForCausalLM");
  }

  @Override
  HyperParameters.Defaults defaults() {
    return new HyperParameters.Defaults(8, 0, false, 131_072, 1e-5, 1_000_000);
  }

  @Override
  List<TensorRule> tensors() {
    return concat(ENDS, ATTENTION, MIXTURE);
  }
}
