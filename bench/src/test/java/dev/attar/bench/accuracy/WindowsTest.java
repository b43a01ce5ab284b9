package dev.attar.bench.accuracy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.OptionalInt;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class WindowsTest {

  private static final int LARGE_VOCABULARY = 150_000;

  /** A prediction that is scored: the token after {@code seen} tokens of a window. */
  private record Prediction(int window, int seen, int target) {}

  private static int[] text(int n) {
    return IntStream.range(0, n)
      .map(i -> 1000 + i)
      .toArray();
  }

  /** What llama-perplexity scores: in each window the tokens after the first {@code context / 2 + 1}. */
  private static List<Prediction> expected(int[] tokens, int context, int windows) {
    List<Prediction> predictions = new ArrayList<>();
    for (int w = 0; w < windows; w++) {
      for (int i = context / 2 + 1; i < context; i++) {
        predictions.add(new Prediction(w, i, tokens[w * context + i]));
      }
    }
    return predictions;
  }

  @ParameterizedTest
  @CsvSource(
    {
      "512,512,1",
      "512,5000,9",
      "4,23,5",
      "5,23,4",
      "200,1000,5",
      "256,700,2",
      "513,3000,5",
      "2048,7000,3",
      "1000,999,0"
    }
  )
  void scoresWhatLlamaPerplexityScores(int context, int length, int count) {
    check(context, length, count, 4096);
    check(context, length, count, 32_000);
    check(context, length, count, LARGE_VOCABULARY);
  }

  private static void check(int context, int length, int count, int vocabulary) {
    int[] tokens = text(length);
    Windows windows = new Windows(tokens, context, OptionalInt.empty(), vocabulary);
    assertEquals(count, windows.count());
    List<Prediction> scored = new ArrayList<>();
    List<List<Integer>> remembered = new ArrayList<>();
    int window = 0;
    for (int s = 0; s < windows.steps(); s++) {
      Step step = windows.step(s);
      assertTrue(step.tokens().length <= Windows.MOST_STEP_TOKENS);
      if (step.first()) {
        window += remembered.size();
        remembered.clear();
      }
      int rows = 0;
      for (int i = 0; i < step.tokens().length; i++) {
        int sequence = step.sequences()[i];
        assertTrue(sequence < Windows.perStep(context, vocabulary));
        while (remembered.size() <= sequence) {
          remembered.add(new ArrayList<>());
        }
        List<Integer> before = remembered.get(sequence);
        assertEquals(before.size(), step.positions()[i]);
        assertEquals(tokens[(window + sequence) * context + before.size()], step.tokens()[i]);
        before.add(step.tokens()[i]);
        if (step.targets()[i] != Step.NOT_SCORED) {
          scored.add(new Prediction(window + sequence, before.size(), step.targets()[i]));
          rows++;
        }
      }
      assertEquals(rows, step.scored().length);
      assertTrue(rows <= Windows.rowsPerStep(context, vocabulary));
    }
    assertEquals(expected(tokens, context, count), scored);
    assertEquals(count, windows.windowsAfter(windows.steps()));
  }

  @Test
  void usesNoMoreWindowsThanAskedFor() {
    Windows windows = new Windows(text(5000), 512, OptionalInt.of(3), LARGE_VOCABULARY);
    assertEquals(3, windows.count());
    assertEquals(3, windows.steps());
    assertEquals(1, windows.windowsAfter(1));
  }

  @Test
  void longWindowsTakeSeveralSteps() {
    Windows windows = new Windows(text(3000), 1024, OptionalInt.empty(), LARGE_VOCABULARY);
    assertEquals(4, windows.steps());
    assertTrue(windows.step(0).first());
    assertFalse(windows.step(1).first());
    assertEquals(0, windows.windowsAfter(1));
    assertEquals(1, windows.windowsAfter(2));
    assertArrayEquals(new int[0], windows.step(0).scored());
  }

  @Test
  void logitsOfAStepAreBounded() {
    assertEquals(256, Windows.perStep(4, 4096)); // as many sequences as llama.cpp takes
    assertEquals(4, Windows.perStep(512, 4096));
    assertEquals(2, Windows.perStep(512, 32_000));
    assertEquals(1, Windows.perStep(512, LARGE_VOCABULARY));
    for (int vocabulary : new int[] { 1, 256, 4096, 32_000, LARGE_VOCABULARY, 500_000 }) {
      for (int context : new int[] { 4, 100, 512, 513, 2048, 32_768 }) {
        long bytes = 4L * vocabulary * Windows.rowsPerStep(context, vocabulary);
        assertTrue(bytes <= Math.max(128 << 20, 4L * vocabulary * 512), context + ", " + vocabulary + ": " + bytes);
      }
    }
  }
}
