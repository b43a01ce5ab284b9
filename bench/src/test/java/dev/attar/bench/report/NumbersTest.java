package dev.attar.bench.report;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;

class NumbersTest {

  @Test
  void showsSignificantDigits() {
    assertEquals("0.0123", Numbers.significant(0.01234, 3));
    assertEquals("1235", Numbers.significant(1234.6, 2));
    assertEquals("10.0", Numbers.significant(9.996, 3));
    assertEquals("0.10", Numbers.significant(0.0999, 2));
    assertEquals("0.00", Numbers.significant(0, 3));
    assertEquals("0.000000000", Numbers.significant(1e-300, 3));
    assertEquals("-0.50", Numbers.significant(-0.5, 2));
  }

  @Test
  void showsWhatIsNoNumber() {
    assertEquals("∞", Numbers.significant(Double.POSITIVE_INFINITY, 3));
    assertEquals("-∞", Numbers.fixed(Double.NEGATIVE_INFINITY, 1));
    assertEquals("undefined", Numbers.significant(Double.NaN, 3));
    assertEquals("0.0", Numbers.fixed(-0.01, 1), "no sign before zero");
  }

  @Test
  void showsSizesAndTimes() {
    assertEquals("812 B", Numbers.size(812));
    assertEquals("4.88 MB", Numbers.size(4_875_552));
    assertEquals("1.00 GB", Numbers.size(999_900_000));
    assertEquals("1.10 G", Numbers.rough(1_100_048_384));
    assertEquals("12.4 ms", Numbers.seconds(0.01239));
    assertEquals("2.47 s", Numbers.seconds(2.4706));
    assertEquals("1,234 variants", Numbers.plural(1234, "variant"));
    assertEquals("1 core", Numbers.plural(1, "core"));
  }
}
