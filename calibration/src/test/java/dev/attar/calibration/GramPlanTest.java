package dev.attar.calibration;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.Test;

class GramPlanTest {

  private static GramRequest dense(int columns) {
    return GramRequest.all(new LinearInput("w" + columns, List.of("w" + columns), columns, 1));
  }

  @Test
  void aMatrixTakesALittleOverHalfOfItsSquare() {
    assertEquals(4 * 256 * 256, GramPlan.bytes(dense(256).input(), GramPlan.TILE));
    assertEquals(4 * 512 * 512, GramPlan.bytes(dense(512).input(), GramPlan.TILE));
    // Two squares on the diagonal, 512 and 88, and what is between them.
    assertEquals(4 * (512 * 512 + 512 * 88 + 88 * 88), GramPlan.bytes(dense(600).input(), GramPlan.TILE));
    long large = GramPlan.bytes(dense(14336).input(), GramPlan.TILE);
    long square = 4L * 14336 * 14336;
    assertTrue(large > square / 2 && large < (1.05 * square) / 2);
    assertEquals(0x1p45, (double) GramPlan.bytes(dense(1 << 22).input(), GramPlan.TILE), 0x1p35); // no int overflows
  }

  @Test
  void waitingRowsAreSharedByInputsOfOneWidthButNotByExperts() {
    long rows = 2L * 4 * 512 * 256;
    assertEquals(GramPlan.bytes(dense(256).input(), GramPlan.TILE) + rows, GramPlan.leastBytes(256, GramPlan.TILE));
    assertEquals(
      2 * GramPlan.bytes(dense(256).input(), GramPlan.TILE) + rows,
      GramPlan.bytes(List.of(dense(256), dense(256)), GramPlan.TILE)
    );
    LinearInput experts = new LinearInput("e", List.of("e"), 256, 3);
    List<GramRequest> two = List.of(new GramRequest(experts, 0), GramRequest.all(experts));
    assertEquals(2 * (GramPlan.bytes(experts, GramPlan.TILE) + rows), GramPlan.bytes(two, GramPlan.TILE));
  }

  @Test
  void passesKeepTheOrderAndFit() throws IOException {
    Random random = new Random(5);
    for (int round = 0; round < 200; round++) {
      List<GramRequest> requests = new ArrayList<>();
      for (int i = random.nextInt(40); i > 0; i--) {
        requests.add(dense(1 + random.nextInt(1500)));
      }
      long available = GramPlan.bytes(List.of(dense(1500)), GramPlan.TILE) + random.nextInt(1 << 26);
      List<List<GramRequest>> passes = GramPlan.passes(requests, available, GramPlan.TILE);
      assertEquals(requests, passes.stream().flatMap(List::stream).toList());
      for (int i = 0; i < passes.size(); i++) {
        assertTrue(GramPlan.bytes(passes.get(i), GramPlan.TILE) <= available);
        if (i > 0) {
          List<GramRequest> longer = new ArrayList<>(passes.get(i - 1));
          longer.add(passes.get(i).getFirst());
          assertTrue(GramPlan.bytes(longer, GramPlan.TILE) > available); // greedy
        }
      }
    }
  }

  @Test
  void aMatrixThatDoesNotFitIsNamed() {
    IOException e = assertThrows(IOException.class, () ->
      GramPlan.passes(List.of(dense(256), dense(512)), 2 << 20, GramPlan.TILE)
    );
    assertEquals(
      "the Gram matrix of w512 takes " +
        GramPlan.bytes(List.of(dense(512)), GramPlan.TILE) +
        " bytes of memory, available are 2097152",
      e.getMessage()
    );
  }
}
