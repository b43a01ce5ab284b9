package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TextTest {

  @ParameterizedTest
  @CsvSource(
    {
      "0, 0 B",
      "999, 999 B",
      "1000, 1.00 kB",
      "6824448, 6.82 MB",
      "99960000, 100 MB",
      "999499999, 999 MB",
      "999500000, 1.00 GB",
      "9223372036854775807, 9.22 EB"
    }
  )
  void sizesHaveThreeDigits(long bytes, String text) {
    assertEquals(text, Text.size(bytes));
  }

  @ParameterizedTest
  @CsvSource({ "0.5, 0.50 s", "9.996, 10.0 s", "59.94, 59.9 s", "125, 2:05 min" })
  void times(double seconds, String text) {
    assertEquals(text, Text.seconds(seconds));
  }

  @Test
  void nothingThatCommandsATerminalGetsThrough() {
    assertEquals("\\u001b[2J\\r\\n\\tx", Text.escape("\u001b[2J\r\n\tx"));
    assertEquals("\\u202eabc", Text.escape("\u202eabc"));
    assertEquals("caf\\xe9 \\ud800", Text.escape("caf\udce9 \ud800"));
    assertEquals("Grüße, 世界 \ud83d\ude00", Text.escape("Grüße, 世界 \ud83d\ude00"));
  }
}
