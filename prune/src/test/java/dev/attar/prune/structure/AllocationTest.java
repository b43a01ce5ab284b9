package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.Arrays;
import java.util.Random;
import org.junit.jupiter.api.Test;

class AllocationTest {

  @Test
  void takesFromWhereItHarmsLeast() {
    // What goes costs its square, in the first layer ten times that.
    Allocation.Loss loss = (layer, left) -> (layer == 0 ? 10 : 1) * Math.pow(8 - left, 2);
    assertArrayEquals(new int[] { 8, 6, 6 }, Allocation.of(new int[] { 8, 8, 8 }, 1, 4, loss));
    assertArrayEquals(new int[] { 8, 4, 4 }, Allocation.of(new int[] { 8, 8, 8 }, 2, 8, loss));
  }

  @Test
  void isTheBestOfAllWhereCurvesAreConvex() {
    Random random = new Random(1);
    for (int run = 0; run < 20; run++) {
      int[] counts = { 4, 5, 3 };
      double[][] losses = new double[3][6];
      for (double[] of : losses) {
        double[] added = random.doubles(5).sorted().toArray();
        for (int gone = 1; gone <= 5; gone++) {
          of[gone] = of[gone - 1] + added[gone - 1];
        }
      }
      int units = 1 + random.nextInt(9);
      Allocation.Loss loss = (layer, left) -> losses[layer][counts[layer] - left];
      double best = Double.POSITIVE_INFINITY;
      for (int a = 1; a <= 4; a++) {
        for (int b = 1; b <= 5; b++) {
          int c = 12 - units - a - b;
          if (c >= 1 && c <= 3) {
            best = Math.min(best, loss.of(0, a) + loss.of(1, b) + loss.of(2, c));
          }
        }
      }
      int[] left = Allocation.of(counts, 1, units, loss);
      assertEquals(12 - units, Arrays.stream(left).sum());
      assertEquals(best, loss.of(0, left[0]) + loss.of(1, left[1]) + loss.of(2, left[2]), 1e-12);
    }
  }

  @Test
  void keepsAGrainAndMultiples() {
    // The rest of 10 and 7 goes in any case; 3 is less than a grain and stays.
    assertArrayEquals(new int[] { 8, 3, 4 }, Allocation.of(new int[] { 10, 3, 7 }, 4, 5, (_, _) -> 0));
    assertArrayEquals(new int[] { 4, 3, 4 }, Allocation.of(new int[] { 10, 3, 7 }, 4, 9, (_, _) -> 0));
    assertThrows(IllegalArgumentException.class, () -> Allocation.of(new int[] { 10, 3, 7 }, 4, 13, (_, _) -> 0));
    assertThrows(IllegalArgumentException.class, () -> Allocation.of(new int[] { 10, 3, 7 }, 4, 6, (_, _) -> 0));
  }

  @Test
  void allIsTheSameToAModelThatLosesNothing() {
    assertEquals(4, Arrays.stream(Allocation.of(new int[] { 4, 4 }, 1, 4, (_, _) -> Double.NaN)).sum());
  }
}
