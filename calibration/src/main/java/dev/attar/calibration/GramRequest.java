package dev.attar.calibration;

import java.util.Objects;

/**
 * Which Gram matrix to collect.
 *
 * @param input the input whose values it is of
 * @param expert which expert's values: 0 to {@code input.experts() - 1}, so 0 without experts; or {@link #POOLED}
 */
public record GramRequest(LinearInput input, int expert) {
  /** All values of an input whatever expert meets them: for experts that see too few tokens for a matrix of their own. */
  public static final int POOLED = -1;

  public GramRequest {
    if (expert != POOLED) {
      Objects.checkIndex(expert, input.experts());
    } else if (input.experts() == 1) {
      throw new IllegalArgumentException(input.name() + " has no experts to pool");
    }
  }

  /** All values of an input: of its only expert, or pooled. */
  public static GramRequest all(LinearInput input) {
    return new GramRequest(input, input.experts() == 1 ? 0 : POOLED);
  }

  /** For messages: {@code blk.0.ffn_up_exps.weight, expert 3}. */
  @Override
  public String toString() {
    String which = expert == POOLED ? ", all experts" : ", expert " + expert;
    return input.name() + (input.experts() == 1 ? "" : which);
  }
}
