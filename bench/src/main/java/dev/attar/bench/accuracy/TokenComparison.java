package dev.attar.bench.accuracy;

import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;

/**
 * Scores of consecutive tokens by a model and its base. Where the logits of either were not numbers, all values of the token are NaN
 * and its top tokens are not the same.
 */
public final class TokenComparison {

  final double[] nll;
  final double[] baseNll;
  final double[] divergence;
  final double[] deltaP;
  final boolean[] sameTop;

  /**
   * Scores to be filled by a {@link LogitKernel}.
   *
   * @param count number of tokens
   */
  public TokenComparison(int count) {
    nll = new double[count];
    baseNll = new double[count];
    divergence = new double[count];
    deltaP = new double[count];
    sameTop = new boolean[count];
  }

  /** Number of tokens. */
  public int count() {
    return nll.length;
  }

  /** Negative log-likelihood that the model gave a token, in nats, at least 0; may be infinite. */
  public double nll(int token) {
    return nll[token];
  }

  /** Negative log-likelihood that the base gave a token, in nats, at least 0; may be infinite. */
  public double baseNll(int token) {
    return baseNll[token];
  }

  /** D(base ‖ model) of the predictions for a token, in nats, at least 0; may be infinite. */
  public double divergence(int token) {
    return divergence[token];
  }

  /** Probability that the model gave a token minus that which the base gave it, from -1 to 1. */
  public double deltaP(int token) {
    return deltaP[token];
  }

  /** Whether model and base found the same token likeliest (of several equally likely ones, the one of lowest id). */
  public boolean isSameTop(int token) {
    return sameTop[token];
  }

  /** The first token for which the logits of model or base were not numbers; -1 if there is none. */
  public int firstInvalid() {
    return Scores.firstNaN(divergence);
  }

  /** Writes the scores, 4 + 33 × {@link #count} bytes. */
  public void write(DataOutput out) throws IOException {
    out.writeInt(nll.length);
    Scores.write(nll, out);
    Scores.write(baseNll, out);
    Scores.write(divergence, out);
    Scores.write(deltaP, out);
    for (boolean same : sameTop) {
      out.writeByte(same ? 1 : 0);
    }
  }

  /**
   * Reads what {@link #write} wrote.
   *
   * @param most the largest number of tokens that is believed
   * @throws IOException if the bytes end too early, or cannot be scores
   */
  public static TokenComparison read(DataInput in, int most) throws IOException {
    TokenComparison scores = new TokenComparison(Scores.readCount(in, most));
    Scores.read(scores.nll, "negative log-likelihood", 0, Double.POSITIVE_INFINITY, in);
    Scores.read(scores.baseNll, "negative log-likelihood of the base", 0, Double.POSITIVE_INFINITY, in);
    Scores.read(scores.divergence, "KL divergence", 0, Double.POSITIVE_INFINITY, in);
    Scores.read(scores.deltaP, "change of probability", -1, 1, in);
    for (int i = 0; i < scores.sameTop.length; i++) {
      int same = in.readByte();
      if (same != 0 && same != 1) {
        throw new IOException("scores of tokens: token " + i + ": same top is " + same + ", expected 0 or 1");
      }
      scores.sameTop[i] = same == 1;
    }
    return scores;
  }
}
