package dev.attar.compute;

/**
 * A step of AdamW.
 *
 * @param rate the learning rate, at least 0
 * @param beta1 how much of the mean of gradients stays, at least 0 and below 1
 * @param beta2 how much of the mean of their squares stays, at least 0 and below 1
 * @param epsilon above 0
 * @param decay how much of a weight goes, times the rate; at least 0
 * @param step the number of this step, from 1
 * @param gradientScale what gradients are multiplied with first: below 1 where they are clipped
 */
public record AdamStep(
  float rate,
  float beta1,
  float beta2,
  float epsilon,
  float decay,
  long step,
  float gradientScale
) {
  public AdamStep {
    boolean betas = beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1;
    if (!(betas && rate >= 0 && epsilon > 0 && decay >= 0) || step < 1) {
      throw new IllegalArgumentException(
        "step %d with rate %s, betas %s and %s, epsilon %s, decay %s".formatted(
          step,
          rate,
          beta1,
          beta2,
          epsilon,
          decay
        )
      );
    }
  }

  /** What the mean of gradients is divided by, since it began with 0. */
  public double firstCorrection() {
    return 1 - Math.pow(beta1, step);
  }

  /** What the mean of squares is divided by. */
  public double secondCorrection() {
    return 1 - Math.pow(beta2, step);
  }
}
