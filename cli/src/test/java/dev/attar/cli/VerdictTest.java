package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Optional;
import java.util.OptionalDouble;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class VerdictTest {

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "0.0456 | 0.0123 | plain   | plain quantization has KL divergence 0.0123, base + adapter 0.0456: plain quantization is better (3.7 times less)",
      "0.01   | 0.02   | lowrank | plain quantization has KL divergence 0.0200, base + adapter 0.0100: base + adapter is better (2 times less)",
      "0.01   | 0.01   | neither | plain quantization has KL divergence 0.0100, base + adapter 0.0100: no difference",
      "0.0    | 0.01   | lowrank | plain quantization has KL divergence 0.0100, base + adapter 0: base + adapter is better",
      "       | 0.01   | unknown | plain quantization has KL divergence 0.0100, base + adapter could not be measured",
      "0.01   |        | unknown | plain quantization could not be measured, base + adapter 0.0100"
    }
  )
  void saysWhichIsBetter(Double divergence, Double plain, String better, String line) {
    Verdict verdict = new Verdict(12_340_000, "base + adapter", of(divergence), of(plain), Optional.empty());
    assertEquals(better, verdict.better());
    assertEquals("at 12.3 MB: " + line, verdict.line());
    assertEquals(line, ((String) verdict.json().get("verdict")).substring("at 12.3 MB: ".length()));
  }

  @Test
  void saysWhyThereIsNothingToCompareWith() {
    Optional<String> obstacle = Optional.of("no smaller than the model itself, which takes 5.00 kB");
    Verdict verdict = new Verdict(6000, "x", OptionalDouble.of(0.5), OptionalDouble.empty(), obstacle);
    assertEquals("unknown", verdict.better());
    assertEquals(
      "at 6.00 kB: no smaller than the model itself, which takes 5.00 kB; x has KL divergence 0.5",
      verdict.line()
    );
  }

  private static OptionalDouble of(Double value) {
    return value == null ? OptionalDouble.empty() : OptionalDouble.of(value);
  }
}
