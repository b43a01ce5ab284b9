package dev.attar.bench.accuracy;

/** A kernel seen through types of the JDK only, so that its classes may come from a class loader of their own. */
public interface Scorer {
  /** Scores of a token by a model and its base, and by the model alone. */
  record Score(double nll, double baseNll, double divergence, double deltaP, boolean sameTop, double nllAlone) {}

  /** Scores of one row each. */
  Score score(float[] base, float[] model, int target);

  /** What the kernel says it is. */
  String description();

  /** Floats in a vector; for scalar code 1. */
  int lanes();
}
