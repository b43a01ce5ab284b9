package dev.attar.distill;

import dev.attar.distill.DistillListener.Step;
import dev.attar.distill.DistillListener.Validation;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * What became of a student.
 *
 * @param best the weights of the lowest validation loss: a safetensors file of F32 tensors with GGUF's names, row-major
 * @param steps all steps of all runs that led here, in order
 * @param validations all validations, in order
 * @param tokens that were trained on, in distillation
 * @param seconds that training took, in all runs
 * @param ended why it ended before its last step; empty if it did not
 */
public record DistillResult(
  Path best,
  List<Step> steps,
  List<Validation> validations,
  long tokens,
  double seconds,
  Optional<String> ended
) {
  public DistillResult {
    steps = List.copyOf(steps);
    validations = List.copyOf(validations);
  }
}
