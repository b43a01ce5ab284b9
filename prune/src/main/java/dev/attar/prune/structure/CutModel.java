package dev.attar.prune.structure;

import dev.attar.formats.DerivedModel;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.List;
import java.util.Map;

/**
 * What a cut leaves of a model, as a model. Nothing is copied: rows are put together as they are asked for, by any thread.
 *
 * <p>What is merely kept, or loses rows, keeps its encoded bytes. What loses columns keeps them if it is of a plain type; a quantized
 * tensor that loses columns or is fitted anew is presented as F16. So a model that only loses layers keeps all bytes.
 *
 * <p>The architecture stays unless layers come to differ in width, or Qwen2 loses heads; then it is {@code deci}, and Qwen2's queries
 * and keys are permuted to the order of rotary pairs that {@code deci} wants. {@code attar.prune.layers}, {@code .neurons} and {@code
 * .groups} say which layers of the source are left, and how many neurons and groups each has.
 */
public final class CutModel {

  private CutModel() {}

  /**
   * Presents what is left.
   *
   * @param source the model, which must stay open; closing the result leaves it open
   * @param cut what is left of it
   * @param refitted new values of some tensors, by their names in the source: little-endian float32 of the shape that the tensor has
   *     after the cut, row-major, to be read by any thread as long as the model is. They are rounded to the source's type if that is
   *     a plain one, and to F16 otherwise
   * @throws PruneException if llama.cpp would not run what is left
   * @throws IllegalArgumentException if the cut has layers, neurons or groups that the model does not have, or not in ascending order,
   *     or nothing at all; if new values are of another size, or of a tensor that is not left
   */
  public static Model of(Model source, Cut cut, Map<String, MemorySegment> refitted) throws IOException {
    Anatomy anatomy = Anatomy.of(source);
    anatomy.check(cut);
    CutMetadata metadata = new CutMetadata(source, anatomy, cut);
    List<Tensor> tensors = new CutTensors(anatomy, cut, metadata.converts(), refitted).of(source);
    return new DerivedModel(source, metadata.of(tensors), tensors);
  }
}
