package dev.attar.cli;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.MetadataValue.Type;
import java.lang.reflect.Array;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/** Shows metadata values to people and to programs. */
final class MetadataText {

  private static final int MAX_LENGTH = 100;
  private static final int MAX_ELEMENTS = 6;

  private MetadataText() {}

  /** The type as in GGUF's documentation: {@code uint32}, {@code string[4096]}. */
  static String type(MetadataValue value) {
    return value.type() == Type.ARRAY ? name(value.elementType()) + "[" + value.length() + "]" : name(value.type());
  }

  /** The value on one line: long strings and arrays by their beginning. */
  static String brief(MetadataValue value) {
    if (value.type() != Type.ARRAY) {
      return scalar(value.type(), value.value());
    }
    int shown = Math.min(value.length(), MAX_ELEMENTS);
    List<String> elements = new ArrayList<>();
    for (int i = 0; i < shown; i++) {
      Object element = Array.get(value.value(), i);
      elements.add(element instanceof MetadataValue inner ? type(inner) : scalar(value.elementType(), element));
    }
    if (value.length() > shown) {
      elements.add("...");
    }
    return "[" + String.join(", ", elements) + "]";
  }

  /** The whole value as JSON knows it: a string, a number, a boolean or an array of them. */
  static Object json(MetadataValue value) {
    if (value.type() == Type.UINT64) {
      return unsigned((long) value.value());
    }
    if (value.type() != Type.ARRAY) {
      return value.value();
    }
    return switch (value.value()) {
      case long[] numbers when value.elementType() == Type.UINT64 -> {
        List<Object> unsigned = new ArrayList<>(numbers.length);
        for (long number : numbers) {
          unsigned.add(unsigned(number));
        }
        yield unsigned;
      }
      case MetadataValue[] inner -> List.of(inner).stream().map(MetadataText::json).toList();
      default -> value.value();
    };
  }

  private static String scalar(Type type, Object value) {
    return switch (value) {
      case String text -> quoted(text);
      case Long number when type == Type.UINT64 -> Long.toUnsignedString(number);
      default -> value.toString();
    };
  }

  private static String quoted(String text) {
    int end = Math.min(text.length(), MAX_LENGTH);
    return "\"" + Text.escape(text.substring(0, end)) + (end < text.length() ? "...\" (" + text.length() + ")" : "\"");
  }

  private static Object unsigned(long bits) {
    return bits >= 0 ? (Object) bits : new BigInteger(Long.toUnsignedString(bits));
  }

  private static String name(Type type) {
    return type.name().toLowerCase(Locale.ROOT);
  }
}
