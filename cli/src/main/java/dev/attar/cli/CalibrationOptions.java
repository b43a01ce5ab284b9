package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;

/** Options of the commands that run a model only to measure what enters its layers. */
final class CalibrationOptions extends CalibrationTexts {

  @Option(names = "--ctx", paramLabel = "N", description = "Tokens in a window of the texts (default: 512).")
  private Integer context;

  @Option(
    names = "--timeout",
    paramLabel = "SECONDS",
    description = "Give the model up if it shows no sign of life for so long (default: 600)."
  )
  private Integer timeout;

  /**
   * How to measure.
   *
   * @param threads how many compute
   * @throws ParameterException if a value is out of range
   */
  Calibration calibration(int threads) {
    int window = Usage.range(command(), "--ctx", context, Calibrator.DEFAULT_CONTEXT, 2, Calibrator.MOST_CONTEXT);
    int seconds = Usage.range(command(), "--timeout", timeout, MeasureOptions.DEFAULT_TIMEOUT, 1, Integer.MAX_VALUE);
    return new Calibration(texts(), tokens(window), window, threads, Duration.ofSeconds(seconds));
  }

  @Override
  List<String> dependent() {
    List<String> given = new ArrayList<>(super.dependent());
    if (context != null) {
      given.add("--ctx");
    }
    if (timeout != null) {
      given.add("--timeout");
    }
    return given;
  }
}
