package dev.attar.prune.structure;

import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What a run has chosen and computed.
 *
 * @param cut what is left
 * @param refitted files of the tensors that were fitted anew, by their names in the source: float32 as {@link CutModel#of} wants them
 * @param layers what was found out about each layer of the source
 * @param tokens how many tokens were measured; 0 if none were needed
 * @param sequential whether each layer was fitted to what the layers before it give after their own removal
 * @param widths whether layers were to differ in width, and what that brings; empty if they were not to
 */
public record StructureResult(
  Cut cut,
  Map<String, Path> refitted,
  List<LayerReport> layers,
  long tokens,
  boolean sequential,
  Optional<Widths> widths
) {
  public StructureResult {
    refitted = Map.copyOf(refitted);
    layers = List.copyOf(layers);
  }

  /**
   * What was found out about a layer.
   *
   * @param number its number in the source
   * @param influence its block influence: 1 less the mean cosine between what enters and what leaves it; NaN if it was not measured
   * @param error what the removal changes of the output of {@code ffn_down} or {@code attn_output}: mean square over mean square
   *     before, without the refit; NaN if it was not measured
   * @param refitError the same after the refit; NaN if there was none
   * @param step as how many-th the whole layer was removed, from 1; 0 if it is left
   * @param divergence mean KL divergence from the whole model, in nats, when it had been removed with those before it; NaN if it is left
   */
  public record LayerReport(
    int number,
    double influence,
    double error,
    double refitError,
    int step,
    double divergence
  ) {}

  /**
   * Two ways to remove as much, of which the one with the lower divergence was taken. Both were fitted alike, not sequentially.
   *
   * @param even mean KL divergence from the whole model, in nats, with as much removed from each layer
   * @param chosen the same with widths that were chosen for each layer
   */
  public record Widths(double even, double chosen) {
    /** Whether layers differ because it pays. */
    public boolean differ() {
      return chosen < even;
    }
  }
}
