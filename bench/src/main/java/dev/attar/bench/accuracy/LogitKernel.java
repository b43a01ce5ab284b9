package dev.attar.bench.accuracy;

import dev.attar.formats.block.Simd;
import java.lang.foreign.MemorySegment;

/**
 * Turns rows of logits into scores of tokens. Logits are float32 in native byte order, one row of {@code vocabulary} values for each
 * token, rows one after another: {@code logits (rows, vocabulary)}. The probabilities of a row are its softmax.
 *
 * <p>The definitions are those of {@code llama-perplexity}, with two differences: llama-perplexity keeps the base's log-probabilities
 * in 16 bits and leaves out base tokens less likely than e⁻¹⁶; here the base has its full precision, and only tokens less likely than
 * e⁻⁸⁷ times the likeliest count as impossible, which is where float32 ends.
 *
 * <ul>
 *   <li>A logit of minus infinity is a probability of 0. Where the base's is 0 a token adds nothing to the divergence; where only the
 *       model's is 0 the divergence is infinite.
 *   <li>A row with a NaN, or whose largest logit is infinite, scores NaN.
 *   <li>Of several largest logits the one of lowest id is the top.
 *   <li>A divergence that rounding made negative is 0. Equal rows have a divergence of exactly 0.
 * </ul>
 *
 * <p>Likelihoods and divergences are right to about 1e-7 nats, or 1e-7 of the value if that is more.
 *
 * <p>Implementations may be used by several threads at once.
 */
public interface LogitKernel {
  /**
   * The fastest one here, as {@link Simd} chose.
   *
   * @throws IllegalStateException if {@link Simd} was forced to what cannot be had
   */
  static LogitKernel get() {
    return Simd.isVector() ? new VectorLogitKernel() : scalar();
  }

  /** The one without SIMD, which computes in float64 throughout. */
  static LogitKernel scalar() {
    return new ScalarLogitKernel();
  }

  /**
   * Scores tokens by a model.
   *
   * @param logits {@code (rows, vocabulary)} from the start of the segment; what follows is ignored
   * @param rows number of tokens
   * @param vocabulary number of values in a row
   * @param targets the tokens that came; row i predicted {@code targets[firstTarget + i]}
   * @param out gets the score of row i at {@code firstOut + i}
   * @throws IndexOutOfBoundsException if a segment or array is too short, or a target is no token of the vocabulary
   */
  void score(
    MemorySegment logits,
    int rows,
    int vocabulary,
    int[] targets,
    int firstTarget,
    TokenScores out,
    int firstOut
  );

  /**
   * Scores tokens by a model and its base.
   *
   * @param base the base's logits, {@code (rows, vocabulary)} from the start of the segment; what follows is ignored
   * @param model the model's, likewise
   * @param rows number of tokens
   * @param vocabulary number of values in a row
   * @param targets the tokens that came; row i predicted {@code targets[firstTarget + i]}
   * @param out gets the scores of row i at {@code firstOut + i}
   * @throws IndexOutOfBoundsException if a segment or array is too short, or a target is no token of the vocabulary
   */
  void compare(
    MemorySegment base,
    MemorySegment model,
    int rows,
    int vocabulary,
    int[] targets,
    int firstTarget,
    TokenComparison out,
    int firstOut
  );
}
