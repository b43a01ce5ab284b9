package dev.attar.bench.accuracy;

import java.util.Arrays;
import java.util.OptionalInt;

/**
 * A text cut into windows, as llama-perplexity does: windows of {@code context} tokens one after another, what is left at the end is
 * not used; each token in the second half of its window but the last predicts the one after it.
 */
public final class Windows {

  /** The most tokens in a step: llama.cpp's logical batch. */
  public static final int MOST_STEP_TOKENS = 2048;

  /** llama.cpp's physical batch. */
  private static final int MICRO_BATCH = 512;

  /** The most windows in a step: llama.cpp remembers no more sequences at a time. */
  private static final int MOST_SEQUENCES = 256;

  // Small models decode a window so fast that going from one process to the next is felt: they take several windows at a time.
  // Those with a large vocabulary do not, whose logits would fill the memory.
  private static final long STEP_LOGIT_BYTES = 64 << 20;

  private final int[] tokens;
  private final int context;
  private final int stepTokens;
  private final int perStep;
  private final int count;

  /**
   * @param tokens the text
   * @param context tokens per window, at least 4
   * @param most the most windows to use
   * @param vocabulary number of tokens that the model knows
   */
  public Windows(int[] tokens, int context, OptionalInt most, int vocabulary) {
    this.tokens = tokens;
    this.context = context;
    stepTokens = stepTokens(vocabulary);
    perStep = perStep(context, vocabulary);
    count = Math.min(tokens.length / context, most.orElse(Integer.MAX_VALUE));
  }

  private static int stepTokens(int vocabulary) {
    long fitting = STEP_LOGIT_BYTES / ((MICRO_BATCH / 2) * 4L * vocabulary);
    return MICRO_BATCH * (int) Math.clamp(fitting, 1, MOST_STEP_TOKENS / MICRO_BATCH);
  }

  /** Windows that are decoded at once, at least 1: more than one if they are short, or the vocabulary is small. */
  public static int perStep(int context, int vocabulary) {
    return Math.clamp(stepTokens(vocabulary) / context, 1, MOST_SEQUENCES);
  }

  /** The most predictions that a step scores. */
  public static int rowsPerStep(int context, int vocabulary) {
    return Math.min(stepTokens(vocabulary), perStep(context, vocabulary) * (context - 1 - context / 2));
  }

  /** Number of windows. */
  public int count() {
    return count;
  }

  /** Tokens per window. */
  public int context() {
    return context;
  }

  /** Number of steps that a long window takes; 1 for short windows. */
  private int stepsPerWindow() {
    return Math.ceilDiv(context, stepTokens);
  }

  /** Number of steps in all. */
  public int steps() {
    return Math.ceilDiv(count, perStep) * stepsPerWindow();
  }

  /** Number of windows that are finished once these many steps are done. */
  public int windowsAfter(int steps) {
    return Math.min(count, (steps / stepsPerWindow()) * perStep);
  }

  /** The step with this number, from 0. */
  public Step step(int number) {
    int firstWindow = (number / stepsPerWindow()) * perStep;
    int windows = Math.min(perStep, count - firstWindow);
    int from = (number % stepsPerWindow()) * stepTokens;
    int length = Math.min(stepTokens, context - from);
    int n = windows * length;
    int[] stepTokens = new int[n];
    int[] positions = new int[n];
    int[] sequences = new int[n];
    int[] targets = new int[n];
    for (int w = 0; w < windows; w++) {
      int start = (firstWindow + w) * context;
      int at = w * length;
      System.arraycopy(tokens, start + from, stepTokens, at, length);
      Arrays.fill(sequences, at, at + length, w);
      for (int i = 0; i < length; i++) {
        int position = from + i;
        positions[at + i] = position;
        boolean scored = position >= context / 2 && position < context - 1;
        targets[at + i] = scored ? tokens[start + position + 1] : Step.NOT_SCORED;
      }
    }
    return new Step(from == 0, stepTokens, positions, sequences, targets);
  }
}
