package dev.attar.quant;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.List;
import java.util.Optional;

/**
 * The type of each tensor of one model: one chosen for it alone first, then the user's wishes, then the file type's {@link Mixture}, then a fallback where rows do
 * not fit. Tensors must be asked for once each, in {@link TensorOrder}.
 */
final class Recipe {

  /**
   * What a tensor becomes.
   *
   * @param type the type
   * @param wanted the type that the rules named before rows were looked at; differs from {@code type} after a fallback
   */
  record Choice(TensorType type, TensorType wanted) {}

  /** Parts of names of tensors that stay as they are: small, and either sensitive or not used in matrix products. */
  private static final List<String> KEPT = List.of(
    "_norm.weight",
    // experts: gates, and the table from tokens to experts
    "ffn_gate_inp.weight",
    "ffn_gate_tid2eid.weight",
    // Gemma 3n
    "altup",
    "laurel",
    "per_layer_model_proj",
    // short convolutions
    "ssm_conv1d",
    "shortconv.conv.weight",
    // MiniMax's indexer
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    // RWKV
    "time_mix_first.weight",
    "time_mix_w0.weight",
    "time_mix_w1.weight",
    "time_mix_w2.weight",
    "time_mix_v0.weight",
    "time_mix_v1.weight",
    "time_mix_v2.weight",
    "time_mix_a0.weight",
    "time_mix_a1.weight",
    "time_mix_a2.weight",
    "time_mix_g1.weight",
    "time_mix_g2.weight",
    "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight",
    "time_mix_lerp_fused.weight",
    // positions
    "attn_rel_b.weight",
    ".position_embd",
    // vision
    "sam.pos_embd",
    "sam.neck.",
    "sam.net_",
    ".rel_pos",
    ".patch_embd",
    ".patch_merger",
    // audio
    "a.rvq.codebook",
    "mm.a.code_embd"
  );

  private final QuantizeOptions options;
  private final Mixture mixture;

  /**
   * @param options what the user wants
   * @param model the model's numbers
   * @param tensors all tensors of the model
   */
  Recipe(QuantizeOptions options, Hyperparameters model, List<TensorInfo> tensors) {
    List<TensorRole> roles = tensors
      .stream()
      .map(t -> TensorRole.of(t.name()))
      .toList();
    this.options = options;
    this.mixture = new Mixture(
      options.fileType(),
      model,
      options.importance() != null,
      !roles.contains(TensorRole.OUTPUT),
      (int) roles.stream().filter(TensorRole::yieldsValues).count()
    );
  }

  /** Whether a tensor may get another type at all: matrices of weights, with some exceptions. */
  boolean allows(TensorInfo tensor) {
    String name = tensor.name();
    return (
      options.fileType() != FileType.COPY &&
      tensor.rank() >= 2 &&
      name.endsWith("weight") &&
      !name.equals("position_embd.weight") &&
      !name.equals("token_types.weight") &&
      !(options.leaveOutputTensor() && name.equals("output.weight")) &&
      KEPT.stream().noneMatch(name::contains)
    );
  }

  /**
   * The type of the next tensor, which must be one that is {@link #allows allowed} to change.
   *
   * @throws QuantizationException if no type can be found
   */
  Choice choose(TensorInfo tensor) throws QuantizationException {
    TensorType chosen = options.chosen() == null ? null : options.chosen().types().get(tensor.name());
    if (chosen != null) {
      return new Choice(chosen, chosen);
    }
    TensorRole role = TensorRole.of(tensor.name());
    Optional<TensorType> named = named(tensor);
    // The table of embeddings per layer is large, so a rule may name it in spite of the general option.
    boolean own = tensor.name().equals("per_layer_token_embd.weight") && named.isPresent();
    if (role == TensorRole.TOKEN_EMBEDDING && options.tokenEmbeddingType() != null && !own) {
      return new Choice(options.tokenEmbeddingType(), options.tokenEmbeddingType());
    }
    if (role == TensorRole.OUTPUT && options.outputTensorType() != null) {
      return new Choice(options.outputTensorType(), options.outputTensorType());
    }
    TensorType usual = options.fileType().defaultType();
    if (!usual.isQuantized()) {
      return new Choice(usual, usual);
    }
    TensorType wanted;
    if (named.isPresent()) {
      wanted = named.get();
    } else if (options.pure()) {
      wanted = usual;
    } else {
      wanted = mixture.choose(tensor, role, options.outputTensorType());
    }
    TensorType fitting = fitting(tensor, wanted).orElseThrow(() ->
      new QuantizationException(
        tensor.name() +
          ": rows of " +
          tensor.rowLength() +
          " values do not fit " +
          wanted +
          ", which needs a multiple of " +
          wanted.blockLength() +
          " and has no fallback"
      )
    );
    return new Choice(fitting, wanted);
  }

  /** Whether a tensor that is {@link #allows allowed} to change has a type by the user's wish. */
  boolean isPinned(TensorInfo tensor) {
    return switch (TensorRole.of(tensor.name())) {
      case TOKEN_EMBEDDING -> options.tokenEmbeddingType() != null || named(tensor).isPresent();
      case OUTPUT -> options.outputTensorType() != null || named(tensor).isPresent();
      default -> named(tensor).isPresent();
    };
  }

  private Optional<TensorType> named(TensorInfo tensor) {
    return options
      .tensorTypes()
      .stream()
      .filter(rule -> rule.matches(tensor.name()))
      .map(TensorTypeRule::type)
      .findFirst();
  }

  /** The wanted type, or one of about the same size with blocks that fit the rows; empty if there is none. */
  static Optional<TensorType> fitting(TensorInfo tensor, TensorType wanted) {
    if (tensor.rowLength() % wanted.blockLength() == 0) {
      return Optional.of(wanted);
    }
    TensorType smaller = switch (wanted) {
      case IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, IQ4_XS -> TensorType.IQ4_NL;
      case Q2_0, Q2_K, Q3_K, TQ1_0, TQ2_0 -> TensorType.Q4_0;
      case Q4_K -> TensorType.Q5_0;
      case Q5_K -> TensorType.Q5_1;
      case Q6_K -> TensorType.Q8_0;
      default -> wanted;
    };
    if (smaller.blockLength() > 32) {
      return Optional.empty();
    }
    return Optional.of(tensor.rowLength() % smaller.blockLength() == 0 ? smaller : TensorType.F16);
  }

  /**
   * Whether a tensor of this type is too coarse without importance. The embeddings and the output never are by this rule, since
   * importance matrices often lack them.
   */
  boolean needsImportance(TensorInfo tensor, TensorType target) {
    TensorRole role = TensorRole.of(tensor.name());
    if (role == TensorRole.TOKEN_EMBEDDING || role == TensorRole.OUTPUT) {
      return false;
    }
    return switch (target) {
      case IQ3_XXS, IQ2_XXS, IQ2_XS, IQ2_S, IQ1_M, IQ1_S -> true;
      case Q2_K -> options.fileType() == FileType.Q2_K_S;
      default -> false;
    };
  }
}
