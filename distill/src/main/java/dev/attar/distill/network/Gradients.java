package dev.attar.distill.network;

import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;

/**
 * Room for gradients within a block, which all blocks use in turn.
 *
 * @param stream (n, embedding)
 * @param query of queries, and of what attention gives (n, heads size)
 * @param key (n, groups size)
 * @param value (n, groups size)
 * @param neurons (n, neurons)
 */
record Gradients(Matrix stream, Matrix query, Matrix key, Matrix value, Matrix neurons) {
  static Gradients allocate(Scope scope, Shape shape, int rows) {
    int k = shape.groups() * shape.size();
    return new Gradients(
      scope.matrix(rows, shape.embedding()),
      scope.matrix(rows, shape.heads() * shape.size()),
      scope.matrix(rows, k),
      scope.matrix(rows, k),
      scope.matrix(rows, shape.feedForward())
    );
  }

  /** How many numbers of a row there are in all. */
  static long rowLength(Shape shape) {
    return (
      (long) shape.embedding() + ((long) shape.heads() + 2L * shape.groups()) * shape.size() + shape.feedForward()
    );
  }

  /** The first rows of all. */
  Gradients first(int rows) {
    return new Gradients(
      stream.rows(0, rows),
      query.rows(0, rows),
      key.rows(0, rows),
      value.rows(0, rows),
      neurons.rows(0, rows)
    );
  }
}
