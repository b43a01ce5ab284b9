package dev.attar.lowrank.heads;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Chooses which rotary pairs give way to fewer, the same for all layers and heads: the folds with the least sum of {@code E|q* (R - M r)
 * k|²} over the layers and groups, where R are the rotations of a fold's pairs, r the one of those in their place, and M as in {@link
 * Folding}; on average over the distances of query and key.
 */
final class FoldChoice {

  /** The most pairs in a fold. Of more, frequencies are far apart, and there are many folds to try. */
  private static final int WIDEST = 16;

  /**
   * What is chosen.
   *
   * @param folds all pairs, in their order
   * @param lost the sum as a part of what it would be without any pairs
   */
  record Chosen(List<Fold> folds, double lost) {}

  /**
   * A fold with its cost.
   *
   * @param before how many pairs are kept of those before it
   */
  private record Step(double sum, Fold fold, int before) {}

  private final List<PairMoments> moments;
  private final Rotations rotations;
  private final int pairs;

  /** The sum over groups of {@code A_ij B_ji}. */
  private final Complex energies;

  private FoldChoice(List<PairMoments> moments, Rotations rotations) {
    this.moments = moments;
    this.rotations = rotations;
    pairs = rotations.pairs();
    energies = new Complex(pairs, pairs);
    for (PairMoments group : moments) {
      Complex a = group.queries();
      Complex b = group.keys();
      for (int i = 0; i < pairs; i++) {
        for (int j = 0; j < pairs; j++) {
          energies.add(
            i,
            j,
            a.re(i, j) * b.re(j, i) - a.im(i, j) * b.im(j, i),
            a.re(i, j) * b.im(j, i) + a.im(i, j) * b.re(j, i)
          );
        }
      }
    }
  }

  /**
   * Chooses.
   *
   * @param moments of all groups of all layers
   * @param rotations of the pairs
   * @param kept how many pairs are kept, at least 1 and fewer than there are
   */
  static Chosen of(List<PairMoments> moments, Rotations rotations, int kept) {
    return new FoldChoice(moments, rotations).choose(kept);
  }

  /** The cheapest way to each number of pairs, of which so many are kept, from the ways to fewer pairs. */
  private Chosen choose(int kept) {
    Step[][] steps = new Step[pairs + 1][kept + 1];
    steps[0][0] = new Step(0, null, 0);
    for (int end = 1; end <= pairs; end++) {
      for (int first = Math.max(0, end - WIDEST); first < end; first++) {
        for (Step step : folds(first, end - first)) {
          for (int before = 0; before + step.fold.kept() <= kept; before++) {
            extend(steps, end, before, step);
          }
        }
      }
    }
    List<Fold> folds = new ArrayList<>();
    for (int end = pairs, left = kept; end > 0; ) {
      Step step = steps[end][left];
      folds.add(step.fold);
      end -= step.fold.count();
      left = step.before;
    }
    Collections.reverse(folds);
    double whole = energy(0, pairs);
    double lost = whole > 0 ? Math.clamp(steps[pairs][kept].sum / whole, 0, 1) : 0;
    return new Chosen(List.copyOf(folds), lost);
  }

  private static void extend(Step[][] steps, int end, int before, Step step) {
    Step from = steps[step.fold.first()][before];
    int kept = before + step.fold.kept();
    if (from != null && (steps[end][kept] == null || from.sum + step.sum < steps[end][kept].sum)) {
      steps[end][kept] = new Step(from.sum + step.sum, step.fold, before);
    }
  }

  /** All that can be done with some pairs, without what can be done with parts of them: each with its cost. */
  private List<Step> folds(int first, int count) {
    List<Step> folds = new ArrayList<>();
    if (count == 1) {
      folds.add(new Step(0, new Fold(first, 1, 1, first), 0));
      folds.add(new Step(energy(first, 1), new Fold(first, 1, 0, first), 0));
      return folds;
    }
    double[] explained = new double[count];
    Complex shared = new Complex(count, count);
    for (PairMoments group : moments) {
      Folding folding = Folding.of(group, first, count);
      Complex product = group.queries().part(first, count).times(folding.queries());
      for (int i = 0; i < count; i++) {
        explained[i] += folding.energies()[i];
        for (int j = 0; j < count; j++) {
          // The diagonal of B M* A is the sum over the directions i that are kept.
          double a = folding.queries().re(j, i);
          double b = folding.queries().im(j, i);
          double c = product.re(j, i);
          double d = product.im(j, i);
          shared.add(i, j, a * c + b * d, b * c - a * d);
        }
      }
    }
    double energy = energy(first, count);
    double[] sum = new double[count];
    for (int frequency = 0; frequency < count; frequency++) {
      sum[frequency] = energy;
    }
    for (int kept = 1; kept < count; kept++) {
      Fold best = null;
      for (int frequency = 0; frequency < count; frequency++) {
        sum[frequency] += explained[kept - 1] - 2 * agreement(shared, kept - 1, first, first + frequency);
        if (best == null || sum[frequency] < sum[best.frequency() - first]) {
          best = new Fold(first, count, kept, first + frequency);
        }
      }
      folds.add(new Step(Math.max(0, sum[best.frequency() - first]), best, 0));
    }
    return folds;
  }

  /** The mean of {@code |q* R k|²} over the distances: what is lost if nothing stands for the pairs. */
  private double energy(int first, int count) {
    double sum = 0;
    for (int i = first; i < first + count; i++) {
      for (int j = first; j < first + count; j++) {
        sum += rotations.mean(energies.re(i, j), energies.im(i, j), j, i);
      }
    }
    return Math.max(0, sum);
  }

  /** What a kept direction and the pairs have in common, turned by their difference. */
  private double agreement(Complex shared, int direction, int first, int frequency) {
    double sum = 0;
    for (int j = 0; j < shared.columns; j++) {
      sum += rotations.mean(shared.re(direction, j), shared.im(direction, j), first + j, frequency);
    }
    return sum;
  }
}
