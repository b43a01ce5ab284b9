package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;

class TimeBudgetTest {

  private static final long SECOND = 1_000_000_000L;

  // A clock may begin anywhere.
  private final AtomicLong clock = new AtomicLong(-5 * SECOND);

  @Test
  void countsTheRunsBefore() {
    TimeBudget time = new TimeBudget(clock::get, clock.get(), 30, Optional.of(Duration.ofSeconds(100)));
    assertEquals(70, time.left(), 1e-9);
    clock.addAndGet(8 * SECOND);
    assertEquals(38, time.seconds(), 1e-9);
    assertEquals(62, time.left(), 1e-9);
    clock.addAndGet(100 * SECOND);
    assertEquals(-38, time.left(), 1e-9);
    assertEquals(Double.POSITIVE_INFINITY, new TimeBudget(clock::get, clock.get(), 1e9, Optional.empty()).left());
  }

  @Test
  void estimatesTheStepsThatThereIsTimeFor() {
    TimeBudget time = new TimeBudget(clock::get, clock.get(), 0, Optional.of(Duration.ofSeconds(100)));
    assertFalse(time.canEstimate(7, 50));
    assertFalse(time.canEstimate(1000, 4.9));
    assertTrue(time.canEstimate(8, 5));
    clock.addAndGet(50 * SECOND);
    assertEquals(22, time.estimate(5, 2)); // (0.98 * 50 - 5) / 2
    assertEquals(1, time.estimate(60, 2));
    assertTrue(time.estimate(0, 0) > 1_000_000);
  }
}
