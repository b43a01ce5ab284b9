package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;

class HealthTest {

  @Test
  void manyHighLossesInARowAreADivergence() {
    Health health = new Health(0.5);
    health.see(2);
    assertEquals(4.5, health.most());
    for (int i = 1; i < Health.PATIENCE; i++) {
      health.see(4.6);
      assertTrue(health.isHigh());
    }
    assertFalse(health.hasDiverged());
    health.see(4.5);
    assertFalse(health.isHigh());
    for (int i = 1; i <= Health.PATIENCE; i++) {
      assertFalse(health.hasDiverged());
      health.see(9);
    }
    assertTrue(health.hasDiverged());
  }
}
