package dev.attar.bench.latency;

/**
 * Something to time, as llama-bench does.
 *
 * @param kind what
 * @param tokens length of the prompt, or number of tokens generated
 * @param threads number of threads that compute
 */
public record LatencyTest(Kind kind, int tokens, int threads) {
  /** What is timed. */
  public enum Kind {
    /** Processing of a prompt, in tokens per second ({@code pp512}). */
    PROMPT,
    /** Generation of tokens one after another from an empty context, in tokens per second ({@code tg128}). */
    GENERATION,
    /** From handing over a prompt to having the first token after it, in seconds. */
    FIRST_TOKEN
  }

  public LatencyTest {
    if (tokens < 1 || threads < 1) {
      throw new IllegalArgumentException(tokens + " tokens, " + threads + " threads");
    }
  }

  /** Name as in llama-bench, without the threads: {@code pp512}, {@code tg128}, {@code ttft512}. */
  public String name() {
    return (
      switch (kind) {
        case PROMPT -> "pp";
        case GENERATION -> "tg";
        case FIRST_TOKEN -> "ttft";
      } +
      tokens
    );
  }

  /** {@code t/s} or {@code s}. */
  public String unit() {
    return kind == Kind.FIRST_TOKEN ? "s" : "t/s";
  }

  /** Whether more is better. */
  public boolean higherIsBetter() {
    return kind != Kind.FIRST_TOKEN;
  }
}
