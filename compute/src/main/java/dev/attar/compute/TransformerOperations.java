package dev.attar.compute;

/**
 * What a transformer of the Llama kind computes beside matrix products, and the derivatives of it, in single precision. Activations have
 * a row per token: sequences of the same length follow each other, and the position of a token in its sequence is its row modulo that
 * length. A gradient is the derivative of one number, the loss, with respect to each number of a matrix.
 *
 * <p>Results do not depend on the number of threads. A gradient of weights is <em>added</em> to what is in its matrix, since batches are
 * summed up; a gradient of activations overwrites, unless said otherwise. Every operation throws as {@link Device} says.
 */
public interface TransformerOperations {
  /**
   * Looks up rows: {@code out[i] = table[tokens[i]]}.
   *
   * @param tokens row numbers of the table, one for each row of the result
   * @param table (vocabulary, d)
   * @param out gets (n, d)
   * @throws IllegalArgumentException also if a token is not in the table
   */
  void embed(int[] tokens, Matrix table, Matrix out);

  /** The derivative of {@link #embed}: adds each row of {@code outGradient} (n, d) to its token's row of {@code tableGradient}. */
  void embedGradient(int[] tokens, Matrix outGradient, Matrix tableGradient);

  /** Adds a row to every row: {@code to[i] += bias}; bias is (1, d), to is (n, d). */
  void addBias(Matrix bias, Matrix to);

  /** The derivative of {@link #addBias}: adds the sums of the columns of {@code outGradient} (n, d) to {@code biasGradient} (1, d). */
  void addBiasGradient(Matrix outGradient, Matrix biasGradient);

  /**
   * Root mean square normalization (Zhang and Sennrich, 2019): {@code out = x / sqrt(mean(x²) + epsilon) * weight}, of rows, or of
   * consecutive parts of a row where the weight is shorter: that is how Qwen3 normalizes heads.
   *
   * @param x (n, p d)
   * @param weight (1, d)
   * @param epsilon above 0
   * @param out gets (n, p d); may be x itself
   */
  void rmsNorm(Matrix x, Matrix weight, float epsilon, Matrix out);

  /**
   * The derivative of {@link #rmsNorm}.
   *
   * @param x what went in (n, p d)
   * @param outGradient (n, p d)
   * @param xGradient (n, p d), to which the gradient is <em>added</em> if {@code add}; otherwise overwritten, and may be outGradient
   *     itself
   * @param weightGradient (1, d), to which is added
   */
  void rmsNormGradient(
    Matrix x,
    Matrix weight,
    float epsilon,
    Matrix outGradient,
    boolean add,
    Matrix xGradient,
    Matrix weightGradient
  );

  /**
   * Rotates pairs of numbers by their position's angles (rotary embedding, Su et al., 2021), in place.
   *
   * @param x (n, h s): heads of {@code headSize} numbers each, of which the first {@code 2 r} are rotated
   * @param headSize s
   * @param angles (t, 2 r) with t the length of a sequence, a divisor of n: for each position r cosines, then r sines
   * @param neighbours whether numbers 2 i and 2 i + 1 are pair i, as GGUF has them for llama; otherwise i and i + r are
   * @param back whether to rotate the other way: the derivative of rotating, and its inverse
   */
  void rotate(Matrix x, int headSize, Matrix angles, boolean neighbours, boolean back);

  /**
   * Causal attention with grouped queries: for each sequence, head and position i, {@code out_i = sum_j softmax_j(scale q_i k_j) v_j}
   * over {@code max(0, i - window + 1) <= j <= i}. Head h of the queries reads head {@code h / (heads / groups)} of keys and values.
   *
   * @param q (n, heads size)
   * @param k (n, groups size)
   * @param v (n, groups size)
   * @param out gets (n, heads size)
   * @param logSums gets (n, heads): the logarithm of the sum of {@code exp(scale q_i k_j)}, for the derivative
   */
  void attend(Matrix q, Matrix k, Matrix v, AttentionShape shape, Matrix out, Matrix logSums);

  /**
   * The derivative of {@link #attend}, which computes the softmax anew (Dao et al., FlashAttention, 2022) instead of keeping it.
   *
   * @param out what {@link #attend} gave, as logSums
   * @param outGradient (n, heads size)
   * @param qGradient gets (n, heads size); may be outGradient itself
   * @param kGradient gets (n, groups size)
   * @param vGradient gets (n, groups size)
   */
  void attendGradient(
    Matrix q,
    Matrix k,
    Matrix v,
    AttentionShape shape,
    Matrix out,
    Matrix logSums,
    Matrix outGradient,
    Matrix qGradient,
    Matrix kGradient,
    Matrix vGradient
  );

  /** SwiGLU (Shazeer, 2020): {@code out = gate / (1 + exp(-gate)) * up}, all (n, d); out may be gate or up. */
  void swiGlu(Matrix gate, Matrix up, Matrix out);

  /** The derivative of {@link #swiGlu}; gateGradient and upGradient may be gate, up or outGradient themselves, but not each other. */
  void swiGluGradient(Matrix gate, Matrix up, Matrix outGradient, Matrix gateGradient, Matrix upGradient);

  /**
   * How far the distributions that logits stand for are from a teacher's and from the text, and the derivative of that.
   *
   * <p>In the reverse divergence a logarithm of the teacher's counts as at least -100: an event that it excludes would make it infinite.
   *
   * @param logits (n, vocabulary); replaced by the gradient of {@code scale * sum over rows of (divergenceWeight * temperature² *
   *     divergence + crossEntropyWeight * crossEntropy)}
   * @param teacher what the teacher says of each row; may be null if the divergence's weight is 0
   * @param labels the token that follows, for each row; negative where there is none, and the row has no cross-entropy
   * @param losses gets (n, 2): for each row the divergence, without the factor of temperature², and the cross-entropy at temperature 1,
   *     in nats, whatever their weights; 0 without a teacher or a label
   * @throws IllegalArgumentException also if a token is not in the vocabulary, or twice in a row of the teacher's
   */
  void distributionLoss(Matrix logits, TeacherRows teacher, int[] labels, DistributionLoss loss, Matrix losses);

  /**
   * How far hidden states are from a teacher's, and the derivative of that.
   *
   * @param states (n, d); replaced by the gradient of {@code scale * sum over rows of the loss}
   * @param teacher (n, d)
   * @param cosine whether a row's loss is 1 less the cosine between the two (0 if both rows are zeros); otherwise the mean of their squared
   *     differences
   * @param losses gets (n, 1)
   */
  void stateLoss(Matrix states, Matrix teacher, boolean cosine, float scale, Matrix losses);

  /** The sum of a matrix's squares, in double precision. Not finite if a number of it is not. */
  double squares(Matrix x);

  /** {@code x *= factor}; with factor 0 all becomes 0, whatever it was. */
  void scale(float factor, Matrix x);

  /**
   * A step of AdamW (Loshchilov and Hutter, 2019): {@code m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; w -= rate (m / (1 - b1^t) /
   * (sqrt(v / (1 - b2^t)) + epsilon) + decay w)}, with {@code g} the gradient times {@link AdamStep#gradientScale}.
   *
   * @param weights w, changed
   * @param gradient g, of the same shape as all others
   * @param first m, changed
   * @param second v, changed
   */
  void adamW(Matrix weights, Matrix gradient, Matrix first, Matrix second, AdamStep step);
}
