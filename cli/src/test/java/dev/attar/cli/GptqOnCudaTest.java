package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.cuda.EmulatedCuda;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockGrid;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** GPTQ on the processor and through the emulated CUDA. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class GptqOnCudaTest {

  /**
   * The part of a tensor's codes that may differ. Sums of products come in another order on each device, so now and then a weight
   * lies on the other side of the middle between two levels; what it leaves goes into the columns after it, which may flip in turn.
   */
  private static final double DIFFERENT_CODES = 0.02;

  @TempDir
  private Path folder;

  private Path quantize(String device) throws IOException, InterruptedException {
    Path out = folder.resolve(device + ".gguf");
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE, "-t", "Q4_0", "--method", "gptq"));
    // GPTQ of the first layer, in types of all kinds, is enough.
    line.addAll(
      List.of(
        "--tensor-type",
        "blk\\.[1-9]=F16",
        "--tensor-type",
        "blk\\.0\\.attn_k=Q4_K",
        "--tensor-type",
        "ffn_up=F16"
      )
    );
    line.addAll(List.of("--tensor-type", "blk\\.0\\.attn_v=Q6_K", "--tensor-type", "blk\\.0\\.attn_output=IQ4_XS"));
    line.addAll(List.of("--tensor-type", "blk\\.0\\.ffn_down=Q3_K", "--tensor-type", "blk\\.0\\.ffn_gate=Q5_1"));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(List.of("--no-sequential", "--effort", 1, "--device", device, "-o", out));
    ProcessBuilder builder = new ProcessBuilder(Attar.childCommand(line.toArray()));
    builder.environment().put("ATTAR_CUDA_LIB", EmulatedCuda.libraries().toString());
    // The order of threads is checked where the kernels are tested.
    builder.environment().put("EMULATED_CUDA_CHECKS", "0");
    Attar.Result result = Attar.await(builder.start()).expect(0);
    assertTrue(result.err().contains("device: " + device + " ("), result.err());
    return out;
  }

  @Test
  void writesTheProcessorsFileButForTheOrderOfSums() throws IOException, InterruptedException {
    int quantized = 0;
    long all = 0;
    long different = 0;
    try (GgufModel cpu = GgufModel.open(quantize("cpu")); GgufModel cuda = GgufModel.open(quantize("cuda"))) {
      assertEquals(cpu.tensors().size(), cuda.tensors().size());
      for (int i = 0; i < cpu.tensors().size(); i++) {
        Tensor expected = cpu.tensors().get(i);
        Tensor found = cuda.tensors().get(i);
        assertEquals(expected.info(), found.info());
        byte[] expectedBytes = bytes(expected);
        byte[] foundBytes = bytes(found);
        String name = expected.info().name();
        if (!name.startsWith("blk.0.") || name.contains("ffn_up") || expected.info().rank() == 1) {
          assertArrayEquals(expectedBytes, foundBytes, name);
          continue;
        }
        BlockGrid grid = BlockGrid.of(expected.info().type()).orElseThrow();
        long flipped = differentCodes(grid, expectedBytes, foundBytes);
        long codes = expected.info().rows() * expected.info().rowLength();
        assertTrue(flipped <= DIFFERENT_CODES * codes, name + ": " + flipped + " of " + codes + " codes differ");
        quantized++;
        all += codes;
        different += flipped;
      }
    }
    assertEquals(6, quantized);
    System.out.printf("GPTQ on cuda (emulated): %d of %d codes differ from the processor's%n", different, all);
  }

  private static byte[] bytes(Tensor tensor) throws IOException {
    byte[] bytes = new byte[Math.toIntExact(tensor.info().bytes())];
    tensor.readRows(0, Math.toIntExact(tensor.info().rows()), bytes, 0);
    return bytes;
  }

  private static long differentCodes(BlockGrid grid, byte[] expected, byte[] found) {
    TensorType type = grid.type();
    byte[] a = new byte[type.blockLength()];
    byte[] b = new byte[type.blockLength()];
    long different = 0;
    for (int at = 0; at < expected.length; at += type.blockBytes()) {
      grid.readCodes(expected, at, a, 0);
      grid.readCodes(found, at, b, 0);
      for (int i = 0; i < a.length; i++) {
        different += a[i] == b[i] ? 0 : 1;
      }
    }
    return different;
  }
}
