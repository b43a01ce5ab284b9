package dev.attar.prune.structure;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.MetadataValue.Type;
import dev.attar.prune.PruneException;
import java.util.Arrays;
import java.util.Optional;

/**
 * A number that metadata give once for all layers, or for each layer.
 *
 * @param values for each layer, from 0 to {@link #MOST}
 * @param array whether it is given for each layer
 * @param type the integer type in which it is given
 */
record PerLayer(int[] values, boolean array, Type type) {
  /** More of anything is refused: beyond every model, and small enough that products of two fit a long. */
  static final int MOST = 1 << 24;

  /**
   * Reads it.
   *
   * @param model what to call the model in messages
   * @return empty if there is no such key
   * @throws PruneException if it is no whole number, or one out of range, or not as many as there are layers
   */
  static Optional<PerLayer> read(String model, Metadata metadata, String key, int layers) throws PruneException {
    MetadataValue value = metadata.get(key).orElse(null);
    if (value == null) {
      return Optional.empty();
    }
    int[] all = new int[layers];
    if (value.value() instanceof Long one) {
      Arrays.fill(all, checked(model, key, one));
      return Optional.of(new PerLayer(all, false, value.type()));
    }
    if (!(value.value() instanceof long[] each) || each.length != layers) {
      throw new PruneException(
        model + ": " + key + ": found " + value + ", expected a whole number, or one for each of " + layers + " layers"
      );
    }
    for (int i = 0; i < layers; i++) {
      all[i] = checked(model, key, each[i]);
    }
    return Optional.of(new PerLayer(all, true, value.elementType()));
  }

  private static int checked(String model, String key, long value) throws PruneException {
    if (value < 0 || value > MOST) {
      throw new PruneException(model + ": " + key + ": found " + value + ", expected 0 to " + MOST);
    }
    return (int) value;
  }

  /** The same with the values of other layers. */
  PerLayer with(int[] others) {
    return new PerLayer(others, array, type);
  }

  /** Whether it can be given as it was: for each layer, or once for all. */
  boolean fits() {
    return array || isUniform();
  }

  /** As metadata: one number if it was one and all are the same, a list otherwise. */
  MetadataValue value() {
    if (!array && isUniform()) {
      return new MetadataValue(type, null, (long) values[0]);
    }
    long[] all = Arrays.stream(values).asLongStream().toArray();
    return new MetadataValue(Type.ARRAY, type, all);
  }

  private boolean isUniform() {
    return Arrays.stream(values).distinct().count() <= 1;
  }
}
