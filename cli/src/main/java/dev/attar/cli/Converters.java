package dev.attar.cli;

import dev.attar.formats.TensorType;
import dev.attar.quant.TensorTypeRule;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.Arrays;
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
