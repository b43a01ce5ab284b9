package dev.attar.quant.budget;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.api.Test;

class KnapsackTest {

  private static final double[] BITS = { 2.625, 3.4375, 4.25, 4.5, 5.5, 6.5625, 8.5, 16 };

  private static Knapsack.Item item(Random random, int options, int largest) {
    long[] sizes = random.longs(options, 0, largest).toArray();
    double[] losses = random.doubles(options).toArray();
    return new Knapsack.Item(sizes, losses);
  }

  /** A tensor of a given number of weights, whose error falls by four with each bit, more or less. */
  private static Knapsack.Item tensor(Random random, long weights) {
    double sensitivity = Math.exp(2 * random.nextGaussian());
    long[] sizes = Arrays.stream(BITS)
      .mapToLong(bits -> (long) (weights * bits) / 8)
      .toArray();
    double[] losses = Arrays.stream(BITS)
      .map(bits -> bits == 16 ? 0 : sensitivity * Math.pow(4, -bits) * Math.exp(0.2 * random.nextGaussian()))
      .toArray();
    return new Knapsack.Item(sizes, losses);
  }

  private static long size(List<Knapsack.Item> items, int[] chosen) {
    long size = 0;
    for (int i = 0; i < chosen.length; i++) {
      size += items.get(i).sizes()[chosen[i]];
    }
    return size;
  }

  private static double loss(List<Knapsack.Item> items, int[] chosen) {
    double loss = 0;
    for (int i = 0; i < chosen.length; i++) {
      loss += items.get(i).losses()[chosen[i]];
    }
    return loss;
  }

  /** The least loss by trying everything; infinite if nothing fits. */
  private static double bruteForce(List<Knapsack.Item> items, int from, long capacity) {
    if (capacity < 0) {
      return Double.POSITIVE_INFINITY;
    }
    if (from == items.size()) {
      return 0;
    }
    Knapsack.Item item = items.get(from);
    double least = Double.POSITIVE_INFINITY;
    for (int i = 0; i < item.sizes().length; i++) {
      least = Math.min(least, item.losses()[i] + bruteForce(items, from + 1, capacity - item.sizes()[i]));
    }
    return least;
  }

  @Test
  void equalsBruteForce() {
    Random random = new Random(1);
    int infeasible = 0;
    for (int trial = 0; trial < 300; trial++) {
      List<Knapsack.Item> items = new ArrayList<>();
      for (int i = random.nextInt(6); i >= 0; i--) {
        items.add(item(random, 1 + random.nextInt(5), 1 + random.nextInt(1000)));
      }
      long capacity = random.nextInt(2500);
      double expected = bruteForce(items, 0, capacity);
      Optional<int[]> chosen = Knapsack.solve(items, capacity);
      assertEquals(expected < Double.POSITIVE_INFINITY, chosen.isPresent());
      if (chosen.isPresent()) {
        assertTrue(size(items, chosen.get()) <= capacity);
        assertEquals(expected, loss(items, chosen.get()), 1e-12);
      } else {
        infeasible++;
      }
    }
    assertTrue(infeasible > 10 && infeasible < 200, infeasible + " infeasible ones");
  }

  @Test
  void comesCloseToTheLowerBoundOfLargeProblems() {
    Random random = new Random(2);
    List<Knapsack.Item> items = new ArrayList<>();
    for (int i = 0; i < 150; i++) {
      // Sizes without a common divisor, of a model of some billion weights.
      items.add(tensor(random, 1_000_003L * (1 + random.nextInt(50))));
    }
    long weights =
      items
        .stream()
        .mapToLong(i -> i.sizes()[BITS.length - 1])
        .sum() /
      2;
    for (double bits : new double[] { 2.8, 4.25, 6 }) {
      long capacity = (long) (weights * bits) / 8;
      int[] chosen = Knapsack.solve(items, capacity).orElseThrow();
      assertTrue(size(items, chosen) <= capacity);
      assertTrue(size(items, chosen) >= 0.998 * capacity);
      double bound = lowerBound(items, capacity);
      double loss = loss(items, chosen);
      assertTrue(loss >= bound && loss <= 1.002 * bound, bits + " bits: loss " + loss + ", bound " + bound);
    }
  }

  /** The Lagrangian bound: for any price of a byte, no choice loses less than the cheapest one minus the price of the capacity. */
  private static double lowerBound(List<Knapsack.Item> items, long capacity) {
    double best = 0;
    for (double price = 1e-16; price < 1; price *= 1.02) {
      double sum = -price * capacity;
      for (Knapsack.Item item : items) {
        double least = Double.POSITIVE_INFINITY;
        for (int i = 0; i < item.sizes().length; i++) {
          least = Math.min(least, item.losses()[i] + price * item.sizes()[i]);
        }
        sum += least;
      }
      best = Math.max(best, sum);
    }
    return best;
  }

  @Test
  void neverLosesMoreWithMoreRoom() {
    Random random = new Random(3);
    for (int trial = 0; trial < 2; trial++) {
      List<Knapsack.Item> items = new ArrayList<>();
      for (int i = 0; i < 6; i++) {
        items.add(tensor(random, 1L + random.nextInt(2) * 9_999_991L + random.nextInt(5000)));
      }
      long smallest = items
        .stream()
        .mapToLong(i -> i.sizes()[0])
        .sum();
      double last = Double.POSITIVE_INFINITY;
      for (
        long capacity = smallest;
        capacity < 8 * smallest;
        capacity += 1 + random.nextInt((int) (smallest / 100) + 1)
      ) {
        int[] chosen = Knapsack.solve(items, capacity).orElseThrow();
        assertTrue(size(items, chosen) <= capacity);
        double loss = loss(items, chosen);
        assertTrue(loss <= last + 1e-12, loss + " after " + last);
        last = loss;
      }
      assertEquals(0, last);
    }
  }

  @Test
  void takesWhatLosesNothingOnlyOnce() {
    Knapsack.Item item = new Knapsack.Item(new long[] { 30, 10, 20, 40 }, new double[] { 0, 5, 0, 0 });
    assertArrayEquals(new int[] { 2 }, Knapsack.solve(List.of(item), 100).orElseThrow());
    assertArrayEquals(new int[] { 1 }, Knapsack.solve(List.of(item), 19).orElseThrow());
    assertTrue(Knapsack.solve(List.of(item), 9).isEmpty());
  }

  @Test
  void leavesOutOptionsOfInfiniteLoss() {
    double none = Double.POSITIVE_INFINITY;
    Knapsack.Item item = new Knapsack.Item(new long[] { 1, 2 }, new double[] { none, 3 });
    assertArrayEquals(new int[] { 1 }, Knapsack.solve(List.of(item), 2).orElseThrow());
    assertTrue(Knapsack.solve(List.of(item), 1).isEmpty());
    assertTrue(Knapsack.solve(List.of(new Knapsack.Item(new long[] { 1 }, new double[] { none })), 1).isEmpty());
  }

  @Test
  void solvesTheEmptyProblem() {
    assertArrayEquals(new int[0], Knapsack.solve(List.of(), 0).orElseThrow());
    assertTrue(Knapsack.solve(List.of(), -1).isEmpty());
  }
}
