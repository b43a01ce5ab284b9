package dev.attar.lowrank.heads;

/**
 * The best that can be done with fewer pairs in the place of neighbouring ones if these rotated alike. Of a query's pairs q and a key's k,
 * both complex, only q* k counts then, and of all M of a rank the one with the least {@code E|q* (I - M) k|²} is sought for q and k that
 * are independent. With A = E[q q*], B = E[k k*] = L L* and the eigenvectors V of L* A L, largest first, it is {@code L V_r V_r*
 * inverse(L)}: the queries become {@code (L V_r)* q}, the keys {@code V_r* inverse(L) k}. It is the compression of queries and keys of
 * MoDeGPT (Lin et al., 2024, its type II) with the optimum of both moments; that pairs of neighbouring frequencies may be taken for alike
 * is from TransMLA (Meng et al., 2025).
 *
 * @param queries L V, a column for each pair that may be kept, the best first
 * @param keys inverse(L*) V
 * @param energies the eigenvalues: what each adds to {@code E|q* k|²}
 */
@SuppressWarnings("ArrayRecordComponent") // only passed on
record Folding(Complex queries, Complex keys, double[] energies) {
  /** What is added to the moments of keys, as a part of the mean of their diagonal. */
  private static final double DAMPING = 1e-6;

  /** Of some pairs of a group. */
  static Folding of(PairMoments moments, int first, int count) {
    Complex keys = moments.keys().part(first, count);
    double ridge = Math.max(DAMPING * (keys.trace() / count), Float.MIN_NORMAL);
    Complex root = keys.cholesky(ridge);
    Complex product = root.adjoint().times(moments.queries().part(first, count)).times(root);
    Complex.Eigen eigen = product.eigen();
    return new Folding(root.times(eigen.vectors()), root.solveAdjoint(eigen.vectors()), eigen.values());
  }
}
