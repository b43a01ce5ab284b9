package dev.attar.calibration.linear;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotSame;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.calibration.GramFiles;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class InputStatisticsTest {

  private static final int N = 64;
  private static final PreparedGram.Use USE = new PreparedGram.Use(0.01, PreparedGram.Order.GROUPED, false);
  private static final LinearInput DENSE = input("blk.0.attn_q.weight", 1);
  private static final LinearInput EXPERTS = input("blk.0.ffn_up_exps.weight", 3);

  private static Device device;

  @TempDir
  private Path folder;

  private GramStore store;

  @BeforeAll
  static void openDevice() throws IOException {
    device = Devices.cpu(1);
  }

  @AfterAll
  static void closeDevice() {
    device.close();
  }

  @BeforeEach
  void openStore() throws IOException {
    store = GramStore.open(folder, "test");
  }

  private static LinearInput input(String name, int experts) {
    return new LinearInput(name, List.of(name), N, experts);
  }

  private InputStatistics statistics(LinearInput input) {
    return new InputStatistics(device, store, input, USE);
  }

  private void dense(float[] gram) throws IOException {
    GramFiles.write(store, new GramRequest(DENSE, 0), 100, gram);
  }

  @Test
  void aGoodMatrixNeedsNoWarning() throws IOException {
    dense(MadeUpInputs.correlated(N, 1));
    try (InputStatistics statistics = statistics(DENSE)) {
      assertEquals(N, statistics.of(0).columns());
      assertSame(statistics.of(0), statistics.of(0));
      assertEquals(0.01, statistics.damping());
      assertEquals(List.of(), statistics.warnings());
    }
  }

  @Test
  void deadColumnsAreWarnedOf() throws IOException {
    float[] gram = MadeUpInputs.correlated(N, 1);
    MadeUpInputs.kill(gram, N, 3, 40);
    dense(gram);
    try (InputStatistics statistics = statistics(DENSE)) {
      assertEquals(N, statistics.of(0).importance().length);
      for (float weight : statistics.of(0).importance()) {
        assertEquals(1, Math.signum(weight));
      }
      assertEquals(List.of("blk.0.attn_q.weight: 2 of 64 input columns are always 0"), statistics.warnings());
    }
  }

  @Test
  void moreDampingIsWarnedOf() throws IOException {
    float[] gram = new float[N * N];
    for (int i = 0; i < N; i++) {
      gram[i * N + i] = 1;
    }
    gram[5 * N + 9] = 1.95f;
    dense(gram);
    try (InputStatistics statistics = statistics(DENSE)) {
      assertEquals(1, statistics.of(0).damping());
      assertEquals(1, statistics.damping());
      assertEquals(
        List.of("blk.0.attn_q.weight: its Gram matrix is not positive definite with damping 0.01: used 1.0"),
        statistics.warnings()
      );
    }
    gram[5 * N + 9] = 1e8f;
    dense(gram);
    try (InputStatistics statistics = statistics(DENSE)) {
      IOException e = assertThrows(IOException.class, () -> statistics.of(0));
      assertEquals(
        "blk.0.attn_q.weight: the Gram matrix of 64 columns is not positive definite even with damping 1.0, so it is damaged; --overwrite measures it again",
        e.getMessage()
      );
    }
  }

  @Test
  void withoutAnyInputNothingIsFedBack() throws IOException {
    dense(new float[N * N]);
    try (InputStatistics statistics = statistics(DENSE)) {
      assertEquals(0.01f, statistics.of(0).ridge());
      assertEquals(
        List.of(
          "blk.0.attn_q.weight: no token gave its input a value other than 0: its columns count alike and nothing is fed back"
        ),
        statistics.warnings()
      );
    }
  }

  @Test
  void expertsThatSawTooLittleGetTheStatisticsOfAll() throws IOException {
    for (int expert = 0; expert < 3; expert++) {
      // 16 tokens are a fourth of the columns.
      long tokens = new long[] { 16, 15, 0 }[expert];
      float[] gram = tokens == 0 ? new float[N * N] : MadeUpInputs.correlated(N, expert);
      GramFiles.write(store, new GramRequest(EXPERTS, expert), tokens, gram);
    }
    GramFiles.write(store, new GramRequest(EXPERTS, GramRequest.POOLED), 31, MadeUpInputs.correlated(N, 9));
    try (InputStatistics statistics = statistics(EXPERTS)) {
      PreparedGram own = statistics.of(0);
      float[] ownImportance = own.importance();
      PreparedGram pooled = statistics.of(1);
      assertNotSame(own, pooled);
      assertSame(pooled, statistics.of(2));
      assertEquals(MadeUpInputs.correlated(N, 0)[0], ownImportance[0]);
      assertEquals(MadeUpInputs.correlated(N, 9)[0], pooled.importance()[0]);
      assertEquals(
        List.of("blk.0.ffn_up_exps.weight: 2 of 3 experts saw too few tokens and get the statistics of all together"),
        statistics.warnings()
      );
    }
  }
}
