package dev.attar.distill.student;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class TrainedModelTest {

  private static final Path CHECKPOINTS = Path.of("../formats/src/test/resources/checkpoints");

  @TempDir
  private Path folder;

  private final Map<String, float[]> values = new HashMap<>();

  /** The entries of a student's tensors, all but those that are not trained. */
  private static List<SafetensorsWriter.Entry> entries(Model student) {
    List<SafetensorsWriter.Entry> entries = new ArrayList<>();
    for (Tensor tensor : student.tensors()) {
      if (!tensor.info().name().equals("rope_freqs.weight")) {
        entries.add(TrainedModel.entry(tensor.info()));
      }
    }
    return entries;
  }

  /** Writes made-up weights and remembers them. */
  private Path write(String name, List<SafetensorsWriter.Entry> entries) throws IOException {
    Path file = folder.resolve(name + ".safetensors");
    Random random = new Random(31);
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, entries)) {
      for (SafetensorsWriter.Entry entry : writer.tensors()) {
        float[] own = new float[(int) (entry.bytes() / entry.type().bytes())];
        ByteBuffer bytes = ByteBuffer.allocate((int) entry.bytes()).order(ByteOrder.LITTLE_ENDIAN);
        for (int i = 0; i < own.length; i++) {
          own[i] = (float) random.nextGaussian();
          if (entry.type() == ElementType.F32) {
            bytes.putFloat(own[i]);
          }
        }
        values.put(entry.name(), own);
        writer.write(bytes.array(), 0, bytes.capacity());
      }
      writer.finish();
    }
    return file;
  }

  /** To the nearest number with 8 bits of precision; to the even one of two that are as near. */
  private static float rounded(float value) {
    int bits = Float.floatToRawIntBits(value);
    int rest = bits & 0xFFFF;
    int upper = bits >>> 16;
    if (rest > 0x8000 || (rest == 0x8000 && (upper & 1) == 1)) {
      upper++;
    }
    return Float.intBitsToFloat(upper << 16);
  }

  private static float[] map(float[] values, TensorType type) {
    float[] out = values.clone();
    for (int i = 0; i < out.length; i++) {
      out[i] = switch (type) {
        case BF16 -> rounded(values[i]);
        case F16 -> Float.float16ToFloat(Float.floatToFloat16(values[i]));
        default -> values[i];
      };
    }
    return out;
  }

  @Test
  void hasTheValuesInTheTypesOfTheStudent() throws Exception {
    try (Model sample = Models.open(CHECKPOINTS.resolve("qwen3"))) {
      Path weights = write("best", entries(sample));
      Map<String, MetadataValue> settings = Map.of("attar.distill.steps", MetadataValue.uint32(7));
      Model student = new MemoryModel(
        sample.metadata().with("attar.distill.seed", MetadataValue.uint32(1)),
        List.copyOf(sample.tensors())
      );
      try (TrainedModel model = TrainedModel.open(student, weights, false, settings)) {
        assertTrue(model.files().contains(weights));
        assertEquals(
          sample.metadata().with("attar.distill.steps", MetadataValue.uint32(7)),
          model.metadata(),
          "what an earlier training said is gone"
        );
        assertEquals(sample.tensors().size(), model.tensors().size());
        for (int i = 0; i < model.tensors().size(); i++) {
          Tensor tensor = model.tensors().get(i);
          TensorInfo info = tensor.info();
          assertEquals(sample.tensors().get(i).info(), info);
          assertEquals(info.shape().length == 1 ? TensorType.F32 : TensorType.BF16, info.type());
          assertArrayEquals(map(values.get(info.name()), info.type()), MemoryModel.values(tensor), info.name());
        }
        assertFalse(values.containsKey("output.weight"), "the head is tied");
        Tensor queries = MemoryModel.tensor(model, "blk.1.attn_q.weight");
        float[] expected = map(values.get("blk.1.attn_q.weight"), TensorType.BF16);
        IntStream.range(0, 47)
          .parallel()
          .forEach(row -> {
            float[] some = new float[2 * 32 + 1];
            try {
              queries.decodeRows(row, 2, some, 1);
            } catch (IOException e) {
              throw new UncheckedIOException(e);
            }
            assertArrayEquals(Arrays.copyOfRange(expected, 32 * row, 32 * row + 64), Arrays.copyOfRange(some, 1, 65));
          });
      }
      try (TrainedModel model = TrainedModel.open(student, weights, true, Map.of())) {
        for (Tensor tensor : model.tensors()) {
          assertEquals(TensorType.F32, tensor.info().type());
          assertArrayEquals(values.get(tensor.info().name()), MemoryModel.values(tensor));
        }
      }
    }
  }

  @Test
  void quantizedStudentsBecomeHalves() throws Exception {
    MemoryModel student = MemoryModel.copy(MemoryModel.read(CHECKPOINTS.resolve("qwen3")), TensorType.Q8_0);
    try (TrainedModel model = TrainedModel.open(student, write("best", entries(student)), false, Map.of())) {
      Tensor gate = MemoryModel.tensor(model, "blk.0.ffn_gate.weight");
      assertEquals(TensorType.F16, gate.info().type());
      assertArrayEquals(map(values.get("blk.0.ffn_gate.weight"), TensorType.F16), MemoryModel.values(gate));
      assertEquals(TensorType.F32, MemoryModel.tensor(model, "output_norm.weight").info().type());
    }
  }

  /** Biases, permuted rows, frequencies that are no weights, a head of its own, and a vocabulary that was cut. */
  @Test
  void goesThroughAFolderAndBack() throws Exception {
    for (String name : List.of("llama3-bpe", "qwen2-yarn", "mistral")) {
      Path checkpoint = CHECKPOINTS.resolve(name);
      try (Model whole = Models.open(checkpoint)) {
        Model student = TruncatedVocabulary.of(whole, SharedVocabulary.withoutPadding(whole));
        Path weights = write(name, entries(student));
        Path out = folder.resolve(name);
        try (TrainedModel model = TrainedModel.open(student, weights, name.equals("mistral"), Map.of())) {
          HuggingFaceWriter.write(model, checkpoint, new int[] { 0, 1 }, out, true, (_, _, _) -> {}, _ -> {});
          try (Model again = Models.open(out)) {
            assertEquals(model.tensors().size(), again.tensors().size());
            for (Tensor tensor : model.tensors()) {
              Tensor other = MemoryModel.tensor(again, tensor.info().name());
              assertEquals(tensor.info(), other.info());
              assertArrayEquals(MemoryModel.bytes(tensor), MemoryModel.bytes(other), name + tensor.info());
            }
            assertEquals(model.metadata().get("tokenizer.ggml.tokens"), again.metadata().get("tokenizer.ggml.tokens"));
          }
        }
      }
    }
  }

  @Test
  void filesOfOtherStudents() throws Exception {
    try (Model student = Models.open(CHECKPOINTS.resolve("qwen3"))) {
      List<SafetensorsWriter.Entry> entries = entries(student);
      SafetensorsWriter.Entry norm = entry(entries, "output_norm.weight");
      SafetensorsWriter.Entry row = new SafetensorsWriter.Entry(norm.name(), norm.type(), List.of(1L, 32L));
      TrainedModel.open(student, write("row", replaced(entries, norm, row)), false, Map.of()).close();

      SafetensorsWriter.Entry down = entry(entries, "blk.1.ffn_down.weight");
      SafetensorsWriter.Entry turned = new SafetensorsWriter.Entry(down.name(), down.type(), List.of(48L, 32L));
      String message = "tensor blk.1.ffn_down.weight: found F32 [48, 32], expected F32 [32, 48]";
      assertRefused(student, write("turned", replaced(entries, down, turned)), message);

      SafetensorsWriter.Entry half = new SafetensorsWriter.Entry(norm.name(), ElementType.F16, norm.shape());
      message = "tensor output_norm.weight: found F16 [32], expected F32 [32]";
      assertRefused(student, write("half", replaced(entries, norm, half)), message);

      SafetensorsWriter.Entry other = new SafetensorsWriter.Entry("projection", norm.type(), norm.shape());
      message = "tensor output_norm.weight of " + student.source() + " is missing";
      assertRefused(student, write("other", replaced(entries, norm, other)), message);

      List<SafetensorsWriter.Entry> more = new ArrayList<>(entries);
      more.add(other);
      message = "tensor projection is not one of " + student.source();
      assertRefused(student, write("more", more), message);
    }
  }

  private static SafetensorsWriter.Entry entry(List<SafetensorsWriter.Entry> entries, String name) {
    return entries
      .stream()
      .filter(entry -> entry.name().equals(name))
      .findFirst()
      .orElseThrow();
  }

  private static List<SafetensorsWriter.Entry> replaced(
    List<SafetensorsWriter.Entry> entries,
    SafetensorsWriter.Entry one,
    SafetensorsWriter.Entry other
  ) {
    return entries
      .stream()
      .map(entry -> entry == one ? other : entry)
      .toList();
  }

  private static void assertRefused(Model student, Path weights, String message) {
    DistillException e = assertThrows(DistillException.class, () ->
      TrainedModel.open(student, weights, false, Map.of())
    );
    assertEquals(weights + ": " + message, e.getMessage());
  }
}
