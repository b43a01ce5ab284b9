package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.ToIntFunction;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class LadderTest {

  private static final Anatomy.Obstacles NONE = new Anatomy.Obstacles("m.gguf", null, null, null, null);

  /** Layers of these widths, with 4 groups each. */
  private static Anatomy widths(int... widths) {
    return new Anatomy(
      "llama",
      Arrays.stream(widths)
        .mapToObj(width -> new Anatomy.Part(width, 4, 2, 8))
        .toList(),
      NONE
    );
  }

  private static int[] units(Ladder ladder) {
    return ladder.steps().stream().mapToInt(Ladder.Step::units).toArray();
  }

  private static int[] of(Cut cut, ToIntFunction<Cut.Layer> count) {
    return cut.layers().stream().mapToInt(count).toArray();
  }

  @Test
  void widthsStayMultiples() {
    assertArrayEquals(new int[] { 256, 512 }, units(Ladder.of(widths(768, 768), Structure.FFN, false, 256)));
    assertArrayEquals(
      new int[] { 144, 400, 656 },
      units(Ladder.of(widths(912, 912), Structure.FFN, false, 256)),
      "from 912 to 768, 512, 256"
    );
    assertArrayEquals(new int[] {}, units(Ladder.of(widths(256), Structure.FFN, false, 256)));
    assertArrayEquals(new int[] { 1, 2 }, units(Ladder.of(widths(3), Structure.FFN, false, 1)));
    assertEquals(1.0 / 3, Ladder.of(widths(768, 768), Structure.FFN, false, 256).steps().getFirst().ratio());
  }

  @Test
  void groupsAndLayers() {
    Ladder heads = Ladder.of(widths(768, 768), Structure.HEADS, false, 256);
    assertArrayEquals(new int[] { 1, 2, 3 }, units(heads));
    assertEquals(0.5, heads.steps().get(1).ratio());
    Ladder together = Ladder.of(widths(768, 768), Structure.HEADS, true, 256);
    assertArrayEquals(new int[] { 1, 2, 3, 4, 5, 6 }, units(together));
    assertEquals(0.75, together.steps().getLast().ratio());
    for (boolean nonUniform : new boolean[] { false, true }) {
      Ladder layers = Ladder.of(widths(1, 2, 3, 4), Structure.LAYERS, nonUniform, 256);
      assertArrayEquals(new int[] { 1, 2, 3 }, units(layers));
      assertEquals(0.25, layers.steps().getFirst().ratio());
    }
  }

  @Test
  void neuronsOfAllLayersTogether() {
    Ladder ladder = Ladder.of(widths(768, 768, 32), Structure.FFN, true, 256);
    assertArrayEquals(new int[] { 256, 512, 768, 1024 }, units(ladder), "the narrow layer keeps all");
    assertEquals(1024.0 / 1568, ladder.steps().getLast().ratio());
    // What is beyond a multiple goes first.
    assertArrayEquals(new int[] { 8, 108, 208, 308 }, units(Ladder.of(widths(204, 304), Structure.FFN, true, 100)));
  }

  @Test
  void theNearestStep() {
    Ladder ladder = Ladder.of(widths(1024, 1024), Structure.FFN, false, 256);
    assertEquals(256, ladder.nearest(0.2).units());
    assertEquals(256, ladder.nearest(0.125).units());
    assertEquals(256, ladder.nearest(0.375).units(), "of two the one that removes less");
    assertEquals(512, ladder.nearest(0.376).units());
    assertEquals(768, ladder.nearest(0.875).units());
  }

  @Test
  void ratiosThatLeaveOrRemoveNothing() {
    Ladder ladder = Ladder.of(widths(1024, 1024), Structure.FFN, false, 256);
    assertEquals(
      "ratio 0.1 removes no neurons: the least that can be removed is 0.2500 (256 neurons of each layer), the most 0.7500" +
        " (768 neurons of each layer)",
      assertThrows(IllegalArgumentException.class, () -> ladder.nearest(0.1)).getMessage()
    );
    assertTrue(
      assertThrows(IllegalArgumentException.class, () -> ladder.nearest(0.9))
        .getMessage()
        .contains("leaves no neurons")
    );
    for (double ratio : new double[] { 0, -1, 1, 2, Double.NaN }) {
      assertThrows(IllegalArgumentException.class, () -> ladder.nearest(ratio));
    }
    assertEquals(
      "no neurons can be removed: layers keep a multiple of 256 neurons and have no more",
      assertThrows(IllegalArgumentException.class, () ->
        Ladder.of(widths(256, 256), Structure.FFN, false, 256).nearest(0.5)
      ).getMessage()
    );
    assertThrows(IllegalArgumentException.class, () -> Ladder.of(widths(256), Structure.FFN, false, 0));
  }

  @Test
  void examplesHaveTheSizeOfTheirStep() {
    Random random = new Random(3);
    for (int round = 0; round < 50; round++) {
      int multiple = 1 + random.nextInt(40);
      int layers = 1 + random.nextInt(6);
      int[] widths = IntStream.range(0, layers)
        .map(_ -> 1 + random.nextInt(300))
        .toArray();
      Anatomy anatomy = widths(widths);
      Ladder ladder = Ladder.of(anatomy, Structure.FFN, true, multiple);
      for (Ladder.Step step : ladder.steps()) {
        int[] left = of(ladder.example(anatomy, step), layer -> layer.neurons().length);
        assertEquals(step.units(), Arrays.stream(widths).sum() - Arrays.stream(left).sum());
        assertEquals(step.ratio(), (double) step.units() / Arrays.stream(widths).sum());
        for (int i = 0; i < layers; i++) {
          assertTrue(left[i] > 0 && left[i] <= widths[i]);
          assertTrue(left[i] % multiple == 0 || widths[i] < multiple, left[i] + " of " + widths[i]);
        }
      }
    }
  }

  @Test
  void examplesDifferAsLittleAsTheyCan() {
    Anatomy anatomy = widths(768, 768, 768);
    Ladder ladder = Ladder.of(anatomy, Structure.FFN, true, 256);
    Cut cut = ladder.example(anatomy, ladder.steps().get(3));
    assertArrayEquals(new int[] { 512, 512, 256 }, of(cut, layer -> layer.neurons().length));
    assertArrayEquals(new int[] { 4, 4, 4 }, of(cut, layer -> layer.groups().length));
    assertArrayEquals(Cut.all(512), cut.layers().getFirst().neurons());
    Ladder heads = Ladder.of(anatomy, Structure.HEADS, false, 256);
    assertEquals(
      List.of(2, 2, 2),
      heads
        .example(anatomy, heads.steps().get(1))
        .layers()
        .stream()
        .map(layer -> layer.groups().length)
        .toList()
    );
    Ladder layers = Ladder.of(anatomy, Structure.LAYERS, false, 256);
    assertArrayEquals(new int[] { 0 }, layers.example(anatomy, layers.steps().getLast()).numbers());
  }
}
