package dev.attar.bench.accuracy;

import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;

/**
 * Scores of consecutive tokens by one model: for each, the negative log-likelihood that the model gave it, in nats. It is at least 0;
 * infinite where the model thought the token impossible; NaN where its logits were not numbers.
 */
public final class TokenScores {

  final double[] nll;

  /**
   * Scores to be filled by a {@link LogitKernel}.
   *
   * @param count number of tokens
   */
  public TokenScores(int count) {
    nll = new double[count];
  }

  /** Number of tokens. */
  public int count() {
    return nll.length;
  }

  /** Negative log-likelihood of a token, in nats. */
  public double nll(int token) {
    return nll[token];
  }

  /** The first token whose logits were not numbers; -1 if there is none. */
  public int firstInvalid() {
    return Scores.firstNaN(nll);
  }

  /** Writes the scores, 4 + 8 × {@link #count} bytes. */
  public void write(DataOutput out) throws IOException {
    out.writeInt(nll.length);
    Scores.write(nll, out);
  }

  /**
   * Reads what {@link #write} wrote.
   *
   * @param most the largest number of tokens that is believed
   * @throws IOException if the bytes end too early, or cannot be scores
   */
  public static TokenScores read(DataInput in, int most) throws IOException {
    TokenScores scores = new TokenScores(Scores.readCount(in, most));
    Scores.read(scores.nll, "negative log-likelihood", 0, Double.POSITIVE_INFINITY, in);
    return scores;
  }
}
