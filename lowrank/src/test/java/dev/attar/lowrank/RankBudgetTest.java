package dev.attar.lowrank;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.RepeatedTest;
import org.junit.jupiter.api.RepetitionInfo;
import org.junit.jupiter.api.Test;

class RankBudgetTest {

  private static final double[] EVEN = { 1, 1, 1 };

  private static Spectrum spectrum(int columns, int rows, double... squares) {
    TensorInfo info = new TensorInfo("blk.0.w.weight", TensorType.F32, new long[] { columns, rows });
    return new Spectrum(info, squares, Arrays.stream(squares).sum());
  }

  private static double loss(List<Spectrum> spectra, int[] ranks) {
    double loss = 0;
    for (int i = 0; i < ranks.length; i++) {
      loss += ranks[i] == RankBudget.WHOLE ? 0 : spectra.get(i).error(ranks[i]) / spectra.get(i).energy();
    }
    return loss;
  }

  private static long numbers(List<Spectrum> spectra, int[] ranks) {
    long numbers = 0;
    for (int i = 0; i < ranks.length; i++) {
      Spectrum spectrum = spectra.get(i);
      numbers += ranks[i] == RankBudget.WHOLE ? spectrum.tensor().elements() : ranks[i] * spectrum.numbersPerRank();
    }
    return numbers;
  }

  /** The least loss of all ways to spend no more than so many numbers. */
  private static double best(List<Spectrum> spectra, int[] ranks, int from, long numbers) {
    if (from == ranks.length) {
      return numbers(spectra, ranks) <= numbers ? loss(spectra, ranks) : Double.POSITIVE_INFINITY;
    }
    double best = Double.POSITIVE_INFINITY;
    for (int rank = 0; rank <= spectra.get(from).largestUseful(); rank++) {
      ranks[from] = rank;
      best = Math.min(best, best(spectra, ranks, from + 1, numbers));
    }
    return best;
  }

  @RepeatedTest(20)
  void spendsASizeAsWellAsCanBe(RepetitionInfo repetition) {
    Random random = new Random(repetition.getCurrentRepetition());
    List<Spectrum> spectra = new ArrayList<>();
    long all = 0;
    for (int i = 0; i < 3; i++) {
      int columns = 8 + random.nextInt(8);
      int rows = 8 + random.nextInt(8);
      double decay = 0.4 + 0.6 * random.nextDouble();
      double[] squares = new double[Math.min(rows, columns)];
      for (int j = 0; j < squares.length; j++) {
        squares[j] = 5 * Math.pow(decay, j);
      }
      spectra.add(spectrum(columns, rows, squares));
      all += (long) rows * columns;
    }
    for (double kept : new double[] { 0.4, 0.6, 0.9 }) {
      long allowed = (long) (kept * all);
      int[] ranks = RankBudget.forSize(spectra, EVEN, allowed);
      assertTrue(numbers(spectra, ranks) <= allowed, Arrays.toString(ranks));
      // Steps that do not fit leave room, which the best way has found a use for: one step of each tensor at most.
      double withMore = best(spectra, new int[3], 0, allowed);
      double withLess = best(spectra, new int[3], 0, allowed - 2 * 32);
      double found = loss(spectra, ranks);
      assertTrue(found >= withMore - 1e-12 && found <= withLess + 1e-12, withMore + " <= " + found + " <= " + withLess);
    }
  }

  @Test
  void leavesTensorsWholeThatEarnIt() {
    // Nothing of the first can be left out, all but one of the second's can.
    List<Spectrum> spectra = List.of(
      spectrum(8, 8, 1, 1, 1, 1, 1, 1, 1, 1),
      spectrum(8, 8, 1, 1e-6, 1e-6, 1e-6, 0, 0, 0, 0)
    );
    assertArrayEquals(new int[] { RankBudget.WHOLE, 1 }, RankBudget.forSize(spectra, EVEN, 64 + 16));
    assertArrayEquals(new int[] { RankBudget.WHOLE, 3 }, RankBudget.forSize(spectra, EVEN, 64 + 48));
    assertArrayEquals(new int[] { 2, 1 }, RankBudget.forSize(spectra, EVEN, 48));
  }

  @Test
  void spendsMoreWhereLossesCountMore() {
    List<Spectrum> spectra = List.of(spectrum(8, 8, 8, 4, 2, 1, 1, 1, 1, 1), spectrum(8, 8, 8, 4, 2, 1, 1, 1, 1, 1));
    assertArrayEquals(new int[] { 2, 2 }, RankBudget.forSize(spectra, EVEN, 64));
    assertArrayEquals(new int[] { 3, 1 }, RankBudget.forSize(spectra, new double[] { 3, 1 }, 64));
    assertArrayEquals(new int[] { 1, 3 }, RankBudget.forSize(spectra, new double[] { 1, 3 }, 64));
  }

  @Test
  void refusesASizeThatNothingFits() {
    List<Spectrum> spectra = List.of(spectrum(8, 8, 1, 1, 1, 1, 1, 1, 1, 1));
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () ->
      RankBudget.forSize(spectra, EVEN, 15)
    );
    assertEquals("factors of rank 1 have 16 numbers, 15 are allowed", e.getMessage());
  }

  @Test
  void keepsAPartOfTheEnergy() {
    Spectrum spectrum = spectrum(16, 16, 8, 4, 2, 1, 0.5, 0.25, 0.125, 0.125, 0, 0, 0, 0, 0, 0, 0, 0);
    assertEquals(1, RankBudget.forEnergy(spectrum, 0.5));
    assertEquals(2, RankBudget.forEnergy(spectrum, 0.51));
    assertEquals(3, RankBudget.forEnergy(spectrum, 0.875));
    assertEquals(7, RankBudget.forEnergy(spectrum, 0.99));
    // Its factors would be as large as the tensor.
    assertEquals(RankBudget.WHOLE, RankBudget.forEnergy(spectrum, 0.9999));
  }
}
