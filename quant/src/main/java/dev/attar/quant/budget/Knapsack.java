package dev.attar.quant.budget;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.stream.IntStream;

/**
 * The multiple-choice knapsack problem: of each item take one option, so that the sizes sum up to at most a capacity and the losses to
 * the least.
 *
 * <p>A dynamic program over the items keeps, for each total size, the choice of least loss. Sizes are told apart to a {@link #CELLS}th
 * of their whole range, or exactly where their common divisor allows; within a cell the exact size goes along, so no rounding adds up
 * and the capacity is never exceeded. What is kept for a size does not depend on the capacity: more of it never gives more loss.
 */
final class Knapsack {

  /** How many total sizes are told apart. */
  private static final int CELLS = 1 << 17;

  /**
   * The options of one item.
   *
   * @param sizes not negative
   * @param losses as many; not negative, infinite for an option that is none
   */
  record Item(long[] sizes, double[] losses) {
    Item {
      if (sizes.length != losses.length) {
        throw new IllegalArgumentException(sizes.length + " sizes, " + losses.length + " losses");
      }
    }

    /** The options worth taking, from the smallest to the largest: each loses less than all before it. */
    int[] efficient() {
      List<Integer> kept = new ArrayList<>();
      double least = Double.POSITIVE_INFINITY;
      Comparator<Integer> order = Comparator.comparingLong((Integer i) -> sizes[i]).thenComparingDouble(i -> losses[i]);
      for (int i : IntStream.range(0, sizes.length).boxed().sorted(order).toList()) {
        if (losses[i] < least) {
          least = losses[i];
          kept.add(i);
        }
      }
      return kept.stream().mapToInt(Integer::intValue).toArray();
    }
  }

  private final List<Item> items;
  private final int[][] options;
  /** What an option takes beyond the smallest one of its item. */
  private final long[][] extras;
  /** What may be taken beyond the smallest options. */
  private final long room;
  private final long cell;
  private final int cells;

  private Knapsack(List<Item> items, long capacity) {
    this.items = items;
    options = items.stream().map(Item::efficient).toArray(int[][]::new);
    extras = new long[options.length][];
    long left = capacity;
    long span = 0;
    long divisor = 0;
    for (int i = 0; i < options.length; i++) {
      long[] sizes = items.get(i).sizes;
      long smallest = options[i].length == 0 ? 0 : sizes[options[i][0]];
      extras[i] = Arrays.stream(options[i])
        .mapToLong(option -> sizes[option] - smallest)
        .toArray();
      for (long extra : extras[i]) {
        divisor = gcd(divisor, extra);
      }
      span += extras[i].length == 0 ? 0 : extras[i][extras[i].length - 1];
      left -= smallest;
    }
    room = Math.min(left, span);
    cell = Math.max(Math.max(1, divisor), Math.ceilDiv(span, CELLS));
    // A cell that is only in part within the room would keep other totals than one that is wholly: it counts only if it holds a single
    // total, or if there are no greater ones.
    boolean whole = cell == divisor || room == span;
    cells = Math.toIntExact(Math.max(1, whole ? room / cell + 1 : (room + 1) / cell));
  }

  /**
   * Solves a problem.
   *
   * @return which option of each item to take; empty if even the smallest ones exceed the capacity, or an item has no option of finite loss
   */
  static Optional<int[]> solve(List<Item> items, long capacity) {
    Knapsack problem = new Knapsack(items, capacity);
    boolean possible = problem.room >= 0 && Arrays.stream(problem.options).noneMatch(o -> o.length == 0);
    return possible ? Optional.of(problem.solve()) : Optional.empty();
  }

  private int[] solve() {
    long[] taken = new long[cells];
    double[] losses = new double[cells];
    Arrays.fill(losses, Double.POSITIVE_INFINITY);
    losses[0] = 0;
    byte[][] choices = new byte[options.length][cells];
    for (int item = 0; item < options.length; item++) {
      long[] nextTaken = new long[cells];
      double[] nextLosses = new double[cells];
      Arrays.fill(nextLosses, Double.POSITIVE_INFINITY);
      for (int c = 0; c < cells; c++) {
        if (losses[c] == Double.POSITIVE_INFINITY) {
          continue;
        }
        for (int option = 0; option < extras[item].length; option++) {
          long total = taken[c] + extras[item][option];
          if (total > room || total / cell >= cells) {
            break;
          }
          int to = (int) (total / cell);
          double loss = losses[c] + items.get(item).losses[options[item][option]];
          if (loss < nextLosses[to]) {
            nextTaken[to] = total;
            nextLosses[to] = loss;
            choices[item][to] = (byte) option;
          }
        }
      }
      removeDominated(nextLosses);
      taken = nextTaken;
      losses = nextLosses;
    }
    // Of what is left, more size means less loss.
    int best = cells - 1;
    while (losses[best] == Double.POSITIVE_INFINITY) {
      best--;
    }
    return choices(choices, taken[best]);
  }

  /** Takes out the sizes at which more is lost than at a smaller one. */
  private static void removeDominated(double[] losses) {
    double least = Double.POSITIVE_INFINITY;
    for (int c = 0; c < losses.length; c++) {
      if (losses[c] < least) {
        least = losses[c];
      } else {
        losses[c] = Double.POSITIVE_INFINITY;
      }
    }
  }

  /** Goes back from a total to the options that it is made of. */
  private int[] choices(byte[][] made, long total) {
    int[] chosen = new int[options.length];
    long left = total;
    for (int item = options.length - 1; item >= 0; item--) {
      int option = made[item][(int) (left / cell)];
      chosen[item] = options[item][option];
      left -= extras[item][option];
    }
    return chosen;
  }

  private static long gcd(long a, long b) {
    return b == 0 ? a : gcd(b, a % b);
  }
}
