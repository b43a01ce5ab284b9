package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.luben.zstd.Zstd;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class CompressedSizeTest {

  private static final int CHUNK = 4 << 20;

  @TempDir
  private Path folder;

  /** As many bytes as the chunks take one by one, whoever compresses them; what can be had back of them is all there was. */
  @Test
  void addsUpTheFramesOfAllChunks() throws IOException, InterruptedException {
    byte[] bytes = new byte[2 * CHUNK + 12345];
    Random random = new Random(1);
    random.nextBytes(bytes);
    for (int i = 0; i < bytes.length; i += 2) {
      bytes[i] = 0;
    }
    byte[] other = new byte[1000];
    List<Path> files = List.of(
      Files.write(folder.resolve("a"), bytes),
      Files.write(folder.resolve("b"), other),
      Files.createFile(folder.resolve("empty"))
    );
    long expected = Zstd.compress(other, 3).length;
    for (int from = 0; from < bytes.length; from += CHUNK) {
      byte[] chunk = Arrays.copyOfRange(bytes, from, Math.min(bytes.length, from + CHUNK));
      byte[] frame = Zstd.compress(chunk, 3);
      assertArrayEquals(chunk, Zstd.decompress(frame, chunk.length));
      expected += frame.length;
    }
    for (int threads : new int[] { 1, 3 }) {
      List<Long> done = new ArrayList<>();
      assertEquals(
        expected,
        CompressedSize.of(files, threads, "compressing", (phase, at, total, unit) -> {
          assertEquals("compressing MB 8", phase + " " + unit + " " + total);
          done.add(at);
        })
      );
      assertEquals(8, done.getLast());
      assertEquals(done.stream().sorted().toList(), done);
    }
    // Half of it is noise.
    assertTrue(expected > bytes.length / 2 && expected < 0.7 * bytes.length, expected + " of " + bytes.length);
  }

  @Test
  void aFileThatIsMissingIsTold() {
    Path missing = folder.resolve("missing");
    assertThrows(NoSuchFileException.class, () ->
      CompressedSize.of(List.of(missing), 2, "compressing", (_, _, _, _) -> {})
    );
  }
}
