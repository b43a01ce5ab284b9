package dev.attar.lowrank;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/** Shares out ranks. */
final class RankBudget {

  /** Stands for a tensor that stays as it is. */
  static final int WHOLE = 0;

  /**
   * A way to spend numbers on a tensor.
   *
   * @param tensor its place in the list
   * @param rank the rank that is reached, or {@link #WHOLE}
   * @param numbers what it takes more than the step before
   * @param gain how much less that leaves of the weighted loss, per number
   */
  private record Step(int tensor, int rank, long numbers, double gain) {}

  private RankBudget() {}

  /**
   * The ranks for a size: those that leave the least sum of losses, each as a part of its tensor's energy, times its weight.
   *
   * @param spectra computed as far as factors are smaller than their tensors
   * @param weights how much each tensor's loss counts, above 0
   * @param numbers how many numbers there may be in all
   * @return a rank for each tensor, or {@link #WHOLE}
   * @throws IllegalArgumentException if not even factors of rank 1 have so few numbers
   */
  static int[] forSize(List<Spectrum> spectra, double[] weights, long numbers) {
    int[] ranks = new int[spectra.size()];
    long left = numbers;
    List<Step> steps = new ArrayList<>();
    for (int i = 0; i < spectra.size(); i++) {
      Spectrum spectrum = spectra.get(i);
      boolean shrinks = spectrum.largestUseful() > 0;
      ranks[i] = shrinks ? 1 : WHOLE;
      left -= shrinks ? spectrum.numbersPerRank() : spectrum.tensor().elements();
      if (shrinks) {
        steps.addAll(steps(i, spectrum, weights[i]));
      }
    }
    if (left < 0) {
      throw new IllegalArgumentException(
        "factors of rank 1 have " + (numbers - left) + " numbers, " + numbers + " are allowed"
      );
    }
    steps.sort(Comparator.comparingDouble((Step step) -> -step.gain).thenComparing(Step::tensor));
    boolean[] stuck = new boolean[ranks.length];
    for (Step step : steps) {
      if (stuck[step.tensor]) {
        continue;
      }
      Spectrum spectrum = spectra.get(step.tensor);
      if (step.numbers <= left) {
        ranks[step.tensor] = step.rank;
        left -= step.numbers;
      } else {
        // A step to the whole tensor skips ranks: as many of them as there is room for.
        stuck[step.tensor] = true;
        int more = (int) Math.min(left / spectrum.numbersPerRank(), spectrum.largestUseful() - ranks[step.tensor]);
        ranks[step.tensor] += more;
        left -= more * spectrum.numbersPerRank();
      }
    }
    return ranks;
  }

  /**
   * The steps that are worth taking, in their order: a single rank each, since each saves less than the one before; but the last one goes
   * to the whole tensor from where that saves more per number than further ranks.
   */
  private static List<Step> steps(int number, Spectrum spectrum, double weight) {
    double energy = (spectrum.energy() > 0 ? spectrum.energy() : 1) / weight;
    long perRank = spectrum.numbersPerRank();
    long all = spectrum.tensor().elements();
    double left = spectrum.error(1) / energy;
    List<Step> steps = new ArrayList<>();
    for (int rank = 2; rank <= spectrum.largestUseful(); rank++) {
      double saved = spectrum.squares()[rank - 1] / energy;
      if (left / (all - (rank - 1) * perRank) >= saved / perRank) {
        steps.add(whole(number, all - (rank - 1) * perRank, left));
        return steps;
      }
      steps.add(new Step(number, rank, perRank, saved / perRank));
      left -= saved;
    }
    steps.add(whole(number, all - spectrum.largestUseful() * perRank, left));
    return steps;
  }

  private static Step whole(int number, long numbers, double left) {
    return new Step(number, WHOLE, numbers, Math.max(0, left) / numbers);
  }

  /**
   * The least rank that keeps a part of the energy.
   *
   * @return the rank, or {@link #WHOLE} if its factors would be no smaller than the tensor
   */
  static int forEnergy(Spectrum spectrum, double kept) {
    double allowed = (1 - kept) * spectrum.energy();
    int rank = 1;
    while (rank <= spectrum.largestUseful() && spectrum.error(rank) > allowed) {
      rank++;
    }
    return rank > spectrum.largestUseful() ? WHOLE : rank;
  }
}
