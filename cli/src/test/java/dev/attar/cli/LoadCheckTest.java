package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Outputs in the real llama.cpp. */
class LoadCheckTest {

  @TempDir
  private Path folder;

  @Test
  void aGoodOutputGetsItsName() throws IOException, InterruptedException {
    Path out = folder.resolve("out.gguf");
    try (Model model = Models.open(TestModels.SAMPLE)) {
      write(model, plan(model), out);
    }
    assertEquals(List.of(out), files());
    // A folder is converted first.
    check(out).check(TestModels.SAMPLE);
  }

  /** llama.cpp wants as many entries as there are layers: such files were made by hand, and nobody knew until they were loaded. */
  @Test
  void anArrayOfAnotherLengthIsRefused() throws IOException {
    Path out = folder.resolve("out.gguf");
    Files.writeString(out, "precious");
    try (Model model = Models.open(TestModels.SAMPLE)) {
      QuantizationPlan plan = plan(model);
      Metadata metadata = plan
        .metadata()
        .with("llama.attention.head_count_kv", MetadataValue.int32s(new int[] { 4, 4, 4 }));
      IOException e = assertThrows(IOException.class, () -> write(model, plan.withMetadata(metadata), out));
      assertTrue(e.getMessage().contains(out.toString()), e.getMessage());
      assertTrue(e.getMessage().contains("head_count_kv"), e.getMessage());
      assertTrue(e.getMessage().endsWith("(what was made does not run in llama.cpp, and is not kept)"), e.getMessage());
      assertEquals(1, e.getMessage().lines().count());
      assertTrue(!e.getMessage().contains(".part"), e.getMessage());
    }
    assertEquals("precious", Files.readString(out));
    assertEquals(List.of(out), files());
  }

  @Test
  void predictionsThatAreNoNumbersAreRefused() throws IOException {
    Path out = folder.resolve("out.gguf");
    try (Model model = new Huge(Models.open(TestModels.SAMPLE))) {
      IOException e = assertThrows(IOException.class, () -> write(model, plan(model), out));
      assertTrue(e.getMessage().startsWith(out + ": its logits are not finite numbers"), e.getMessage());
    }
    assertEquals(List.of(), files());
  }

  private static QuantizationPlan plan(Model model) {
    return QuantizationPlan.convert(model, OutputType.AUTO.resolve(model));
  }

  private static void write(Model model, QuantizationPlan plan, Path out) throws IOException, InterruptedException {
    QuantizationRun.run(model, plan, Map.of(), out, true, 2, check(out), (_, _, _) -> {});
  }

  private static LoadCheck check(Path out) {
    return new LoadCheck(out, 2, Duration.ofMinutes(2));
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }

  /** A model with down projections so large that sums overflow. */
  private record Huge(Model model) implements Model {
    private record HugeTensor(Tensor tensor) implements Tensor {
      @Override
      public TensorInfo info() {
        return tensor.info();
      }

      @Override
      public void readRows(long firstRow, int rows, byte[] out, int outOffset) throws IOException {
        tensor.readRows(firstRow, rows, out, outOffset);
        for (int i = 0; i < rows * info().rowBytes(); i += 2) {
          out[outOffset + i] = 0x7f;
          out[outOffset + i + 1] = 0x7f;
        }
      }

      @Override
      public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
        throw new UnsupportedOperationException();
      }
    }

    @Override
    public Path source() {
      return model.source();
    }

    @Override
    public List<Path> files() {
      return model.files();
    }

    @Override
    public Metadata metadata() {
      return model.metadata();
    }

    @Override
    public List<? extends Tensor> tensors() {
      return model
        .tensors()
        .stream()
        .map(tensor ->
          tensor.info().name().contains("ffn_") && tensor.info().rank() > 1 ? new HugeTensor(tensor) : tensor
        )
        .toList();
    }

    @Override
    public void close() throws IOException {
      model.close();
    }
  }
}
