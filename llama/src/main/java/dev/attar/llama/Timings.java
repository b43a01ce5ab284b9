package dev.attar.llama;

import static java.lang.foreign.ValueLayout.JAVA_DOUBLE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;

/**
 * What llama.cpp measured in a context. A batch of one token counts as generation, a larger one as a prompt; each is counted
 * when it is known to be finished, which {@link LlamaContext#logits} and {@link LlamaContext#synchronize} wait for.
 *
 * @param loadSeconds from the start of the model's loading to the end of the first batch; until then, to the end of loading
 * @param promptTokens tokens in prompts since the last reset
 * @param promptSeconds time they took
 * @param generatedTokens tokens generated since the last reset
 * @param generationSeconds time they took
 */
public record Timings(
  double loadSeconds,
  int promptTokens,
  double promptSeconds,
  int generatedTokens,
  double generationSeconds
) {
  /** {@code struct llama_perf_context_data}. */
  static final StructLayout LAYOUT = MemoryLayout.structLayout(
    JAVA_DOUBLE.withName("t_start_ms"),
    JAVA_DOUBLE.withName("t_load_ms"),
    JAVA_DOUBLE.withName("t_p_eval_ms"),
    JAVA_DOUBLE.withName("t_eval_ms"),
    JAVA_INT.withName("n_p_eval"),
    JAVA_INT.withName("n_eval"),
    JAVA_INT.withName("n_reused"),
    MemoryLayout.paddingLayout(4)
  );

  static Timings of(MemorySegment data) {
    double prompt = seconds(data, "t_p_eval_ms");
    double generation = seconds(data, "t_eval_ms");
    return new Timings(
      seconds(data, "t_load_ms"),
      tokens(data, "n_p_eval", prompt),
      prompt,
      tokens(data, "n_eval", generation),
      generation
    );
  }

  private static double seconds(MemorySegment data, String field) {
    return data.get(JAVA_DOUBLE, LAYOUT.byteOffset(PathElement.groupElement(field))) / 1000;
  }

  /** llama.cpp says 1 for none, so that it can divide by it; but none take no time. */
  private static int tokens(MemorySegment data, String field, double seconds) {
    return seconds == 0 ? 0 : data.get(JAVA_INT, LAYOUT.byteOffset(PathElement.groupElement(field)));
  }
}
