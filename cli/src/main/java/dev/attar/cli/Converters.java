package dev.attar.cli;

import dev.attar.formats.TensorType;
import dev.attar.lowrank.Metric;
import dev.attar.prune.Amount;
import dev.attar.quant.TensorTypeRule;
import java.math.BigDecimal;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.Locale;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import picocli.CommandLine.ITypeConverter;
import picocli.CommandLine.TypeConversionException;

/** From words of the command line to values. */
final class Converters {

  private Converters() {}

  /** The name of a file or folder. */
  static final class Name implements ITypeConverter<Path> {

    @Override
    public Path convert(String word) {
      if (word.isEmpty()) {
        throw new TypeConversionException("an empty name, expected the name of a file or folder");
      }
      try {
        return Path.of(word);
      } catch (InvalidPathException e) {
        throw new TypeConversionException("'" + word + "' is no name of a file (" + e.getReason() + ")");
      }
    }
  }

  /** A number of bytes, {@code 1500M} or {@code 3G}, in powers of 1024. */
  static final class Size implements ITypeConverter<ByteSize> {

    private static final String UNITS = "KMGT";
    private static final Pattern FORM = Pattern.compile(
      "(\\d{1,12}(?:\\.\\d{1,6})?)([" + UNITS + "]?)",
      Pattern.CASE_INSENSITIVE
    );

    @Override
    public ByteSize convert(String word) {
      Matcher matcher = FORM.matcher(word);
      if (!matcher.matches()) {
        throw new TypeConversionException("'" + word + "' is no size, expected a form of 1500M or 3G");
      }
      int unit = matcher.group(2).isEmpty() ? 0 : 1 + UNITS.indexOf(matcher.group(2).toUpperCase(Locale.ROOT));
      BigDecimal bytes = new BigDecimal(matcher.group(1)).multiply(BigDecimal.valueOf(1L << (10 * unit)));
      return new ByteSize(bytes.min(BigDecimal.valueOf(Long.MAX_VALUE)).longValue(), word);
    }
  }

  /** A number that may have decimals. */
  static final class Decimal implements ITypeConverter<Double> {

    @Override
    public Double convert(String word) {
      try {
        return Double.valueOf(word);
      } catch (NumberFormatException _) {
        throw new TypeConversionException("'" + word + "' is no number, expected a number above 0");
      }
    }
  }

  /** A time, {@code 90s}, {@code 30m} or {@code 1h30m}. */
  static final class Time implements ITypeConverter<Duration> {

    private static final Pattern FORM = Pattern.compile(
      "(?:(\\d{1,5})h)?(?:(\\d{1,5})m)?(?:(\\d{1,7})s)?",
      Pattern.CASE_INSENSITIVE
    );

    @Override
    public Duration convert(String word) {
      Matcher matcher = FORM.matcher(word);
      Duration time = matcher.matches()
        ? Duration.ofHours(part(matcher, 1)).plusMinutes(part(matcher, 2)).plusSeconds(part(matcher, 3))
        : Duration.ZERO;
      if (!time.isPositive()) {
        throw new TypeConversionException("'" + word + "' is no time, expected a form of 90s, 30m or 1h30m");
      }
      return time;
    }

    private static int part(Matcher matcher, int group) {
      return matcher.group(group) == null ? 0 : Integer.parseInt(matcher.group(group));
    }
  }

  /** A factor, {@code 1.3} or {@code 1.3x}. */
  static final class Times implements ITypeConverter<Double> {

    @Override
    public Double convert(String word) {
      return new Decimal().convert(word.endsWith("x") ? word.substring(0, word.length() - 1) : word);
    }
  }

  /** How many weights are removed: {@code 0.5}, {@code 2:4}. */
  static final class Sparse implements ITypeConverter<Amount> {

    @Override
    public Amount convert(String word) {
      try {
        return Amount.parse(word);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }

  /** What a factorization keeps small: {@code svd}, {@code activation}. */
  static final class MetricWord implements ITypeConverter<Metric> {

    @Override
    public Metric convert(String word) {
      return Arrays.stream(Metric.values())
        .filter(metric -> metric.word().equalsIgnoreCase(word))
        .findFirst()
        .orElseThrow(() -> new TypeConversionException("unknown method '" + word + "', expected svd or activation"));
    }
  }

  /** A tensor type by its name. */
  static final class Type implements ITypeConverter<TensorType> {

    @Override
    public TensorType convert(String word) {
      return TensorType.byName(word)
        .filter(TensorType::isFloat)
        .orElseThrow(() ->
          new TypeConversionException("unknown tensor type '" + word + "', expected one of " + known())
        );
    }

    private static String known() {
      return Arrays.stream(TensorType.values())
        .filter(TensorType::isFloat)
        .map(TensorType::name)
        .collect(Collectors.joining(", "));
    }
  }

  /** An adapter and its scale, {@code FILE:SCALE}. */
  static final class Scaled implements ITypeConverter<ScaledAdapter> {

    @Override
    public ScaledAdapter convert(String word) {
      int colon = word.lastIndexOf(':');
      if (colon < 1) {
        throw new TypeConversionException("'" + word + "' has no scale, expected ADAPTER:SCALE");
      }
      String scale = word.substring(colon + 1);
      try {
        float value = Float.parseFloat(scale);
        if (Float.isFinite(value)) {
          return new ScaledAdapter(new Name().convert(word.substring(0, colon)), value);
        }
      } catch (NumberFormatException _) {
        // Told below.
      }
      throw new TypeConversionException("the scale '" + scale + "' of '" + word + "' is no number");
    }
  }

  /** A rule {@code REGEX=TYPE}. */
  static final class Rule implements ITypeConverter<TensorTypeRule> {

    @Override
    public TensorTypeRule convert(String word) {
      try {
        return TensorTypeRule.parse(word);
      } catch (IllegalArgumentException e) {
        throw new TypeConversionException(e.getMessage());
      }
    }
  }
}
