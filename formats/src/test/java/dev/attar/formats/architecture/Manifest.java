package dev.attar.formats.architecture;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;

/**
 * What a converter wrote for a checkpoint: {@code metadata} with the type and value of each key, arrays of more than 64 by length
 * and digest; {@code tensors} with name, type, shape and digest of the bytes.
 */
final class Manifest {

  private final ObjectNode expected;

  private Manifest(ObjectNode expected) {
    this.expected = expected;
  }

  static Manifest read(Path file) throws IOException {
    return new Manifest(JsonFiles.object(file));
  }

  /** Demands that a model, written in the manifest's file type, has the same metadata and tensors. */
  void assertEqualTo(Model model) throws IOException {
    int fileType = expected.path("metadata").path("general.file_type").path("value").intValue();
    OutputType type = Arrays.stream(OutputType.values())
      .filter(t -> t.fileType() == fileType)
      .findFirst()
      .orElseThrow();
    assertEquals(expectedMetadata(), actualMetadata(model, type));
    assertEquals(
      metadataOrder(expected.path("metadata").propertyStream().map(Map.Entry::getKey).toList()),
      metadataOrder(List.copyOf(model.metadata().values().keySet()))
    );
    assertEquals(expectedTensors(), actualTensors(model, type));
  }

  private static List<String> metadataOrder(List<String> keys) {
    return keys
      .stream()
      .filter(key -> !isDescription(key))
      .filter(key -> !key.startsWith("tokenizer.chat_template"))
      .toList();
  }

  /** Keys that depend on the folder's name. */
  private static boolean isDescription(String key) {
    return Set.of(
      "general.name",
      "general.size_label",
      "general.version",
      "general.finetune",
      "general.basename"
    ).contains(key);
  }

  private Map<String, JsonNode> expectedMetadata() {
    Map<String, JsonNode> metadata = new TreeMap<>();
    for (Map.Entry<String, JsonNode> entry : expected.path("metadata").properties()) {
      if (!isDescription(entry.getKey())) {
        metadata.put(entry.getKey(), sortedNames(entry.getKey(), entry.getValue()));
      }
    }
    return metadata;
  }

  private static Map<String, JsonNode> actualMetadata(Model model, OutputType type) {
    Map<String, JsonNode> metadata = new TreeMap<>();
    model
      .metadata()
      .values()
      .forEach((key, value) -> {
        if (!isDescription(key)) {
          boolean fileType = key.equals("general.file_type");
          JsonNode json = json(fileType ? MetadataValue.uint32(type.fileType()) : value);
          metadata.put(key, sortedNames(key, json));
        }
      });
    return metadata;
  }

  /** The reference writes the names of chat templates in no particular order. */
  private static JsonNode sortedNames(String key, JsonNode value) {
    if (!key.equals("tokenizer.chat_templates")) {
      return value;
    }
    Set<String> names = new TreeSet<>();
    value.path("value").forEach(name -> names.add(name.textValue()));
    ObjectNode sorted = value.deepCopy();
    ArrayNode array = sorted.putArray("value");
    names.forEach(array::add);
    return sorted;
  }

  private static JsonNode json(MetadataValue value) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    String type = value.type().name().toLowerCase(Locale.ROOT);
    if (value.type() == MetadataValue.Type.ARRAY) {
      node.put("type", "array[" + value.elementType().name().toLowerCase(Locale.ROOT) + "]");
      if (value.length() > 64) {
        node.put("length", value.length()).put("sha256", sha256(packed(value)));
      } else {
        ArrayNode array = node.putArray("value");
        switch (value.value()) {
          case String[] strings -> Arrays.stream(strings).forEach(array::add);
          case long[] longs -> Arrays.stream(longs).forEach(n -> array.add((int) n));
          case float[] floats -> {
            for (float f : floats) {
              array.add((double) f);
            }
          }
          default -> throw new AssertionError(value);
        }
      }
      return node;
    }
    node.put("type", type);
    switch (value.value()) {
      case String s -> node.put("value", s);
      case Long n -> node.put("value", n.intValue());
      case Float f -> node.put("value", (double) f);
      case Boolean b -> node.put("value", b);
      default -> throw new AssertionError(value);
    }
    return node;
  }

  private static byte[] packed(MetadataValue value) {
    ByteBuffer buffer = switch (value.value()) {
      case String[] strings -> {
        byte[][] utf8 = Arrays.stream(strings)
          .map(s -> s.getBytes(StandardCharsets.UTF_8))
          .toArray(byte[][]::new);
        ByteBuffer out = little(
          Arrays.stream(utf8)
            .mapToInt(bytes -> 8 + bytes.length)
            .sum()
        );
        for (byte[] bytes : utf8) {
          out.putLong(bytes.length).put(bytes);
        }
        yield out;
      }
      case long[] longs -> {
        ByteBuffer out = little(4 * longs.length);
        Arrays.stream(longs).forEach(n -> out.putInt((int) n));
        yield out;
      }
      case float[] floats -> {
        ByteBuffer out = little(4 * floats.length);
        for (float f : floats) {
          out.putFloat(f);
        }
        yield out;
      }
      default -> throw new AssertionError(value);
    };
    return bytes(buffer);
  }

  private static byte[] bytes(ByteBuffer buffer) {
    byte[] bytes = new byte[buffer.position()];
    buffer.flip().get(bytes);
    return bytes;
  }

  private static ByteBuffer little(int bytes) {
    return ByteBuffer.allocate(bytes).order(ByteOrder.LITTLE_ENDIAN);
  }

  private Map<String, String> expectedTensors() {
    Map<String, String> tensors = new TreeMap<>();
    for (JsonNode tensor : expected.path("tensors")) {
      String shape = String.join(" x ", tensor.path("shape").valueStream().map(JsonNode::asText).toList());
      String text = tensor.path("type").asText() + " [" + shape + "] " + tensor.path("sha256").asText();
      tensors.put(tensor.path("name").asText(), text);
    }
    return tensors;
  }

  private static Map<String, String> actualTensors(Model model, OutputType type) throws IOException {
    Map<String, String> tensors = new TreeMap<>();
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      TensorType target = type.typeOf(info);
      String digest = sha256(encode(tensor, target));
      tensors.put(info.name(), target + " [" + info.shapeText() + "] " + digest);
    }
    return tensors;
  }

  private static byte[] encode(Tensor tensor, TensorType target) throws IOException {
    TensorInfo info = tensor.info();
    int rows = Math.toIntExact(info.rows());
    if (target == info.type()) {
      byte[] bytes = new byte[Math.toIntExact(info.bytes())];
      tensor.readRows(0, rows, bytes, 0);
      return bytes;
    }
    float[] values = new float[Math.toIntExact(info.elements())];
    tensor.decodeRows(0, rows, values, 0);
    ByteBuffer out = little(Math.toIntExact(info.withType(target).bytes()));
    for (float value : values) {
      switch (target) {
        case F32 -> out.putFloat(value);
        case F16 -> out.putShort(Float.floatToFloat16(value));
        case BF16 -> {
          int bits = Float.floatToRawIntBits(value);
          out.putShort((short) ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16));
        }
        default -> throw new AssertionError(target);
      }
    }
    return bytes(out);
  }

  static String sha256(byte[] bytes) {
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }
}
