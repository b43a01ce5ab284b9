package dev.attar.bench.device;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

class GpuPaperTest {

  @Test
  void theDocumentHasTheTables() throws IOException {
    String document = Files.readString(Path.of("..", "docs", "gpu.md"));
    for (String table : GpuPaper.tables()) {
      assertTrue(document.contains(table), "docs/gpu.md lacks this table of GpuPaper:\n" + table);
    }
  }
}
