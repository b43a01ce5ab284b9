package dev.attar.bench.accuracy;

import dev.attar.bench.Estimate;

/**
 * How far a model's predictions are from its base's on the same tokens, as {@code llama-perplexity --kl-divergence} defines it.
 * KL divergences are D(base ‖ model) of the distributions over the whole vocabulary, in nats per token.
 *
 * @param mean mean KL divergence
 * @param median its median
 * @param p90 its 90th percentile
 * @param p99 its 99th percentile
 * @param p999 its 99.9th percentile
 * @param max its maximum
 * @param perplexityRatio perplexity over the base's; the error takes into account that both saw the same tokens
 * @param meanDeltaP mean change of the correct token's probability (model minus base), from -1 to 1
 * @param rmsDeltaP root of the mean square of that change, from 0 to 1
 * @param sameTop share of the tokens for which both models find the same token likeliest, from 0 to 1
 * @param histogram the KL divergences of the single tokens
 */
public record Divergence(
  Estimate mean,
  double median,
  double p90,
  double p99,
  double p999,
  double max,
  Estimate perplexityRatio,
  Estimate meanDeltaP,
  Estimate rmsDeltaP,
  Estimate sameTop,
  Histogram histogram
) {}
