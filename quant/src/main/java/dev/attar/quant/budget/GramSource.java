package dev.attar.quant.budget;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** Gram matrices of what enters the linear layers of a model. */
@FunctionalInterface
public interface GramSource {
  /** No matrices at all. */
  GramSource NONE = (_, _) -> Optional.empty();

  /**
   * The Gram matrix of what a weight tensor is multiplied with.
   *
   * @param tensor the name of the tensor
   * @param expert which expert, from 0; 0 for a tensor without experts
   * @return empty if there is none, as for a tensor that rows are only looked up in; to be closed by the caller
   * @throws IOException if it cannot be read
   */
  Optional<Gram> gram(String tensor, int expert) throws IOException;

  /** A Gram matrix H = X'X / n of n tokens' inputs X (n, columns). */
  interface Gram extends AutoCloseable {
    /** Rows and columns of H: the row length of the tensor. */
    int columns();

    /** The n of the formula; with experts, how many tokens this one met. */
    long tokens();

    /**
     * The upper triangle, row after row, each from its diagonal element on: {@code columns (columns + 1) / 2} little-endian float32.
     */
    MemorySegment upper();

    /** Frees what the matrix holds. */
    @Override
    default void close() {}
  }
}
