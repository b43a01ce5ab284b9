package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class WindowOrderTest {

  @Test
  void everyEpochHasEveryWindowOnceInAnOrderOfItsOwn() {
    Set<String> orders = new HashSet<>();
    for (long seed : new long[] { 0, 1, 2, -1 }) {
      WindowOrder order = new WindowOrder(50, seed);
      for (int epoch = 0; epoch < 20; epoch++) {
        int[] windows = order.batch(50L * epoch, 50);
        orders.add(Arrays.toString(windows));
        Arrays.sort(windows);
        assertArrayEquals(IntStream.range(0, 50).toArray(), windows);
      }
    }
    assertEquals(80, orders.size());
  }

  @Test
  void anyPositionIsFoundAgain() {
    int[] all = new WindowOrder(7, 3).batch(0, 100);
    WindowOrder order = new WindowOrder(7, 3);
    for (int position : new int[] { 90, 0, 41, 6, 13, 5 }) {
      assertArrayEquals(Arrays.copyOfRange(all, position, position + 10), order.batch(position, 10));
    }
    // Beyond what fits an int.
    assertArrayEquals(order.batch(7L << 40, 7), new WindowOrder(7, 3).batch(7L << 40, 7));
    assertFalse(Arrays.equals(order.batch(7L << 40, 7), order.batch(0, 7)));
  }

  @Test
  void windowsComeAtAnyPlaceEquallyOften() {
    int[] first = new int[5];
    WindowOrder order = new WindowOrder(5, 42);
    for (int epoch = 0; epoch < 5000; epoch++) {
      first[order.batch(5L * epoch, 1)[0]]++;
    }
    for (int count : first) {
      assertEquals(1000, count, 130); // more than four standard deviations
    }
  }
}
