package dev.attar.cli;

import dev.attar.prune.Amount;
import dev.attar.prune.PruneMethod;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Option;

/** Options for the removal of single weights. */
final class SparsityOptions {

  /** Among which weights as many are removed as asked for. */
  enum Scope {
    ROW,
    TENSOR
  }

  @Option(
    names = "--method",
    paramLabel = "METHOD",
    description = "Remove single weights: magnitude, the smallest; wanda, those whose product with their input is smallest; " +
      "sparsegpt, those that others can make up for best, which is done at once. For study and for smaller downloads: " +
      "ggml has no sparse kernels."
  )
  private PruneMethod method;

  @Option(
    names = "--sparsity",
    paramLabel = "X",
    converter = Converters.Sparse.class,
    description = "The part of the weights that is removed, 0.5; or how many are left of so many in succession, 2:4 or 4:8."
  )
  private Amount sparsity;

  @Option(
    names = "--per",
    paramLabel = "SCOPE",
    description = "With --method magnitude: remove as many of each row (the default), or of each tensor."
  )
  private Scope scope;

  /** How weights are chosen; {@code null} if none are to be removed. */
  PruneMethod method() {
    return method;
  }

  /** How many are removed; {@code null} if the user did not say. */
  Amount sparsity() {
    return sparsity;
  }

  /** Whether as many are removed of each tensor, instead of each row. */
  boolean acrossRows() {
    return scope == Scope.TENSOR;
  }

  /** Whether the user said of what. */
  boolean hasScope() {
    return scope != null;
  }

  /** The options that the user gave, by name; but for the method. */
  List<String> given() {
    List<String> given = new ArrayList<>();
    if (sparsity != null) {
      given.add("--sparsity");
    }
    if (scope != null) {
      given.add("--per");
    }
    return given;
  }
}
