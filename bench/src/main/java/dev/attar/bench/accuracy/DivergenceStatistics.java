package dev.attar.bench.accuracy;

import dev.attar.bench.Estimate;

/**
 * Gathers how far a model is from its base over a text. Memory is constant, 150 kB, however long the text. Not for several threads at
 * once.
 */
public final class DivergenceStatistics {

  private final Moments divergence = new Moments();
  private final Distribution distribution = new Distribution();
  private final Moments deltaP = new Moments();
  private final Moments deltaP2 = new Moments();

  /**
   * Log of the ratio of the likelihoods. Its error is that of llama-perplexity, √(var a + var b - 2 cov(a, b)), which is the same as
   * √var(a - b) but keeps its digits when a and b are nearly equal.
   */
  private final Moments logRatio = new Moments();

  private long sameTop;

  /** Adds tokens. */
  public void add(TokenComparison scores) {
    for (int i = 0; i < scores.count(); i++) {
      divergence.add(scores.divergence[i]);
      distribution.add(scores.divergence[i]);
      double change = scores.deltaP[i];
      deltaP.add(change);
      deltaP2.add(change * change);
      logRatio.add(scores.nll[i] - scores.baseNll[i]);
      if (scores.sameTop[i]) {
        sameTop++;
      }
    }
  }

  /**
   * The divergence so far, with the standard errors of llama-perplexity; for 10 tokens or fewer the errors are 0. Percentiles are exact
   * to 0.2 %, or 1e-12 if that is more; the maximum is exact. What depends on a token whose score is NaN is NaN.
   *
   * @throws IllegalStateException if there are no tokens
   */
  public Divergence result() {
    long count = divergence.count();
    if (count == 0) {
      throw new IllegalStateException("no tokens were compared");
    }
    double same = (double) sameTop / count;
    return new Divergence(
      divergence.estimate(),
      distribution.percentile(0.5),
      distribution.percentile(0.9),
      distribution.percentile(0.99),
      distribution.percentile(0.999),
      distribution.percentile(1),
      logRatio.exponential(),
      deltaP.estimate(),
      deltaP2.root(),
      new Estimate(same, count == 1 ? 0 : Math.sqrt((same * (1 - same)) / (count - 1))),
      distribution.histogram()
    );
  }
}
