package dev.attar.bench.tensors;

import java.util.OptionalInt;

/**
 * How far a tensor is from the base's tensor of the same name.
 *
 * @param name GGUF name, {@code blk.3.ffn_down.weight}
 * @param layer the number in {@code blk.N.}; empty for tensors outside the layers
 * @param kind the name without {@code blk.N.} and {@code .weight}: {@code ffn_down}, {@code token_embd}, {@code attn_q.bias}; what is
 *     before {@code blk} stays, {@code enc.attn_q}
 * @param type name of the type in the variant, {@code Q4_K}
 * @param bytes size in the variant
 * @param relativeError root of Σ w (b - v)² / Σ w b² over all values, b the base's, v the variant's, w the importance of the column
 *     (1 without an importance matrix); 0 if both are equal. Infinite if only the base's is zero throughout, or if a value is not finite;
 *     never NaN
 * @param weighted whether importance was known for this tensor
 */
public record TensorError(
  String name,
  OptionalInt layer,
  String kind,
  String type,
  long bytes,
  double relativeError,
  boolean weighted
) {}
