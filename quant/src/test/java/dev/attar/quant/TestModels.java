package dev.attar.quant;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.function.Consumer;

/** A GGUF file with given or random weights, and an importance matrix for it. */
public final class TestModels {

  private final Map<String, MetadataValue> metadata = new LinkedHashMap<>();
  private final List<TensorInfo> infos = new ArrayList<>();
  private final List<byte[]> bytes = new ArrayList<>();
  private final Random random = new Random(7);

  public TestModels() {
    metadata.put("general.architecture", MetadataValue.string("llama"));
    with("llama.block_count", MetadataValue.uint32(2));
    with("llama.context_length", MetadataValue.uint32(128));
    with("llama.embedding_length", MetadataValue.uint32(256));
    with("llama.attention.head_count", MetadataValue.uint32(4));
    with("llama.attention.head_count_kv", MetadataValue.uint32(4));
    with("llama.attention.layer_norm_rms_epsilon", MetadataValue.float32(1e-5f));
    with("llama.vocab_size", MetadataValue.uint32(64));
  }

  public TestModels with(String key, MetadataValue value) {
    metadata.put(key, value);
    return this;
  }

  /** Adds a tensor of normally distributed values. */
  public TestModels tensor(String name, TensorType type, long... shape) {
    return tensor(name, type, _ -> {}, shape);
  }

  /** Adds a tensor of normally distributed values that are changed before they are encoded. */
  public TestModels tensor(String name, TensorType type, Consumer<float[]> change, long... shape) {
    TensorInfo info = new TensorInfo(name, type, shape);
    float[] values = new float[(int) info.elements()];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian() * 0.05f;
    }
    change.accept(values);
    byte[] encoded = new byte[(int) info.bytes()];
    BlockEncoders.of(type)
      .orElseThrow()
      .encode(values, 0, (int) info.rowLength(), (int) info.rows(), null, 0, encoded, 0);
    infos.add(info);
    bytes.add(encoded);
    return this;
  }

  public Path write(Path file) throws IOException {
    try (GgufWriter writer = GgufWriter.create(file, Metadata.of(metadata), infos, true)) {
      for (int i = 0; i < infos.size(); i++) {
        writer.write(i, 0, bytes.get(i), 0, bytes.get(i).length);
      }
      writer.commit();
    }
    return file;
  }

  /** Weights for every matrix, from 0.1 to 2.1. */
  public Map<String, float[]> importance() {
    Map<String, float[]> all = new LinkedHashMap<>();
    for (TensorInfo info : infos) {
      if (info.rank() > 1) {
        float[] weights = new float[(int) (info.rowLength() * info.dimension(2))];
        for (int i = 0; i < weights.length; i++) {
          weights[i] = 0.1f + 2 * random.nextFloat();
        }
        all.put(info.name(), weights);
      }
    }
    return all;
  }

  /** Writes an importance matrix in the older form. */
  public static Path write(Path file, Map<String, float[]> importance) throws IOException {
    int size = 4;
    for (Map.Entry<String, float[]> entry : importance.entrySet()) {
      size += 12 + entry.getKey().length() + Float.BYTES * entry.getValue().length;
    }
    ByteBuffer out = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN).putInt(importance.size());
    for (Map.Entry<String, float[]> entry : importance.entrySet()) {
      byte[] name = entry.getKey().getBytes(StandardCharsets.UTF_8);
      out.putInt(name.length).put(name).putInt(1).putInt(entry.getValue().length);
      for (float weight : entry.getValue()) {
        out.putFloat(weight);
      }
    }
    Files.write(file, Arrays.copyOf(out.array(), out.position()));
    return file;
  }
}
