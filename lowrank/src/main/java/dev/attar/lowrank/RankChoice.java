package dev.attar.lowrank;

/** How the ranks of all matrices are chosen. */
public sealed interface RankChoice {
  /**
   * The same rank for all.
   *
   * @param rank at least 1
   */
  record Same(int rank) implements RankChoice {
    public Same {
      if (rank < 1) {
        throw new IllegalArgumentException("rank " + rank + ", expected at least 1");
      }
    }
  }

  /**
   * A size for all factors together: ranks go where they save most of the error per number. A matrix whose factors would be no smaller
   * stays as it is.
   *
   * @param kept the part of the matrices' numbers that is left, above 0 and below 1
   */
  record Size(double kept) implements RankChoice {
    public Size {
      requirePart(kept);
    }
  }

  /**
   * The least ranks that keep a part of the energy: of the sum of the squared singular values of each matrix, in the metric of the
   * factorization.
   *
   * @param kept the part, above 0 and below 1
   */
  record Energy(double kept) implements RankChoice {
    public Energy {
      requirePart(kept);
    }
  }

  private static void requirePart(double part) {
    if (!(part > 0 && part < 1)) {
      throw new IllegalArgumentException(part + ", expected above 0 and below 1");
    }
  }
}
