package dev.attar.calibration.linear;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.formats.TensorInfo;
import java.util.Map;
import java.util.Optional;

/** Chooses and removes weights of matrices: what a method that works on one layer after the other has to know of pruning. */
public interface Pruning {
  /** Whether a tensor is one whose weights are removed. */
  boolean prunes(TensorInfo tensor);

  /** Why weights of a tensor cannot be removed as wanted, in one clause; empty if they can. */
  Optional<String> problem(TensorInfo tensor);

  /** Whether the rows of a matrix are chosen from together, so that they must be there together. */
  boolean needsAllRows();

  /**
   * Removes weights.
   *
   * @param input what is known of the layer's input
   * @param weights (columns, rows): a column per row of the weights; left as they are
   * @param pruned zeros, (columns, rows); gets what is left of the weights, 0 where one is removed
   */
  void prune(Device device, PreparedGram input, Matrix weights, Matrix pruned);

  /** All that the result depends on, and what there is to know of it, by name: it is written into the metadata. */
  Map<String, String> settings();
}
