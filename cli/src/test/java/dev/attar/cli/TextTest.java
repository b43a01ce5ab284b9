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

  @ParameterizedTest
  @CsvSource(
    {
      "20.12345, 0.0342, 20.123 ± 0.034",
      "20.12345, 0.0996, 20.12 ± 0.10",
      "1234.4, 120, 1234 ± 120",
      "0.012344, 0.00012, 0.01234 ± 0.00012",
      "98.7, 0, 98.70",
      "-0.5, 0.25, -0.50 ± 0.25",
      "3.14159, NaN, 3.142"
    }
  )
  void valuesShowTheDigitsThatAreKnown(double value, double error, String text) {
    assertEquals(text, Text.estimate(value, error));
  }

  @ParameterizedTest
  @CsvSource(
    {
      "0, 0",
      "1234.5, 1230",
      "12.345, 12.3",
      "0.00012345, 0.000123",
      "0.00000000123456, 1.23e-09",
      "1e12, 1.00e+12",
      "Infinity, infinite",
      "NaN, unknown"
    }
  )
  void numbersHaveThreeDigits(double value, String text) {
    assertEquals(text, Text.number(value, 3));
  }

  @Test
  void nothingThatCommandsATerminalGetsThrough() {
    assertEquals("\\u001b[2J\\r\\n\\tx", Text.escape("\u001b[2J\r\n\tx"));
    assertEquals("\\u202eabc", Text.escape("\u202eabc"));
    assertEquals("caf\\xe9 \\ud800", Text.escape("caf\udce9 \ud800"));
    assertEquals("Grüße, 世界 \ud83d\ude00", Text.escape("Grüße, 世界 \ud83d\ude00"));
  }
}
