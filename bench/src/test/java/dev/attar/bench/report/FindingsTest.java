package dev.attar.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.junit.jupiter.api.Test;

class FindingsTest {

  @Test
  void namesTheSmallestVariantNearTheBase() {
    assertEquals(
      "Q5_K_M keeps 96.4 % of the top tokens at 36 % of the size: the smallest variant whose perplexity is within 1 % of the base's.",
      Findings.of(Comparisons.of(6)).getFirst()
    );
  }

  @Test
  void saysWhenNoneIsNear() {
    assertEquals(
      "A keeps 93.7 % of the top tokens at 30 % of the size. No variant's perplexity is within 1 % of the base's; its is nearest, " +
        "1.7 % higher than the base's.",
      Findings.of(new Comparisons().variant("A").variant("B").build()).getFirst()
    );
  }

  @Test
  void namesTheFastest() {
    assertTrue(
      Findings.of(Comparisons.of(6)).contains("Q2_K generates fastest: 2.97 times the base's 14.7 tokens per second.")
    );
  }

  @Test
  void namesThoseThatAreBeaten() {
    // Of the first nine, Q5_1 is larger than Q5_K_M and further from the base; Q5_0 is as large as Q5_K_S.
    assertTrue(Findings.of(Comparisons.of(8)).contains("Q5_1 is larger than Q5_K_M and further from the base."), () ->
      Findings.of(Comparisons.of(8)).toString()
    );
  }

  @Test
  void tellsOfFailuresFirst() {
    List<String> findings = Findings.of(new Comparisons().variants(2).failed("x", "m").failed("y", "m").build());
    assertEquals("x and y could not be measured.", findings.getFirst());
    assertEquals(List.of("x could not be measured."), Findings.of(new Comparisons().failed("x", "m").build()));
  }

  @Test
  void sumsUpASingleModel() {
    assertEquals(1, Findings.of(Comparisons.of(0)).size());
    assertTrue(
      Findings.of(Comparisons.of(0)).getFirst().startsWith("16.01 bits per weight, perplexity 7.71 ± 0.049, ")
    );
  }
}
