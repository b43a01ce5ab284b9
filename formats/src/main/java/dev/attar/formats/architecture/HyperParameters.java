package dev.attar.formats.architecture;

import dev.attar.formats.FormatException;

/**
 * The sizes of a model.
 *
 * @param vocabulary rows of the embedding
 * @param embedding width of the residual stream
 * @param feedForward inner width of the feed-forward network
 * @param layers number of layers
 * @param heads number of query heads
 * @param keyValueHeads number of key and value heads, a divisor of {@code heads}
 * @param headSize width of a head; even
 * @param headSizeGiven whether GGUF states the head size, instead of leaving it to be {@code embedding / heads}
 * @param experts number of experts; 0 in a dense model
 * @param expertsUsed experts per token; 0 in a dense model
 * @param context longest context
 * @param rmsEpsilon what RMS norms add to the mean square
 * @param tied whether the output matrix is the embedding
 * @param attentionBias whether all four projections of attention have biases
 * @param feedForwardBias whether the projections of the feed-forward network have biases
 * @param rope how positions are encoded
 */
record HyperParameters(
  int vocabulary,
  int embedding,
  int feedForward,
  int layers,
  int heads,
  int keyValueHeads,
  int headSize,
  boolean headSizeGiven,
  int experts,
  int expertsUsed,
  long context,
  double rmsEpsilon,
  boolean tied,
  boolean attentionBias,
  boolean feedForwardBias,
  RopeParameters rope
) {
  /** More of anything is refused: beyond every model, and small enough that products of three fit a long. */
  private static final int MAX_WIDTH = 1 << 20;

  private static final int MAX_VOCABULARY = 1 << 24;
  private static final int MAX_LAYERS = 10_000;
  private static final long MAX_CONTEXT = 1L << 31;

  /**
   * What a family takes where {@code config.json} says nothing.
   *
   * @param keyValueHeads key and value heads; 0 for as many as query heads
   * @param headSize width of a head; 0 for the embedding's width divided by the number of heads
   * @param statesHeadSize whether GGUF states the head size even if {@code config.json} does not
   * @param context longest context
   * @param rmsEpsilon what RMS norms add
   * @param ropeTheta base of the rotary frequencies
   */
  record Defaults(
    int keyValueHeads,
    int headSize,
    boolean statesHeadSize,
    long context,
    double rmsEpsilon,
    double ropeTheta
  ) {}

  /**
   * Reads them from {@code config.json}.
   *
   * @throws FormatException if one is missing, out of range, or does not fit another
   */
  static HyperParameters read(CheckpointConfig config, Defaults defaults) throws FormatException {
    int embedding = width(config, "hidden_size");
    int heads = width(config, "num_attention_heads");
    boolean headSizeGiven = config.has("head_dim") || defaults.statesHeadSize;
    int headSize = defaults.headSize;
    if (config.has("head_dim")) {
      headSize = width(config, "head_dim");
    } else if (headSize == 0) {
      if (embedding % heads != 0) {
        throw config.malformed("num_attention_heads", "a divisor of hidden_size " + embedding);
      }
      headSize = embedding / heads;
    }
    if (headSize % 2 != 0) {
      String key = config.has("head_dim") ? "head_dim" : "num_attention_heads";
      throw config.malformed(key, "an even size of a head, not " + headSize);
    }
    int keyValueHeads = defaults.keyValueHeads == 0 ? heads : defaults.keyValueHeads;
    if (config.has("num_key_value_heads")) {
      keyValueHeads = width(config, "num_key_value_heads");
    }
    if (heads % keyValueHeads != 0) {
      throw config.malformed("num_key_value_heads", "a divisor of num_attention_heads " + heads);
    }
    long context = config.optionalCount("max_position_embeddings", 1, MAX_CONTEXT).orElse(defaults.context);
    return new HyperParameters(
      (int) config.count("vocab_size", 1, MAX_VOCABULARY),
      embedding,
      width(config, "intermediate_size"),
      (int) config.count("num_hidden_layers", 1, MAX_LAYERS),
      heads,
      keyValueHeads,
      headSize,
      headSizeGiven,
      (int) config.optionalCount("num_local_experts", 1, MAX_LAYERS).orElse(0),
      (int) config.optionalCount("num_experts_per_tok", 1, MAX_LAYERS).orElse(0),
      context,
      config.positive("rms_norm_eps", defaults.rmsEpsilon),
      config.flag("tie_word_embeddings", false),
      config.flag("attention_bias", false),
      config.flag("mlp_bias", false),
      RopeParameters.read(config, defaults.ropeTheta, context)
    );
  }

  private static int width(CheckpointConfig config, String key) throws FormatException {
    return (int) config.count(key, 1, MAX_WIDTH);
  }
}
