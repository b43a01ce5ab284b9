package dev.attar.cli;

import dev.attar.distill.network.Shape;
import dev.attar.distill.student.BlockMap;
import dev.attar.distill.student.SharedVocabulary;
import dev.attar.distill.student.TruncatedVocabulary;
import dev.attar.formats.DerivedModel;
import dev.attar.formats.Model;
import dev.attar.formats.RoundedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * A student before it is trained.
 *
 * @param model it, with no more tokens than the teacher shares
 * @param origin what it was made of, for people and for the metadata
 * @param numbers for each layer its number in the checkpoint that it is from
 * @param ofTeacher whether that is the teacher
 * @param shape its sizes
 * @param shared the tokens that it has in common with the teacher
 * @param map which of the teacher's blocks its blocks stand for
 */
record Student(
  Model model,
  String origin,
  int[] numbers,
  boolean ofTeacher,
  Shape shape,
  SharedVocabulary shared,
  BlockMap map
) {
  /**
   * Looks at what is to be a student.
   *
   * @param model must stay open
   * @param numbers for each layer its number in the checkpoint that it is from
   * @param layers the teacher's layers that it was made of; empty if that is not known
   * @throws IOException if it cannot be trained, or learn from this teacher; the message says why
   */
  static Student of(Model teacher, Model model, String origin, int[] numbers, Optional<List<Integer>> layers)
    throws IOException {
    SharedVocabulary shared = SharedVocabulary.of(teacher, model);
    Model sharing = TruncatedVocabulary.of(model, shared.tokens());
    Shape shape = Shape.of(sharing);
    return new Student(
      sharing,
      origin,
      numbers,
      layers.isPresent(),
      shape,
      shared,
      BlockMap.of(teacher, sharing, layers)
    );
  }

  /** The same, with what is said of one place as said of another. */
  Student named(Path place, Path name) {
    List<String> notes = shared
      .notes()
      .stream()
      .map(note -> note.replace(place.toString(), name.toString()))
      .toList();
    return new Student(model, origin, numbers, ofTeacher, shape, new SharedVocabulary(shared.tokens(), notes), map);
  }

  /**
   * What training will make of it, as far as types and sizes go.
   *
   * @param single whether in single precision
   */
  Model trained(boolean single) {
    List<Tensor> tensors = model
      .tensors()
      .stream()
      .map(tensor -> {
        TensorInfo info = tensor.info();
        TensorType type = single ? TensorType.F32 : RoundedTensor.type(info.type());
        return (Tensor) new RoundedTensor(info.withType(type), (first, rows, to) ->
          tensor.decodeRows(first, rows, to, 0)
        );
      })
      .toList();
    return new DerivedModel(model, model.metadata(), tensors);
  }
}
