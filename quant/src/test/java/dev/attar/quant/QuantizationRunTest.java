package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.llama.Ggml;
import dev.attar.llama.NativeQuantize;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class QuantizationRunTest {

  private static final QuantizationRun.Progress QUIET = (_, _, _) -> {};

  @TempDir
  private Path folder;

  private Path outputs;
  private Path out;

  @BeforeEach
  void makeOutputFolder() throws IOException {
    outputs = Files.createDirectory(folder.resolve("outputs"));
    out = outputs.resolve("out.gguf");
  }

  /** All kinds of shapes: rows longer than a band, many short rows, experts, rows that fit no block, a vector, a single value. */
  private static TestModels shapes() {
    return new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 1100)
      .tensor("output_norm.weight", TensorType.F32, 256)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 300_032, 2)
      .tensor("blk.0.attn_k.weight", TensorType.F16, 256, 1)
      .tensor("blk.0.attn_v.weight", TensorType.F32, 288, 40)
      .tensor("blk.0.ffn_down_exps.weight", TensorType.BF16, 512, 7, 5)
      .tensor("blk.1.ffn_down_exps.weight", TensorType.BF16, 256, 1030, 2)
      .tensor("blk.1.ffn_up.weight", TensorType.F32, 48, 20)
      .tensor("rope.scale", TensorType.F32, 1);
  }

  @ParameterizedTest
  @CsvSource({ "Q4_K_M, false", "Q8_0, false", "Q5_1, true", "IQ4_XS, true", "F16, false", "Q2_K, true" })
  void equalsLlama(FileType type, boolean weighed) throws IOException, InterruptedException {
    assertEqualsLlama(shapes(), type, weighed);
  }

  private void assertEqualsLlama(TestModels shapes, FileType type, boolean weighed)
    throws IOException, InterruptedException {
    Path in = shapes.write(folder.resolve("in.gguf"));
    Map<String, float[]> importance = weighed ? shapes.importance() : Map.of();
    NativeQuantize.Options options = NativeQuantize.Options.of(type.id(), 2).withImportance(importance);
    Path expected = folder.resolve("expected.gguf");
    NativeQuantize.run(in, expected, options);
    QuantizeOptions ours = QuantizeOptions.of(type);
    try (
      Model model = GgufModel.open(in);
      ImportanceMatrix matrix = weighed
        ? ImportanceMatrix.open(TestModels.write(folder.resolve("imatrix.dat"), importance))
        : null
    ) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, ours.withImportance(matrix, "imatrix.dat"));
      QuantizationRun.run(model, plan, out, false, 3, QUIET);
      assertEquals(plan.fileBytes(), Files.size(out));
    }
    assertSameTensors(expected, out);
  }

  @ParameterizedTest
  @CsvSource({ "IQ3_S, true", "TQ2_0, false", "MXFP4_MOE, false", "Q1_0, false", "Q2_0, false" })
  void equalsLlamaInTypesOfTheLibrary(FileType type, boolean weighed) throws IOException, InterruptedException {
    TestModels few = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 33)
      .tensor("output.weight", TensorType.BF16, 256, 33)
      .tensor("blk.0.ffn_up_exps.weight", TensorType.F32, 256, 11, 3)
      .tensor("blk.0.attn_v.weight", TensorType.F16, 768, 5)
      .tensor("blk.1.attn_q.weight", TensorType.F16, 256, 70);
    assertEqualsLlama(few, type, weighed);
  }

  @Test
  void doesNotDependOnTheNumberOfThreads() throws IOException, InterruptedException {
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_K_M));
      QuantizationRun.run(model, plan, out, false, 1, QUIET);
      Path other = outputs.resolve("other.gguf");
      QuantizationRun.run(model, plan, other, false, 7, QUIET);
      assertEquals(-1, Files.mismatch(out, other));
    }
  }

  @Test
  void weighsEachExpertByItsOwnColumns() throws IOException, InterruptedException {
    TestModels models = new TestModels().tensor("blk.0.ffn_up_exps.weight", TensorType.F32, 256, 1100, 3);
    Map<String, float[]> importance = models.importance();
    Ggml ggml = Ggml.load();
    try (
      GgufModel model = GgufModel.open(models.write(folder.resolve("in.gguf")));
      ImportanceMatrix matrix = ImportanceMatrix.open(TestModels.write(folder.resolve("imatrix.dat"), importance))
    ) {
      QuantizationPlan plan = QuantizationPlan.quantize(
        model,
        QuantizeOptions.of(FileType.IQ4_NL).withImportance(matrix, "imatrix.dat")
      );
      QuantizationRun.run(model, plan, out, false, 4, QUIET);
      float[] weights = importance.get("blk.0.ffn_up_exps.weight");
      Tensor tensor = model.tensors().getFirst();
      try (GgufModel written = GgufModel.open(out)) {
        byte[] all = bytes(written.tensors().getFirst());
        for (int expert = 0; expert < 3; expert++) {
          float[] x = new float[256 * 1100];
          tensor.decodeRows(1100L * expert, 1100, x, 0);
          float[] slice = Arrays.copyOfRange(weights, 256 * expert, 256 * (expert + 1));
          int size = all.length / 3;
          byte[] expected = ggml.quantize(TensorType.IQ4_NL.id(), x, 1100, 256, slice, size);
          assertArrayEquals(expected, Arrays.copyOfRange(all, size * expert, size * (expert + 1)));
        }
      }
    }
  }

  @Test
  void quantizesAgainOnlyIfAllowed() throws IOException, InterruptedException {
    Path in = new TestModels()
      .tensor("token_embd.weight", TensorType.Q8_0, 256, 64)
      .tensor("blk.0.attn_q.weight", TensorType.Q4_0, 256, 64)
      .write(folder.resolve("in.gguf"));
    Path expected = folder.resolve("expected.gguf");
    NativeQuantize.Options options = NativeQuantize.Options.of(FileType.Q5_0.id(), 1);
    assertThrows(IOException.class, () -> NativeQuantize.run(in, expected, options));
    NativeQuantize.run(
      in,
      expected,
      new NativeQuantize.Options(
        options.fileType(),
        1,
        false,
        true,
        false,
        options.outputTensorType(),
        options.tokenEmbeddingType(),
        List.of(),
        Map.of()
      )
    );
    try (Model model = GgufModel.open(in)) {
      QuantizationPlan refused = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q5_0));
      assertEquals(2, refused.problems().size());
      IOException e = assertThrows(QuantizationException.class, () ->
        QuantizationRun.run(model, refused, out, false, 1, QUIET)
      );
      assertTrue(e.getMessage().contains("token_embd.weight: is quantized to Q8_0 already"), e.getMessage());
      assertNoOutput();
      QuantizationPlan allowed = QuantizationPlan.quantize(
        model,
        QuantizeOptions.of(FileType.Q5_0).withAllowRequantize(true)
      );
      QuantizationRun.run(model, allowed, out, false, 2, QUIET);
    }
    assertSameTensors(expected, out);
  }

  @Test
  void copies() throws IOException, InterruptedException {
    Path in = shapes().tensor("x.weight", TensorType.Q8_0, 256, 9).write(folder.resolve("in.gguf"));
    try (Model model = GgufModel.open(in)) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.COPY));
      assertTrue(plan.tensors().stream().allMatch(TensorPlan::copies));
      // As many tensors are BF16 as F32; llama.cpp takes the one that gets there first, marked as a guess.
      assertEquals(1024 + 32, plan.metadata().integer("general.file_type").orElseThrow());
      QuantizationRun.run(model, plan, out, false, 2, QUIET);
    }
    assertSameTensors(in, out);
  }

  @ParameterizedTest
  @CsvSource({ "NaN, Q4_K_M", "Infinity, Q8_0", "-Infinity, F32", "NaN, F16", "Infinity, IQ4_XS" })
  void namesTheValueThatIsNotFinite(float value, FileType type) throws IOException {
    Path in = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 64)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, x -> x[256 * 2345 + 17] = value, 256, 4000)
      .write(folder.resolve("in.gguf"));
    assertRefused(in, type, "tensor blk.0.attn_q.weight, row 2345, column 17", Float.toString(value));
  }

  @Test
  void namesTheValueInATensorThatIsCopied() throws IOException {
    Path in = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 64)
      .tensor("output_norm.weight", TensorType.F32, x -> x[99] = Float.NaN, 256)
      .write(folder.resolve("in.gguf"));
    assertRefused(in, FileType.Q4_0, "tensor output_norm.weight, row 0, column 99", "NaN");
  }

  @ParameterizedTest
  @CsvSource({ "F16", "Q8_0", "Q4_0", "Q4_K_S" })
  void refusesValuesThatTheTypeCannotHold(FileType type) throws IOException {
    Path in = new TestModels()
      .tensor("output.weight", TensorType.BF16, 256, 4)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, x -> x[256 * 5 + 1] = 3e38f, 256, 8)
      .write(folder.resolve("in.gguf"));
    assertRefused(in, type, "tensor blk.0.attn_q.weight, row 5", type.defaultType().name());
    NativeQuantize.Options options = NativeQuantize.Options.of(type.id(), 1);
    assertThrows(IOException.class, () -> NativeQuantize.run(in, folder.resolve("none.gguf"), options));
  }

  @Test
  void stopsAtTheFirstFailureToWrite() throws IOException {
    AtomicInteger writes = new AtomicInteger();
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q8_0));
      IOException e = assertThrows(IOException.class, () ->
        QuantizationRun.run(
          model,
          plan,
          (_, _, _, _, _) -> {
            if (writes.incrementAndGet() >= 3) {
              throw new IOException("No space left on device");
            }
          },
          2,
          QUIET
        )
      );
      assertEquals("No space left on device", e.getMessage());
    }
    assertTrue(writes.get() <= 4, writes + " writes");
    assertNoThreads();
  }

  @Test
  void leavesNothingWhenInterruptedAtTheEnd() throws IOException {
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q8_0));
      assertThrows(InterruptedException.class, () ->
        QuantizationRun.run(model, plan, out, false, 2, (_, _, _) -> Thread.currentThread().interrupt())
      );
    }
    assertFalse(Thread.interrupted());
    assertNoOutput();
    assertNoThreads();
  }

  @Test
  void leavesNothingWhenInterrupted() throws IOException {
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_K_M));
      Thread.currentThread().interrupt();
      assertThrows(InterruptedException.class, () -> QuantizationRun.run(model, plan, out, false, 2, QUIET));
    }
    assertFalse(Thread.interrupted());
    assertNoOutput();
    assertNoThreads();
  }

  @Test
  void leavesNothingWhenTheCallbackFails() throws IOException {
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_0));
      assertThrows(UnsupportedOperationException.class, () ->
        QuantizationRun.run(model, plan, out, false, 2, (_, _, _) -> {
          throw new UnsupportedOperationException();
        })
      );
    }
    assertNoOutput();
    assertNoThreads();
  }

  @Test
  void reportsProgressUpToTheEnd() throws IOException, InterruptedException {
    Set<Long> done = new TreeSet<>();
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_0));
      Thread caller = Thread.currentThread();
      QuantizationRun.run(model, plan, out, false, 2, (now, total, _) -> {
        assertEquals(caller, Thread.currentThread());
        assertEquals(plan.elements(), total);
        done.add(now);
      });
      assertEquals(plan.elements(), ((TreeSet<Long>) done).last());
    }
  }

  @Test
  void doesNotReplaceAFileUnlessTold() throws IOException, InterruptedException {
    Files.writeString(out, "mine");
    try (Model model = GgufModel.open(shapes().write(folder.resolve("in.gguf")))) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_0));
      assertThrows(FileAlreadyExistsException.class, () -> QuantizationRun.run(model, plan, out, false, 1, QUIET));
      assertEquals("mine", Files.readString(out));
      QuantizationRun.run(model, plan, out, true, 1, QUIET);
    }
    try (GgufModel written = GgufModel.open(out)) {
      assertEquals(9, written.tensors().size());
    }
  }

  private void assertRefused(Path in, FileType type, String... parts) throws IOException {
    try (Model model = GgufModel.open(in)) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(type));
      FormatException e = assertThrows(FormatException.class, () ->
        QuantizationRun.run(model, plan, out, false, 2, QUIET)
      );
      for (String part : parts) {
        assertTrue(e.getMessage().contains(part), e.getMessage());
      }
      assertTrue(e.getMessage().startsWith(in.toString()), e.getMessage());
    }
    assertNoOutput();
    assertNoThreads();
  }

  private void assertNoOutput() throws IOException {
    try (Stream<Path> files = Files.list(outputs)) {
      assertEquals(List.of(), files.toList());
    }
  }

  private static void assertNoThreads() {
    assertTrue(
      Thread.getAllStackTraces()
        .keySet()
        .stream()
        .noneMatch(t -> t.getName().startsWith("attar-quantize"))
    );
  }

  private static void assertSameTensors(Path expected, Path actual) throws IOException {
    try (GgufModel theirs = GgufModel.open(expected); GgufModel ours = GgufModel.open(actual)) {
      Map<String, Tensor> byName = new LinkedHashMap<>();
      ours.tensors().forEach(t -> byName.put(t.info().name(), t));
      for (Tensor tensor : theirs.tensors()) {
        Tensor same = byName.remove(tensor.info().name());
        assertEquals(tensor.info(), same.info());
        assertArrayEquals(bytes(tensor), bytes(same), tensor.info().toString());
      }
      assertEquals(Map.of(), byName);
    }
  }

  private static byte[] bytes(Tensor tensor) throws IOException {
    byte[] all = new byte[(int) tensor.info().bytes()];
    tensor.readRows(0, (int) tensor.info().rows(), all, 0);
    return all;
  }
}
