package dev.attar.compute;

/**
 * What a student's distribution is judged by: how far it is from the teacher's, P, and how well it predicts the text.
 *
 * @param divergence between P and the student's Q, both at the temperature
 * @param beta of {@link Divergence#JENSEN_SHANNON}, above 0 and below 1; otherwise without meaning
 * @param temperature what logits are divided by before the softmax, above 0 (Hinton et al., 2015)
 * @param divergenceWeight at least 0; 0 for no divergence
 * @param crossEntropyWeight at least 0
 * @param scale what the sum over rows is multiplied with: 1 over the number of tokens of a batch for a mean
 */
public record DistributionLoss(
  Divergence divergence,
  float beta,
  float temperature,
  float divergenceWeight,
  float crossEntropyWeight,
  float scale
) {
  /** A divergence between the teacher's P and the student's Q. */
  public enum Divergence {
    /** {@code KL(P || Q) = sum p log(p / q)}: the student covers all that the teacher says. */
    FORWARD,
    /** {@code KL(Q || P)}: the student says nothing that the teacher does not. */
    REVERSE,
    /**
     * The generalized Jensen-Shannon divergence (Agarwal et al., 2024): {@code beta KL(P || M) + (1 - beta) KL(Q || M)} with {@code M =
     * beta P + (1 - beta) Q}.
     */
    JENSEN_SHANNON
  }

  public DistributionLoss {
    if (divergence == Divergence.JENSEN_SHANNON && !(beta > 0 && beta < 1)) {
      throw new IllegalArgumentException("beta " + beta + ", expected above 0 and below 1");
    }
    if (!(temperature > 0 && divergenceWeight >= 0 && crossEntropyWeight >= 0)) {
      throw new IllegalArgumentException(
        "temperature " + temperature + ", weights " + divergenceWeight + " and " + crossEntropyWeight
      );
    }
  }

  /** The same for another number of tokens. */
  public DistributionLoss withScale(float other) {
    return new DistributionLoss(divergence, beta, temperature, divergenceWeight, crossEntropyWeight, other);
  }
}
