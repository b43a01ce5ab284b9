package dev.attar.formats.adapter;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;

/**
 * What an adapter adds to a tensor of its base: {@code scale B A}, for each expert if it has several. Rows are in the order of the base.
 *
 * @param target the tensor of the base, of shape {columns, rows[, experts]}
 * @param a A, of shape {columns, rank[, experts]}
 * @param b B, of shape {rank, rows[, experts]}
 * @param scale what the product is multiplied by when the adapter is applied with scale 1: alpha over the rank as a rule
 */
public record LoraTensor(TensorInfo target, Tensor a, Tensor b, float scale) {
  /** Columns of B and rows of A. */
  public int rank() {
    return (int) b.info().rowLength();
  }
}
