package dev.attar.lowrank;

import dev.attar.formats.TensorInfo;
import java.nio.file.Path;
import java.util.Optional;

/**
 * The product that was found for a tensor: of each of its matrices W (rows, columns), B (rows, rank) times A (rank, columns).
 *
 * @param source the tensor
 * @param rank columns of B and rows of A
 * @param stored the rank that the files have: the first {@code rank} columns of B and rows of A count
 * @param a little-endian float32, (experts, stored, columns), row-major
 * @param b the same, (experts, rows, stored)
 * @param base encoded rows for the base, of the type that it has there, which the product corrects; empty for those that are there
 * @param error the squared error that is left in the metric of the factorization
 * @param energy the same without a product: of the tensor, or of what its base lacked before the first round
 * @param damping what was added to the diagonal of the Gram matrix, as a part of its mean; 0 without one
 */
public record FactoredTensor(
  TensorInfo source,
  int rank,
  int stored,
  Path a,
  Path b,
  Optional<Path> base,
  double error,
  double energy,
  double damping
) {
  /** Numbers in both factors. */
  public long numbers() {
    long experts = source.rows() / source.dimension(1);
    return experts * rank * (source.rowLength() + source.dimension(1));
  }

  /** The part of the energy that is lost; 0 if there is none. */
  public double loss() {
    return energy > 0 ? error / energy : 0;
  }
}
