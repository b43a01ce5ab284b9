package dev.attar.bench.accuracy;

import dev.attar.bench.Estimate;

/** Gathers the perplexity of a model over a text, in constant memory. Not for several threads at once. */
public final class PerplexityStatistics {

  private final Moments nll = new Moments();

  /** Adds tokens. */
  public void add(TokenScores scores) {
    for (double value : scores.nll) {
      nll.add(value);
    }
  }

  /** Adds tokens as the model, not its base, scored them. */
  public void add(TokenComparison scores) {
    for (double value : scores.nll) {
      nll.add(value);
    }
  }

  /**
   * The perplexity so far, with the standard error of llama-perplexity; for 10 tokens or fewer the error is 0. NaN if the score of a
   * token was.
   *
   * @param windows number of windows that the tokens are from
   * @param context tokens per window
   * @throws IllegalStateException if there are no tokens
   */
  public Perplexity result(int windows, int context) {
    if (nll.count() == 0) {
      throw new IllegalStateException("no tokens were scored");
    }
    Estimate perplexity = nll.exponential();
    return new Perplexity(perplexity.value(), perplexity.error(), nll.count(), windows, context);
  }
}
