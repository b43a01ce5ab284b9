package dev.attar.formats.safetensors;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/**
 * One of the files that a checkpoint's tensors are shared out to.
 *
 * @param file the name of the file
 * @param tensors what is in it
 */
public record SafetensorsShard(String file, List<SafetensorsWriter.Entry> tensors) {
  /** What transformers takes for a file at most, in bytes of tensors. */
  public static final long MAX_BYTES = 5_000_000_000L;

  /** The file that says which tensor is in which file, if there are several. */
  public static final String INDEX = "model.safetensors.index.json";

  public SafetensorsShard {
    tensors = List.copyOf(tensors);
  }

  /**
   * Shares tensors out in their order, as many to a file as fit, and names the files as transformers does: {@code model.safetensors},
   * or {@code model-00001-of-00003.safetensors} and so on.
   *
   * @param maxBytes how many bytes of tensors may be in a file; a larger tensor has a file of its own
   */
  public static List<SafetensorsShard> split(List<SafetensorsWriter.Entry> tensors, long maxBytes) {
    List<List<SafetensorsWriter.Entry>> parts = new ArrayList<>();
    List<SafetensorsWriter.Entry> part = new ArrayList<>();
    long bytes = 0;
    for (SafetensorsWriter.Entry tensor : tensors) {
      if (!part.isEmpty() && tensor.bytes() > maxBytes - bytes) {
        parts.add(part);
        part = new ArrayList<>();
        bytes = 0;
      }
      part.add(tensor);
      bytes += tensor.bytes();
    }
    parts.add(part);
    if (parts.size() == 1) {
      return List.of(new SafetensorsShard("model.safetensors", part));
    }
    List<SafetensorsShard> shards = new ArrayList<>();
    for (List<SafetensorsWriter.Entry> content : parts) {
      String name = String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", shards.size() + 1, parts.size());
      shards.add(new SafetensorsShard(name, content));
    }
    return shards;
  }

  /** What {@link #INDEX} says. */
  public static ObjectNode index(List<SafetensorsShard> shards) {
    long bytes = 0;
    Map<String, String> files = new TreeMap<>();
    for (SafetensorsShard shard : shards) {
      for (SafetensorsWriter.Entry tensor : shard.tensors) {
        files.put(tensor.name(), shard.file);
        bytes += tensor.bytes();
      }
    }
    ObjectNode index = JsonNodeFactory.instance.objectNode();
    index.putObject("metadata").put("total_size", bytes);
    files.forEach(index.putObject("weight_map")::put);
    return index;
  }
}
