package dev.attar.formats;

import java.util.Arrays;
import java.util.List;

/**
 * One value of a model's metadata, in GGUF's types.
 *
 * <p>{@link #value()} holds, by type: every integer type {@link Long} (UINT64 as its two's complement bits); FLOAT32 {@link Float};
 * FLOAT64 {@link Double}; BOOL {@link Boolean}; STRING {@link String}; ARRAY, by its element type, {@code long[]}, {@code float[]},
 * {@code double[]}, {@code boolean[]}, {@code String[]} or, for arrays of arrays, {@code MetadataValue[]}.
 *
 * <p>Text that is not valid UTF-8 survives a round trip: each undecodable byte {@code b} is held as the lone surrogate {@code U+DC00
 * + b}.
 *
 * @param type the type of the value
 * @param elementType the type of the elements of an array; {@code null} for anything else
 * @param value see above; arrays are not copied and must not be changed
 */
public record MetadataValue(Type type, Type elementType, Object value) {
  /** GGUF's value types; {@link #id()} is the number in the file. */
  public enum Type {
    UINT8(0, 1),
    INT8(1, 1),
    UINT16(2, 2),
    INT16(3, 2),
    UINT32(4, 4),
    INT32(5, 4),
    FLOAT32(6, 4),
    BOOL(7, 1),
    STRING(8, 0),
    ARRAY(9, 0),
    UINT64(10, 8),
    INT64(11, 8),
    FLOAT64(12, 8);

    private final int id;
    private final int bytes;

    Type(int id, int bytes) {
      this.id = id;
      this.bytes = bytes;
    }

    /** The number of this type in a GGUF file. */
    public int id() {
      return id;
    }

    /** Bytes of one value in a file; 0 for strings and arrays, whose length varies. */
    public int bytes() {
      return bytes;
    }

    /** Whether values are whole numbers. */
    public boolean isInteger() {
      return switch (this) {
        case UINT8, INT8, UINT16, INT16, UINT32, INT32, UINT64, INT64 -> true;
        default -> false;
      };
    }
  }

  /** Checks that the parts fit together. */
  public MetadataValue {
    Class<?> expected = switch (type) {
      case FLOAT32 -> Float.class;
      case FLOAT64 -> Double.class;
      case BOOL -> Boolean.class;
      case STRING -> String.class;
      case ARRAY -> switch (elementType) {
        case FLOAT32 -> float[].class;
        case FLOAT64 -> double[].class;
        case BOOL -> boolean[].class;
        case STRING -> String[].class;
        case ARRAY -> MetadataValue[].class;
        default -> long[].class;
      };
      default -> Long.class;
    };
    if (!expected.isInstance(value) || (type == Type.ARRAY) != (elementType != null)) {
      throw new IllegalArgumentException("not a value of " + type + ": " + value);
    }
  }

  /** A 32-bit unsigned integer. */
  public static MetadataValue uint32(long value) {
    if (value < 0 || value > 0xFFFF_FFFFL) {
      throw new IllegalArgumentException("not an unsigned 32-bit integer: " + value);
    }
    return new MetadataValue(Type.UINT32, null, value);
  }

  /** A 32-bit signed integer. */
  public static MetadataValue int32(int value) {
    return new MetadataValue(Type.INT32, null, (long) value);
  }

  /** A 64-bit unsigned integer, given by its bits. */
  public static MetadataValue uint64(long bits) {
    return new MetadataValue(Type.UINT64, null, bits);
  }

  /** A single-precision number. */
  public static MetadataValue float32(float value) {
    return new MetadataValue(Type.FLOAT32, null, value);
  }

  /** A truth value. */
  public static MetadataValue bool(boolean value) {
    return new MetadataValue(Type.BOOL, null, value);
  }

  /** A string. */
  public static MetadataValue string(String value) {
    return new MetadataValue(Type.STRING, null, value);
  }

  /** An array of strings. */
  public static MetadataValue strings(List<String> values) {
    return new MetadataValue(Type.ARRAY, Type.STRING, values.toArray(String[]::new));
  }

  /** An array of single-precision numbers. */
  public static MetadataValue float32s(float[] values) {
    return new MetadataValue(Type.ARRAY, Type.FLOAT32, values);
  }

  /** An array of 32-bit signed integers. */
  public static MetadataValue int32s(int[] values) {
    return new MetadataValue(Type.ARRAY, Type.INT32, Arrays.stream(values).asLongStream().toArray());
  }

  /** Number of elements of an array; 1 for anything else. */
  public int length() {
    return type == Type.ARRAY ? java.lang.reflect.Array.getLength(value) : 1;
  }

  /** Value equality; arrays by their elements. */
  @Override
  public boolean equals(Object other) {
    return (
      other instanceof MetadataValue that &&
      type == that.type &&
      elementType == that.elementType &&
      Arrays.deepEquals(new Object[] { value }, new Object[] { that.value })
    );
  }

  @Override
  public int hashCode() {
    return 31 * type.hashCode() + Arrays.deepHashCode(new Object[] { value });
  }

  /** The value as text; long arrays by their length. */
  @Override
  public String toString() {
    if (type != Type.ARRAY) {
      return value.toString();
    }
    if (length() > 16) {
      return elementType.name().toLowerCase(java.util.Locale.ROOT) + "[" + length() + "]";
    }
    String all = Arrays.deepToString(new Object[] { value });
    return all.substring(1, all.length() - 1);
  }
}
