package dev.attar.bench;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * What a model's file says of itself. Text is as it stands in the file, control characters included.
 *
 * @param title {@code general.name}, or the file's name
 * @param architecture {@code general.architecture}; empty if the metadata does not say
 * @param bytes size of the file; of all parts of a split one; adapters included
 * @param parameters number of weights
 * @param bitsPerWeight bits of tensor data per weight; adapters included, by the size of their files
 * @param layers number of layers; 0 if the metadata does not say
 * @param context length that the model was trained for; 0 if the metadata does not say
 * @param types number of tensors by type, {@code Q4_K} to 24, the type with most bytes first
 * @param history the {@code attar.*} metadata, then {@code quantize.imatrix.*}, each in the order of the file: how the model was made
 */
public record ModelFacts(
  String title,
  String architecture,
  long bytes,
  long parameters,
  double bitsPerWeight,
  int layers,
  long context,
  Map<String, Integer> types,
  Map<String, String> history
) {
  private static final List<String> HISTORY = List.of("attar.", "quantize.imatrix.");
  private static final int MAX_TEXT = 200;

  public ModelFacts {
    types = Collections.unmodifiableMap(new LinkedHashMap<>(types));
    history = Collections.unmodifiableMap(new LinkedHashMap<>(history));
  }

  /** The tensors of one type. */
  private record Total(int tensors, long bytes) {
    Total plus(TensorInfo tensor) {
      return new Total(tensors + 1, bytes + tensor.bytes());
    }
  }

  /**
   * Reads them.
   *
   * @param model GGUF or Hugging Face
   * @param adapters files that are applied to it
   * @throws IOException if the size of a file cannot be read
   */
  public static ModelFacts of(Model model, List<Path> adapters) throws IOException {
    Metadata metadata = model.metadata();
    long adapterBytes = size(adapters);
    long parameters = 0;
    long tensorBytes = 0;
    Map<TensorType, Total> types = new EnumMap<>(TensorType.class);
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      parameters += info.elements();
      tensorBytes += info.bytes();
      types.put(info.type(), types.getOrDefault(info.type(), new Total(0, 0)).plus(info));
    }
    String architecture = metadata.architecture();
    long layers = metadata.integer(architecture + ".block_count").orElse(0);
    return new ModelFacts(
      title(model),
      architecture,
      size(model.files()) + adapterBytes,
      parameters,
      parameters == 0 ? 0 : (8.0 * (tensorBytes + adapterBytes)) / parameters,
      layers == (int) layers ? (int) Math.max(0, layers) : 0,
      Math.max(0, metadata.integer(architecture + ".context_length").orElse(0)),
      counts(types),
      history(metadata)
    );
  }

  private static long size(List<Path> files) throws IOException {
    long bytes = 0;
    for (Path file : files) {
      bytes += Files.size(file);
    }
    return bytes;
  }

  private static String title(Model model) {
    Path file = model.source().toAbsolutePath().normalize().getFileName();
    return model
      .metadata()
      .string("general.name")
      .filter(name -> !name.isBlank())
      .map(ModelFacts::brief)
      .orElse(file == null ? "" : file.toString());
  }

  private static Map<String, Integer> counts(Map<TensorType, Total> types) {
    List<Map.Entry<TensorType, Total>> entries = new ArrayList<>(types.entrySet());
    entries.sort(Comparator.comparing(entry -> -entry.getValue().bytes()));
    Map<String, Integer> counts = new LinkedHashMap<>();
    entries.forEach(entry -> counts.put(entry.getKey().name(), entry.getValue().tensors()));
    return counts;
  }

  private static Map<String, String> history(Metadata metadata) {
    Map<String, String> history = new LinkedHashMap<>();
    for (String prefix : HISTORY) {
      metadata
        .values()
        .forEach((key, value) -> {
          if (key.startsWith(prefix)) {
            history.put(key, text(value));
          }
        });
    }
    return history;
  }

  private static String text(MetadataValue value) {
    return value.type() == MetadataValue.Type.UINT64
      ? Long.toUnsignedString((long) value.value())
      : brief(value.toString());
  }

  private static String brief(String text) {
    if (text.length() <= MAX_TEXT) {
      return text;
    }
    int end = Character.isHighSurrogate(text.charAt(MAX_TEXT - 1)) ? MAX_TEXT - 1 : MAX_TEXT;
    return text.substring(0, end) + "…";
  }
}
