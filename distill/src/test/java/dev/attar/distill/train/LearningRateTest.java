package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.OptionalInt;
import org.junit.jupiter.api.Test;

class LearningRateTest {

  private static final LearningRate RATE = new LearningRate(8e-4, 4, 0.25);

  private static void assertRate(double expected, LearningRate rate, int step, int steps) {
    assertEquals(expected, rate.at(step, OptionalInt.of(steps)), 1e-12, "step " + step);
  }

  @Test
  void risesAndFallsAlongACosine() {
    assertRate(2e-4, RATE, 1, 12);
    assertRate(6e-4, RATE, 3, 12);
    assertRate(8e-4, RATE, 4, 12);
    assertRate(8e-4, RATE, 5, 12);
    // A quarter of the way: 0.25 + 0.75 (1 + cos 45°) / 2.
    assertRate(8e-4 * (0.25 + (0.75 * (1 + Math.sqrt(0.5))) / 2), RATE, 7, 12);
    assertRate(8e-4 * (0.25 + 0.75 / 2), RATE, 9, 12);
    assertRate(8e-4 * (0.25 + (0.75 * (1 - Math.sqrt(0.5))) / 2), RATE, 11, 12);
    assertRate(2e-4, RATE, 13, 12);
    assertRate(2e-4, RATE, 100, 12);
    assertRate(1, new LearningRate(1, 0, 0), 1, 2);
    assertRate(0.5, new LearningRate(1, 0, 0), 2, 2);
  }

  @Test
  void aRiseMayBeLongerThanTraining() {
    assertRate(4e-4, RATE, 2, 2);
    assertRate(8e-4, RATE, 4, 4);
  }

  @Test
  void staysAtItsHighestUntilTheNumberOfStepsIsKnown() {
    assertEquals(2e-4, RATE.at(1, OptionalInt.empty()), 1e-12);
    assertEquals(8e-4, RATE.at(5, OptionalInt.empty()), 1e-12);
    assertEquals(8e-4, RATE.at(5000, OptionalInt.empty()), 1e-12);
  }
}
