package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.time.Duration;
import java.time.Duration;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine.TypeConversionException;

class ConvertersTest {

  @ParameterizedTest
  @CsvSource(
    { "0, 0", "1500, 1500", "2k, 2048", "1500M, 1572864000", "3G, 3221225472", "1.5g, 1610612736", "7.3M, 7654604" }
  )
  void sizes(String word, long bytes) {
    assertEquals(new ByteSize(bytes, word), new Converters.Size().convert(word));
  }

  @Test
  void theLargestSizeIsNoSmallOne() {
    assertEquals(Long.MAX_VALUE, new Converters.Size().convert("999999999999T").bytes());
  }

  @ParameterizedTest
  @ValueSource(strings = { "", "G", "-1G", "3GB", "1.G", "3 G", "1e9", "9999999999999" })
  void noSizes(String word) {
    assertThrows(TypeConversionException.class, () -> new Converters.Size().convert(word));
  }

  @ParameterizedTest
  @CsvSource({ "90s, 90", "30m, 1800", "1h30m, 5400", "2H, 7200", "1h1s, 3601" })
  void times(String word, long seconds) {
    assertEquals(Duration.ofSeconds(seconds), new Converters.Time().convert(word));
  }

  @ParameterizedTest
  @ValueSource(strings = { "", "30", "0m", "1m1h", "-1s", "1.5h", "m" })
  void noTimes(String word) {
    assertThrows(TypeConversionException.class, () -> new Converters.Time().convert(word));
  }
}
