package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.file.Path;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/** The settings of a checkpoint or an adapter, {@code config.json}, or an object within, whose values are checked as they are read. */
public final class CheckpointConfig {

  private final Path file;
  private final String prefix;
  private final ObjectNode node;

  private CheckpointConfig(Path file, String prefix, ObjectNode node) {
    this.file = file;
    this.prefix = prefix;
    this.node = node;
  }

  /**
   * Reads a file.
   *
   * @throws FormatException if it does not hold one JSON object
   * @throws IOException if it cannot be read
   */
  public static CheckpointConfig read(Path file) throws IOException {
    return new CheckpointConfig(file, "", JsonFiles.object(file));
  }

  /**
   * What is to become a {@code config.json}.
   *
   * @param file what messages name
   */
  static CheckpointConfig of(Path file, ObjectNode node) {
    return new CheckpointConfig(file, "", node);
  }

  /** The file. */
  public Path file() {
    return file;
  }

  /** All values. */
  public ObjectNode json() {
    return node;
  }

  /** Whether there is a value other than {@code null}. */
  public boolean has(String key) {
    return node.hasNonNull(key);
  }

  /** An object within; empty if there is none. */
  public CheckpointConfig object(String key) throws FormatException {
    JsonNode value = node.path(key);
    if (value.isObject()) {
      return new CheckpointConfig(file, prefix + key + ".", (ObjectNode) value);
    }
    if (value.isMissingNode() || value.isNull()) {
      return new CheckpointConfig(file, prefix + key + ".", node.objectNode());
    }
    throw malformed(key, "an object");
  }

  /** A whole number in a range. */
  public long count(String key, long min, long max) throws FormatException {
    if (!has(key)) {
      throw new FormatException(file, prefix + key, "nothing", "a number from " + min + " to " + max);
    }
    JsonNode value = node.get(key);
    if (!value.isIntegralNumber() || !value.canConvertToLong() || value.longValue() < min || value.longValue() > max) {
      throw malformed(key, "a number from " + min + " to " + max);
    }
    return value.longValue();
  }

  /** As {@link #count}, empty if there is none. */
  OptionalLong optionalCount(String key, long min, long max) throws FormatException {
    return has(key) ? OptionalLong.of(count(key, min, max)) : OptionalLong.empty();
  }

  /** A number; empty if there is none. */
  public OptionalDouble number(String key) throws FormatException {
    if (!has(key)) {
      return OptionalDouble.empty();
    }
    JsonNode value = node.get(key);
    if (!value.isNumber() || !Double.isFinite(value.doubleValue())) {
      throw malformed(key, "a number");
    }
    return OptionalDouble.of(value.doubleValue());
  }

  /** A number greater than zero, or the default if there is none. */
  double positive(String key, double otherwise) throws FormatException {
    double value = number(key).orElse(otherwise);
    if (value <= 0) {
      throw malformed(key, "a number above 0");
    }
    return value;
  }

  /** A truth value, or the default if there is none. */
  public boolean flag(String key, boolean otherwise) throws FormatException {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isBoolean()) {
      throw malformed(key, "true or false");
    }
    return node.get(key).booleanValue();
  }

  /** A text, or the default if there is none. */
  public String text(String key, String otherwise) throws FormatException {
    if (!has(key)) {
      return otherwise;
    }
    if (!node.get(key).isTextual()) {
      throw malformed(key, "a text");
    }
    return node.get(key).textValue();
  }

  /** An error about the value of a key. */
  public FormatException malformed(String key, String expected) {
    String found = has(key) ? node.path(key).toString() : "nothing";
    return new FormatException(
      file,
      prefix + key,
      found.length() > 80 ? found.substring(0, 80) + "…" : found,
      expected
    );
  }
}
