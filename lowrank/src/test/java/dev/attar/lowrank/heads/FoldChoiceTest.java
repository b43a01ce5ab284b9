package dev.attar.lowrank.heads;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

/** Against plain loops over all that can be chosen. */
class FoldChoiceTest {

  private static final int PAIRS = 4;
  private static final double[] FREQUENCIES = { 1, 0.3, 0.02, 0.004 };

  private final Random random = new Random(17);

  private Complex random(int rows, int columns) {
    Complex matrix = new Complex(rows, columns);
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < columns; j++) {
        matrix.set(i, j, random.nextGaussian(), random.nextGaussian());
      }
    }
    return matrix;
  }

  private Complex positive(int size) {
    Complex root = random(size, size);
    return root.times(root.adjoint());
  }

  private List<PairMoments> groups() {
    List<PairMoments> groups = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      groups.add(new PairMoments(positive(PAIRS), positive(PAIRS)));
    }
    return groups;
  }

  /** {@code E|q* D k|²}, the trace of D* A D B. */
  private static double loss(Complex difference, Complex queries, Complex keys) {
    return difference.adjoint().times(queries).times(difference).times(keys).trace();
  }

  /** R - M r at a distance; M of the best directions, {@code null} for none. */
  private static Complex difference(Folding folding, int first, int count, int kept, double turn, double distance) {
    Complex difference = new Complex(count, count);
    for (int i = 0; i < count; i++) {
      double angle = FREQUENCIES[first + i] * distance;
      difference.set(i, i, Math.cos(angle), Math.sin(angle));
      for (int j = 0; j < count; j++) {
        for (int k = 0; k < kept; k++) {
          double a = folding.queries().re(i, k);
          double b = folding.queries().im(i, k);
          double c = folding.keys().re(j, k);
          double d = folding.keys().im(j, k);
          double re = a * c + b * d;
          double im = b * c - a * d;
          double cosine = Math.cos(turn * distance);
          double sine = Math.sin(turn * distance);
          difference.add(i, j, -(re * cosine - im * sine), -(re * sine + im * cosine));
        }
      }
    }
    return difference;
  }

  /** What a fold costs, by plain loops over the distances 0, 1, 2^(1/3), 2^(2/3), 2, ... */
  private static double cost(List<PairMoments> groups, Fold fold, double longest) {
    double sum = 0;
    int distances = 0;
    for (double distance = 0; distance <= longest * 1.0001; distance = distance == 0 ? 1 : distance * Math.cbrt(2)) {
      distances++;
      for (PairMoments group : groups) {
        int first = fold.first();
        int count = fold.count();
        Complex difference = difference(
          Folding.of(group, first, count),
          first,
          count,
          fold.kept(),
          FREQUENCIES[fold.frequency()],
          distance
        );
        sum += loss(difference, group.queries().part(first, count), group.keys().part(first, count));
      }
    }
    return sum / distances;
  }

  /** The least cost of pairs from {@code first} on, of which so many are kept. */
  private static double least(List<PairMoments> groups, int first, int kept, double longest) {
    if (first == PAIRS) {
      return kept == 0 ? 0 : Double.POSITIVE_INFINITY;
    }
    double least = Double.POSITIVE_INFINITY;
    for (int count = 1; first + count <= PAIRS; count++) {
      for (int some = 0; some <= kept && some <= count; some++) {
        double cheapest = Double.POSITIVE_INFINITY;
        for (int frequency = first; frequency < first + count; frequency++) {
          cheapest = Math.min(cheapest, cost(groups, new Fold(first, count, some, frequency), longest));
        }
        // Without any, pairs are lost one by one; all of several are kept one by one.
        if (count == 1 || (some > 0 && some < count)) {
          least = Math.min(least, cheapest + least(groups, first + count, kept - some, longest));
        }
      }
    }
    return least;
  }

  @Test
  void theCheapestFoldsAreChosen() {
    for (int kept = 1; kept < PAIRS; kept++) {
      List<PairMoments> groups = groups();
      FoldChoice.Chosen chosen = FoldChoice.of(groups, Rotations.of(FREQUENCIES, 128), kept);
      double sum = 0;
      int next = 0;
      int left = 0;
      for (Fold fold : chosen.folds()) {
        assertEquals(next, fold.first());
        next += fold.count();
        left += fold.kept();
        sum += fold.isWhole() ? 0 : cost(groups, fold, 128);
      }
      assertEquals(PAIRS, next);
      assertEquals(kept, left);
      double least = least(groups, 0, kept, 128);
      assertEquals(least, sum, 1e-4 * least);
      double whole = cost(groups, new Fold(0, PAIRS, 0, 0), 128);
      assertEquals(sum / whole, chosen.lost(), 1e-4);
    }
  }

  @Test
  void foldingIsTheBestOfItsRank() {
    PairMoments moments = groups().getFirst();
    Folding folding = Folding.of(moments, 0, PAIRS);
    for (int kept = 1; kept <= PAIRS; kept++) {
      double loss = loss(difference(folding, 0, PAIRS, kept, 0, 0), moments.queries(), moments.keys());
      double rest = 0;
      for (int i = kept; i < PAIRS; i++) {
        rest += folding.energies()[i];
      }
      assertEquals(rest, loss, 1e-4 * folding.energies()[0]);
      for (int i = 0; i < 20; i++) {
        Complex queries = folding.queries().part(0, PAIRS);
        queries.add(random(PAIRS, PAIRS), 0.02);
        Complex keys = folding.keys().part(0, PAIRS);
        keys.add(random(PAIRS, PAIRS), 0.02);
        Folding other = new Folding(queries, keys, folding.energies());
        double worse = loss(difference(other, 0, PAIRS, kept, 0, 0), moments.queries(), moments.keys());
        assertTrue(worse > loss, worse + " at rank " + kept + ", expected more than " + loss);
      }
    }
  }

  @Test
  void pairsTurnAsFarAsTheirFrequencyTakesThem() {
    double[] spread = Rotations.of(new double[] { 3, 0.01, 0 }, 100).spread();
    assertTrue(spread[0] > 0.9 && spread[1] > 0.1 && spread[1] < 0.5, spread[0] + " and " + spread[1]);
    assertEquals(0, spread[2], 1e-6);
  }
}
