package dev.attar.formats;

import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalLong;

/** A model's metadata: GGUF keys with their values, in the order of the file. Immutable; {@link #with} and the builder make new ones. */
public final class Metadata {

  private final Map<String, MetadataValue> values;

  private Metadata(Map<String, MetadataValue> values) {
    this.values = Collections.unmodifiableMap(values);
  }

  /** Metadata with these entries, in the map's order. */
  public static Metadata of(Map<String, MetadataValue> values) {
    return new Metadata(new LinkedHashMap<>(values));
  }

  /** All entries in order. */
  public Map<String, MetadataValue> values() {
    return values;
  }

  /** The value of a key. */
  public Optional<MetadataValue> get(String key) {
    return Optional.ofNullable(values.get(key));
  }

  /** The value of a key if it is a string. */
  public Optional<String> string(String key) {
    return get(key).map(MetadataValue::value).filter(String.class::isInstance).map(String.class::cast);
  }

  /** The value of a key if it is an integer of any width. */
  public OptionalLong integer(String key) {
    return values.get(key) instanceof MetadataValue v && v.value() instanceof Long n
      ? OptionalLong.of(n)
      : OptionalLong.empty();
  }

  /** The value of a key if it is a number of any type. */
  public OptionalDouble number(String key) {
    return values.get(key) instanceof MetadataValue v && v.value() instanceof Number n
      ? OptionalDouble.of(n.doubleValue())
      : OptionalDouble.empty();
  }

  /** {@code general.architecture}; empty if there is none. */
  public String architecture() {
    return string("general.architecture").orElse("");
  }

  /** A copy with one key set: in its old place if it was there, at the end otherwise. */
  public Metadata with(String key, MetadataValue value) {
    Map<String, MetadataValue> copy = new LinkedHashMap<>(values);
    copy.put(key, value);
    return new Metadata(copy);
  }

  /** A copy without one key. */
  public Metadata without(String key) {
    Map<String, MetadataValue> copy = new LinkedHashMap<>(values);
    copy.remove(key);
    return new Metadata(copy);
  }

  @Override
  public boolean equals(Object other) {
    return other instanceof Metadata that && values.equals(that.values);
  }

  @Override
  public int hashCode() {
    return values.hashCode();
  }

  @Override
  public String toString() {
    return values.toString();
  }
}
