package dev.attar.lowrank;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.adapter.LoraAdapter;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsFile;
import dev.attar.formats.safetensors.SafetensorsWriter;
import dev.attar.formats.safetensors.StoredTensor;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaAdapter;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class MergedModelTest {

  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");
  private static final int TOKENS = 24;

  private final SplittableRandom random = new SplittableRandom(17);

  @TempDir
  private Path folder;

  private float[] values(long count) {
    float[] values = new float[Math.toIntExact(count)];
    for (int i = 0; i < values.length; i++) {
      values[i] = random.nextFloat() - 0.5f;
    }
    return values;
  }

  /** Writes a model, its matrices in a type where their rows fit it. */
  private Path write(String name, Model model, TensorType type) throws IOException {
    return MemoryModel.write(MemoryModel.copy(model, type), folder.resolve(name));
  }

  /** Random factors of a rank for some tensors, as llama.cpp has them. */
  private Path adapter(String name, Model base, float alpha, int rank, String... targets) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string(base.metadata().architecture()));
    metadata.put("general.type", MetadataValue.string("adapter"));
    metadata.put("adapter.type", MetadataValue.string("lora"));
    metadata.put("adapter.lora.alpha", MetadataValue.float32(alpha));
    List<TensorInfo> infos = new ArrayList<>();
    for (String target : targets) {
      TensorInfo info = MemoryModel.tensor(base, target).info();
      long in = info.rowLength();
      boolean embedding = target.equals("token_embd.weight");
      long[] a = embedding ? new long[] { rank, info.rows() } : shape(info, in, rank);
      long[] b = embedding ? new long[] { rank, in } : shape(info, rank, info.dimension(1));
      infos.add(new TensorInfo(target + ".lora_a", TensorType.F32, a));
      infos.add(new TensorInfo(target + ".lora_b", TensorType.F32, b));
    }
    List<Tensor> factors = new ArrayList<>();
    infos.forEach(info -> factors.add(MemoryModel.tensor(info, values(info.elements()))));
    return MemoryModel.write(new MemoryModel(Metadata.of(metadata), factors), folder.resolve(name));
  }

  private static long[] shape(TensorInfo like, long... two) {
    long[] shape = like.shape().clone();
    System.arraycopy(two, 0, shape, 0, 2);
    return shape;
  }

  private static float[] logits(Path file, Map<Path, Float> adapters) throws IOException {
    try (
      LlamaModel llama = LlamaModel.open(file, LlamaModel.Options.defaults());
      LlamaContext context = llama.context(new LlamaContext.Options(256, 256, 64, 1, 1));
      Batch batch = new Batch(TOKENS)
    ) {
      List<LlamaAdapter> loaded = new ArrayList<>();
      float[] scales = new float[adapters.size()];
      for (Map.Entry<Path, Float> adapter : adapters.entrySet()) {
        scales[loaded.size()] = adapter.getValue();
        loaded.add(llama.adapter(adapter.getKey()));
      }
      if (!loaded.isEmpty()) {
        context.adapters(loaded, scales);
      }
      for (int i = 0; i < TOKENS; i++) {
        batch.add((31 * i + 5) % context.vocabularySize(), i, 0, true);
      }
      context.decode(batch);
      return context.logits().toArray(JAVA_FLOAT);
    }
  }

  /** The root mean square of the difference, over that of the first. */
  private static double difference(float[] a, float[] b) {
    assertEquals(a.length, b.length);
    double difference = 0;
    double squares = 0;
    for (int i = 0; i < a.length; i++) {
      difference += (a[i] - b[i]) * (double) (a[i] - b[i]);
      squares += a[i] * (double) a[i];
    }
    return Math.sqrt(difference / squares);
  }

  private void assertMergedRunsAlike(String checkpoint, String... targets) throws IOException {
    try (Model source = Models.open(CHECKPOINTS.resolve(checkpoint))) {
      Path file = write("base.gguf", source, TensorType.F32);
      Path first = adapter("first.gguf", source, 3, 4, targets);
      Path second = adapter("second.gguf", source, 0, 2, targets[0], targets[1]);
      try (
        Model base = Models.open(file);
        LoraAdapter one = LoraAdapter.open(first, base);
        LoraAdapter other = LoraAdapter.open(second, base)
      ) {
        Model merged = MergedModel.of(
          base,
          List.of(new MergedModel.Scaled(one, 0.7f), new MergedModel.Scaled(other, -0.2f))
        );
        float[] expected = logits(file, Map.of(first, 0.7f, second, -0.2f));
        float[] actual = logits(write("merged.gguf", merged, TensorType.F32), Map.of());
        assertTrue(difference(logits(file, Map.of()), expected) > 0.05, "the adapters matter");
        double error = difference(expected, actual);
        assertTrue(error < 1e-3, "error " + error);
      }
    }
  }

  @Test
  void aLlamaRunsAsWithItsAdapters() throws IOException {
    assertMergedRunsAlike(
      "llama-f32-hf",
      "token_embd.weight",
      "blk.0.attn_q.weight",
      "blk.1.attn_k.weight",
      "blk.0.attn_v.weight",
      "blk.1.attn_output.weight",
      "blk.0.ffn_gate.weight",
      "blk.0.ffn_up.weight",
      "blk.1.ffn_down.weight",
      "output.weight"
    );
  }

  @Test
  void aMixtureRunsAsWithItsAdapters() throws IOException {
    assertMergedRunsAlike(
      "mixtral",
      "blk.0.ffn_down_exps.weight",
      "blk.1.ffn_gate_exps.weight",
      "blk.1.ffn_up_exps.weight",
      "blk.1.ffn_gate_inp.weight"
    );
  }

  /** A checkpoint to whose own weights the products were added, in its own order, is the same model. */
  @Test
  void anAdapterOfPeftIsAddedInTheOrderOfTheCheckpoint() throws IOException {
    for (String name : List.of("llama-f32-hf", "mixtral", "qwen3")) {
      Path source = CHECKPOINTS.resolve(name);
      Path peft = Files.createDirectory(folder.resolve("peft-" + name));
      Path changed = Files.createDirectory(folder.resolve("changed-" + name));
      try (Stream<Path> files = Files.list(source)) {
        for (Path file : files.toList()) {
          Files.copy(file, changed.resolve(file.getFileName()));
        }
      }
      addInPlace(changed.resolve("model.safetensors"), peft);
      try (
        Model base = Models.open(source);
        Model expected = Models.open(changed);
        LoraAdapter adapter = LoraAdapter.open(peft, base)
      ) {
        Model merged = MergedModel.of(base, List.of(new MergedModel.Scaled(adapter, 2)));
        for (Tensor tensor : expected.tensors()) {
          Tensor other = MemoryModel.tensor(merged, tensor.info().name());
          assertEquals(tensor.info().shapeText(), other.info().shapeText());
          float tolerance = other.info().type() == TensorType.F32 ? 1e-5f : 0.02f;
          assertArrayEquals(
            MemoryModel.values(tensor),
            MemoryModel.values(other),
            tolerance,
            () -> name + ": " + tensor.info()
          );
        }
      }
    }
  }

  /** Adds products to the layers of a checkpoint, in single precision, and writes their factors as PEFT does: rank 2, scale 2 · 1.5. */
  private void addInPlace(Path weights, Path peft) throws IOException {
    Map<String, float[]> contents = new HashMap<>();
    Map<String, float[]> factors = new HashMap<>();
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    List<SafetensorsWriter.Entry> factorEntries = new ArrayList<>();
    try (SafetensorsFile file = SafetensorsFile.open(weights)) {
      for (StoredTensor tensor : file.tensors()) {
        int count = (int) Arrays.stream(tensor.shape()).reduce(1, Math::multiplyExact);
        float[] w = new float[count];
        byte[] raw = tensor.bytes().toArray(ValueLayout.JAVA_BYTE);
        BlockDecoders.of(tensor.type().tensorType().orElseThrow()).decode(raw, 0, w, 0, count);
        if (tensor.name().matches(".*(_proj|experts\\.\\d\\.w[123])\\.weight")) {
          long out = tensor.shape()[0];
          long in = tensor.shape()[1];
          float[] a = values(2 * in);
          float[] b = values(out * 2);
          for (int i = 0; i < out; i++) {
            for (int j = 0; j < in; j++) {
              w[(int) (i * in + j)] += 3 * (b[2 * i] * a[j] + b[2 * i + 1] * a[(int) in + j]);
            }
          }
          String module = "base_model.model." + tensor.name().replace(".weight", "");
          factors.put(module + ".lora_A.weight", a);
          factors.put(module + ".lora_B.weight", b);
          factorEntries.add(new SafetensorsWriter.Entry(module + ".lora_A.weight", ElementType.F32, List.of(2L, in)));
          factorEntries.add(new SafetensorsWriter.Entry(module + ".lora_B.weight", ElementType.F32, List.of(out, 2L)));
        }
        contents.put(tensor.name(), w);
        List<Long> shape = Arrays.stream(tensor.shape()).boxed().toList();
        entries.add(new SafetensorsWriter.Entry(tensor.name(), ElementType.F32, shape));
      }
    }
    Files.delete(weights);
    write(weights, entries, contents);
    write(peft.resolve("adapter_model.safetensors"), factorEntries, factors);
    Files.writeString(
      peft.resolve("adapter_config.json"),
      "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 3, \"fan_in_fan_out\": false}"
    );
  }

  private static void write(Path file, List<SafetensorsWriter.Entry> entries, Map<String, float[]> contents)
    throws IOException {
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, entries)) {
      for (SafetensorsWriter.Entry entry : writer.tensors()) {
        float[] values = contents.get(entry.name());
        ByteBuffer bytes = ByteBuffer.allocate(4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asFloatBuffer().put(values);
        writer.write(bytes.array(), 0, bytes.capacity());
      }
      writer.finish();
    }
  }

  @Test
  void whatIsNotTouchedKeepsItsBytes() throws IOException {
    try (Model source = Models.open(CHECKPOINTS.resolve("llama-f32-hf"))) {
      Path quantized = write("q8_0.gguf", source, TensorType.Q8_0);
      Path file = adapter("a.gguf", source, 4, 4, "blk.0.attn_q.weight");
      try (Model base = Models.open(quantized); LoraAdapter adapter = LoraAdapter.open(file, base)) {
        Model merged = MergedModel.of(base, List.of(new MergedModel.Scaled(adapter, 0.5f)));
        for (Tensor tensor : base.tensors()) {
          Tensor other = MemoryModel.tensor(merged, tensor.info().name());
          if (tensor.info().name().equals("blk.0.attn_q.weight")) {
            assertEquals(tensor.info().withType(TensorType.F16), other.info());
          } else {
            assertEquals(tensor.info(), other.info());
            assertArrayEquals(MemoryModel.bytes(tensor), MemoryModel.bytes(other));
          }
        }
        Model again = MergedModel.of(merged, List.of(new MergedModel.Scaled(adapter, -1)));
        Metadata metadata = again.metadata();
        assertEquals(
          MetadataValue.strings(List.of("a.gguf", "a.gguf")),
          metadata.get("attar.merge.adapters").orElseThrow()
        );
        assertEquals(
          MetadataValue.float32s(new float[] { 0.5f, -1 }),
          metadata.get("attar.merge.scales").orElseThrow()
        );
        assertSame(merged.source(), base.source());
        assertThrows(IllegalArgumentException.class, () -> new MergedModel.Scaled(adapter, Float.NaN));
        try (Model other = Models.open(CHECKPOINTS.resolve("mixtral"))) {
          Path foreign = adapter("b.gguf", other, 4, 4, "blk.0.ffn_gate_inp.weight");
          try (LoraAdapter unfit = LoraAdapter.open(foreign, other)) {
            List<MergedModel.Scaled> wrong = List.of(new MergedModel.Scaled(unfit, 1));
            assertThrows(IllegalArgumentException.class, () -> MergedModel.of(base, wrong));
          }
        }
      }
    }
  }
}
