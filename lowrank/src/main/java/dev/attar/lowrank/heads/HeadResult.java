package dev.attar.lowrank.heads;

import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Map;

/**
 * What a run found for a model.
 *
 * @param before the size of a head, in values
 * @param size what it becomes
 * @param folds what becomes of the rotary pairs of queries and keys, in their order: all layers and heads have the same frequencies
 * @param lostPairs the part of the squared products of queries and keys that is lost, if these are independent, at any distance
 * @param layers the layers with heads
 * @param values new values of tensors by their names, little-endian float32 of the new shape, row-major
 * @param tokens how many tokens of the texts were used
 */
public record HeadResult(
  int before,
  int size,
  List<Fold> folds,
  double lostPairs,
  List<LayerReport> layers,
  Map<String, Path> values,
  long tokens
) {
  public HeadResult {
    folds = List.copyOf(folds);
    layers = List.copyOf(layers);
    values = Map.copyOf(values);
  }

  /** The old pairs whose frequencies the new ones have, ascending; several may have the same. */
  public List<Integer> pairs() {
    return folds
      .stream()
      .flatMap(fold -> Collections.nCopies(fold.kept(), fold.frequency()).stream())
      .toList();
  }

  /**
   * What values and outputs of a layer lose.
   *
   * @param layer its number
   * @param error the squared error of what attention puts out, mean over tokens, summed over its values
   * @param energy the same if nothing were left
   */
  public record LayerReport(int layer, double error, double energy) {
    /** The part of the energy that is lost; 0 if there is none. */
    public double loss() {
      return energy > 0 ? error / energy : 0;
    }
  }
}
