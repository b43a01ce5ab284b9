package dev.attar.quant;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorType;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Types given tensor by tensor, by something that knows more of them than their names.
 *
 * @param types by name of the tensor; a tensor that is not {@link Recipe#allows allowed} to change stays as it is
 * @param metadata says in the file how they were found: {@code attar.quantize.*} keys, written in place of {@code attar.quantize.type}
 */
public record ChosenTypes(Map<String, TensorType> types, Map<String, MetadataValue> metadata) {
  public ChosenTypes {
    types = Map.copyOf(types);
    metadata = Collections.unmodifiableMap(new LinkedHashMap<>(metadata));
  }
}
