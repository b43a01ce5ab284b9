package dev.attar.formats.adapter;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/** An adapter to be written, of random factors. */
final class TestAdapter {

  private final SplittableRandom random = new SplittableRandom(3);
  private final Map<String, MetadataValue> metadata = new LinkedHashMap<>();
  private final Map<String, TensorInfo> infos = new LinkedHashMap<>();
  private final Map<String, float[]> values = new LinkedHashMap<>();

  /** One for a Llama with alpha 8. */
  TestAdapter() {
    with("general.architecture", MetadataValue.string("llama"));
    with("general.type", MetadataValue.string("adapter"));
    with("adapter.type", MetadataValue.string("lora"));
    with("adapter.lora.alpha", MetadataValue.float32(8));
  }

  TestAdapter with(String key, MetadataValue value) {
    metadata.put(key, value);
    return this;
  }

  /** A tensor in single precision, {@code shape} in GGUF's order. */
  TestAdapter tensor(String name, long... shape) {
    return tensor(name, TensorType.F32, shape);
  }

  TestAdapter tensor(String name, TensorType type, long... shape) {
    TensorInfo info = new TensorInfo(name, type, shape);
    float[] some = new float[(int) info.elements()];
    for (int i = 0; i < some.length; i++) {
      some[i] = random.nextFloat() - 0.5f;
    }
    infos.put(name, info);
    values.put(name, some);
    return this;
  }

  float[] values(String name) {
    return values.get(name);
  }

  private static byte[] encode(TensorInfo info, float[] values) {
    byte[] bytes = new byte[(int) info.bytes()];
    BlockEncoders.scalar(info.type())
      .orElseThrow()
      .encode(values, 0, (int) info.rowLength(), (int) info.rows(), null, 0, bytes, 0);
    return bytes;
  }

  /** Writes it as llama.cpp has it. */
  Path gguf(Path file) throws IOException {
    List<TensorInfo> all = List.copyOf(infos.values());
    try (GgufWriter writer = GgufWriter.create(file, Metadata.of(metadata), all, true)) {
      for (int i = 0; i < all.size(); i++) {
        byte[] bytes = encode(all.get(i), values.get(all.get(i).name()));
        writer.write(i, 0, bytes, 0, bytes.length);
      }
      writer.commit();
    }
    return file;
  }

  /** Writes it as PEFT does, with these settings in JSON. */
  Path peft(Path folder, String settings) throws IOException {
    Files.createDirectories(folder);
    Files.writeString(folder.resolve("adapter_config.json"), settings);
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    for (TensorInfo info : infos.values()) {
      List<Long> shape = new ArrayList<>();
      for (long dimension : info.shape()) {
        shape.addFirst(dimension);
      }
      ElementType type = ElementType.byName(info.type().name()).orElseThrow();
      entries.add(new SafetensorsWriter.Entry(info.name(), type, shape));
    }
    Path file = folder.resolve("adapter_model.safetensors");
    Files.deleteIfExists(file);
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, entries)) {
      for (SafetensorsWriter.Entry entry : writer.tensors()) {
        byte[] bytes = encode(infos.get(entry.name()), values.get(entry.name()));
        writer.write(bytes, 0, bytes.length);
      }
      writer.finish();
    }
    return folder;
  }

  /** Writes a model as a GGUF file. */
  static Path write(Model model, Path file) throws IOException {
    List<TensorInfo> all = new ArrayList<>();
    model.tensors().forEach(tensor -> all.add(tensor.info()));
    try (GgufWriter writer = GgufWriter.create(file, model.metadata(), all, false)) {
      for (int i = 0; i < all.size(); i++) {
        Tensor tensor = model.tensors().get(i);
        byte[] bytes = new byte[(int) all.get(i).bytes()];
        tensor.readRows(0, (int) all.get(i).rows(), bytes, 0);
        writer.write(i, 0, bytes, 0, bytes.length);
      }
      writer.commit();
    }
    return file;
  }
}
