package dev.attar.prune;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class AmountTest {

  @ParameterizedTest
  @CsvSource(
    { "0.5, 0.5", "0.50, 0.5", ".25, 0.25", "1e-1, 0.1", "2:4, 0.5", "4:8, 0.5", "1:4, 0.75", "31:32, 0.03125" }
  )
  void isReadAsUsersWriteIt(String text, double part) {
    assertEquals(part, Amount.parse(text).part());
    assertEquals(Amount.parse(text), Amount.parse(Amount.parse(text).toString()));
  }

  @ParameterizedTest
  @CsvSource(
    {
      "0", "1", "-0.5", "1.5", "NaN", "half", "50%", "''", "0:4", "4:4", "5:4", "2:3", "2:64", "2:", "2:4:8", "99999:4"
    }
  )
  void whatLeavesNothingOrAllIsRefused(String text) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Amount.parse(text));
    assertTrue(e.getMessage().contains(", expected "), e.getMessage());
  }

  @Test
  void saysWhatIsWrong() {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, () -> Amount.parse("50%"));
    assertEquals("'50%' is no sparsity, expected a part, 0.5, or a pattern, 2:4", e.getMessage());
  }
}
