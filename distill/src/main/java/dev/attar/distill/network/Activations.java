package dev.attar.distill.network;

import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.util.function.UnaryOperator;

/**
 * What is computed within a block, as far as gradients need it. Matrices have a row per token.
 *
 * @param attentionInput the normalized stream (n, embedding)
 * @param query queries, rotated (n, heads size)
 * @param key keys, rotated (n, groups size)
 * @param value values (n, groups size)
 * @param rawQuery queries before their norm, null without norms
 * @param rawKey keys before their norm, null without norms
 * @param attended what attention gives (n, heads size)
 * @param logSums of attention (n, heads)
 * @param middle the stream after attention (n, embedding)
 * @param feedInput the same, normalized (n, embedding)
 * @param gate (n, neurons)
 * @param up (n, neurons)
 * @param neurons what they become together (n, neurons)
 */
record Activations(
  Matrix attentionInput,
  Matrix query,
  Matrix key,
  Matrix value,
  Matrix rawQuery,
  Matrix rawKey,
  Matrix attended,
  Matrix logSums,
  Matrix middle,
  Matrix feedInput,
  Matrix gate,
  Matrix up,
  Matrix neurons
) {
  static Activations allocate(Scope scope, Shape shape, int rows) {
    int d = shape.embedding();
    int q = shape.heads() * shape.size();
    int k = shape.groups() * shape.size();
    int f = shape.feedForward();
    return new Activations(
      scope.matrix(rows, d),
      scope.matrix(rows, q),
      scope.matrix(rows, k),
      scope.matrix(rows, k),
      shape.normalized() ? scope.matrix(rows, q) : null,
      shape.normalized() ? scope.matrix(rows, k) : null,
      scope.matrix(rows, q),
      scope.matrix(rows, shape.heads()),
      scope.matrix(rows, d),
      scope.matrix(rows, d),
      scope.matrix(rows, f),
      scope.matrix(rows, f),
      scope.matrix(rows, f)
    );
  }

  /** How many numbers of a row there are in all. */
  static long rowLength(Shape shape) {
    long q = (long) shape.heads() * shape.size();
    long k = (long) shape.groups() * shape.size();
    long raw = shape.normalized() ? q + k : 0;
    return 3L * shape.embedding() + 2 * q + 2 * k + raw + shape.heads() + 3L * shape.feedForward();
  }

  /** The first rows of all. */
  Activations first(int rows) {
    UnaryOperator<Matrix> cut = matrix -> matrix == null ? null : matrix.rows(0, rows);
    return new Activations(
      cut.apply(attentionInput),
      cut.apply(query),
      cut.apply(key),
      cut.apply(value),
      cut.apply(rawQuery),
      cut.apply(rawKey),
      cut.apply(attended),
      cut.apply(logSums),
      cut.apply(middle),
      cut.apply(feedInput),
      cut.apply(gate),
      cut.apply(up),
      cut.apply(neurons)
    );
  }
}
