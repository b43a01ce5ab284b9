package dev.attar.formats.imatrix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ImportanceMatrixWriterTest {

  private static final Path SAMPLE = Path.of("../samples/sample/imatrix.gguf");

  @TempDir
  private Path folder;

  @Test
  void writesWhatLlamaImatrixWrites() throws IOException {
    List<ImportanceMatrixWriter.Entry> entries = new ArrayList<>();
    List<String> datasets;
    int chunks;
    try (ImportanceMatrix sample = ImportanceMatrix.open(SAMPLE); GgufModel file = GgufModel.open(SAMPLE)) {
      datasets = sample.datasets();
      chunks = sample.chunks();
      for (int i = 0; i < file.tensors().size(); i += 2) {
        float[] sums = file.tensors().get(i).bytes().toArray(ImportanceMatrix.FLOAT);
        double[] wide = new double[sums.length];
        for (int j = 0; j < sums.length; j++) {
          wide[j] = sums[j];
        }
        String name = file.tensors().get(i).info().name().replace(".in_sum2", "");
        long count = (long) file.tensors().get(i + 1).bytes().get(ImportanceMatrix.FLOAT, 0);
        entries.add(new ImportanceMatrixWriter.Entry(name, wide, new long[] { count }));
      }
    }
    Collections.reverse(entries); // the order is that of the names
    Path out = folder.resolve("out.gguf");
    ImportanceMatrixWriter.write(out, entries, datasets, chunks, 512, false);
    assertEquals(-1, Files.mismatch(SAMPLE, out));
    assertThrows(FileAlreadyExistsException.class, () ->
      ImportanceMatrixWriter.write(out, entries, datasets, chunks, 512, false)
    );
    ImportanceMatrixWriter.write(out, entries, datasets, chunks, 512, true);
  }

  @Test
  void expertsHaveSumsAndCountsOfTheirOwn() throws IOException {
    Path out = folder.resolve("out.gguf");
    double[] sums = { 2, 4, 0, 0, 9, 27 };
    long[] counts = { 2, 0, 9 };
    ImportanceMatrixWriter.write(
      out,
      List.of(new ImportanceMatrixWriter.Entry("w", sums, counts)),
      List.of(),
      3,
      128,
      false
    );
    try (ImportanceMatrix read = ImportanceMatrix.open(out); GgufModel file = GgufModel.open(out)) {
      assertArrayEquals(new float[] { 1, 2, 1, 1, 1, 3 }, read.weights("w").orElseThrow());
      assertEquals(3, read.chunks());
      assertEquals(MetadataValue.uint32(128), file.metadata().get("imatrix.chunk_size").orElseThrow());
    }
    assertThrows(IllegalArgumentException.class, () ->
      new ImportanceMatrixWriter.Entry("w", new double[5], new long[2])
    );
  }
}
