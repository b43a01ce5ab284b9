package dev.attar.quant;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.io.InputStream;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * What llama-quantize of llama.cpp v0.5.0 made of one model, one way.
 *
 * @param variant file type and options: {@code Q4_K_M+pure+imatrix}
 * @param refused why it wrote nothing; {@code null} if it did
 * @param metadata the keys that it changed or added
 * @param tensors type and SHA-256 of each tensor in the order of the file
 */
record Reference(String variant, String refused, JsonNode metadata, Map<String, Digest> tensors) {
  record Digest(TensorType type, String sha256) {}

  FileType fileType() {
    return FileType.byName(variant.split("\\+")[0]).orElseThrow();
  }

  boolean pure() {
    return variant.contains("+pure");
  }

  boolean importance() {
    return variant.contains("+imatrix");
  }

  /** Reads a manifest of all variants. */
  static Map<String, Reference> read(InputStream json) throws IOException {
    Map<String, Reference> all = new LinkedHashMap<>();
    for (Map.Entry<String, JsonNode> entry : new ObjectMapper().readTree(json).properties()) {
      JsonNode value = entry.getValue();
      Map<String, Digest> tensors = new LinkedHashMap<>();
      for (Map.Entry<String, JsonNode> tensor : value.path("tensors").properties()) {
        TensorType type = TensorType.byName(tensor.getValue().get(0).asText()).orElseThrow();
        tensors.put(tensor.getKey(), new Digest(type, tensor.getValue().get(1).asText()));
      }
      String refused = value.has("refused") ? value.get("refused").asText() : null;
      all.put(entry.getKey(), new Reference(entry.getKey(), refused, value.path("metadata"), tensors));
    }
    return all;
  }
}
