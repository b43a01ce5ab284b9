package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorPlan;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WorkSpaceTest {

  @TempDir
  private Path folder;

  private static TensorInfo weight(String name, long... shape) {
    return new TensorInfo(name, TensorType.BF16, shape);
  }

  private static long gram(long columns) {
    return 2 * columns * (columns + 1);
  }

  @Test
  void gramMatricesAreCountedOnceForEachLengthOfALayer() {
    List<TensorInfo> weights = List.of(
      weight("token_embd.weight", 64, 1000),
      weight("blk.0.attn_q.weight", 64, 64),
      weight("blk.0.attn_output.weight", 64, 64),
      weight("blk.0.attn_k_b.weight", 96, 64, 4),
      weight("blk.0.ffn_down.weight", 128, 64),
      weight("blk.1.attn_q.weight", 64, 64),
      weight("blk.1.ffn_down_exps.weight", 32, 64, 3),
      weight("blk.2.nextn.eh_proj.weight", 128, 64),
      weight("output.weight", 64, 1000)
    );
    assertEquals(3 * gram(64) + gram(128) + 4 * gram(32), WorkSpace.forGrams(weights, false));
    // With the drift of the head.
    assertEquals(gram(64) + 4 * 64 * 1000, WorkSpace.forGrams(weights, true));
    assertEquals(0, WorkSpace.forGrams(List.of(), true));
  }

  @Test
  void whatIsThereIsNotNeededAgain() throws IOException {
    Path out = folder.resolve("out.gguf");
    try (
      Model model = Models.open(Path.of("../samples/sample"));
      WorkFolder work = WorkFolder.open(out, Map.of(), false, false)
    ) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, QuantizeOptions.of(FileType.Q4_0));
      long all = WorkSpace.forTensors(plan, GptqRun::quantizes, work);
      assertTrue(all > 0 && all < plan.fileBytes());
      TensorPlan first = WorkSpace.missing(plan, GptqRun::quantizes, work).getFirst();
      work.write(WorkFolder.tensorName(first.name()), to -> to.write(1));
      assertEquals(all - first.bytesAfter(), WorkSpace.forTensors(plan, GptqRun::quantizes, work));
      Path converted = work.resolve("model.gguf");
      assertTrue(WorkSpace.forModel(model, converted) > all);
      Files.createFile(converted);
      assertEquals(0, WorkSpace.forModel(model, converted));
      assertEquals(0, WorkSpace.held(work.resolve("gram")));
      assertEquals(1, WorkSpace.held(work.resolve("tensors")));
    }
  }

  @Test
  void tooLittleRoomIsToldInALine() throws IOException {
    GgufWriter.checkSpace(folder, folder, 1);
    IOException e = assertThrows(IOException.class, () -> GgufWriter.checkSpace(folder, folder, 1L << 60));
    assertTrue(
      e.getMessage().matches(".*: needs 1,152,921,504,606,846,976 bytes, only [\\d,]+ are free on the disk"),
      e.getMessage()
    );
  }
}
