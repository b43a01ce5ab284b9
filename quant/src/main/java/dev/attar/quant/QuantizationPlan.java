package dev.attar.quant;

import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * What a model becomes: type and size of every tensor in the order of the output file, the metadata, and what stands in the way. A
 * value: making it reads no weights and writes nothing.
 *
 * @param source where the model came from
 * @param metadata the metadata to write
 * @param tensors the tensors to write, in order
 * @param importance the importance matrix, or {@code null}
 * @param fileBytes the size of the output file; 0 if these tensors and metadata cannot be written
 * @param problems why the plan cannot be carried out, one line each; empty if it can
 */
public record QuantizationPlan(
  Path source,
  Metadata metadata,
  List<TensorPlan> tensors,
  ImportanceMatrix importance,
  long fileBytes,
  List<String> problems
) {
  public QuantizationPlan {
    tensors = List.copyOf(tensors);
    problems = List.copyOf(problems);
  }

  /** The plan that gives what llama-quantize of llama.cpp v0.5.0 gives for the same options, and the {@code attar.*} keys. */
  public static QuantizationPlan quantize(Model model, QuantizeOptions options) {
    return new Planner(model).quantize(options);
  }

  /**
   * The plan that gives what llama.cpp's converter gives for a Hugging Face checkpoint, and the {@code attar.*} keys. A GGUF model is
   * treated alike; its quantized tensors can only become plain ones. Integers stay as they are.
   *
   * @param outputType what matrices are written as
   */
  public static QuantizationPlan convert(Model model, OutputType outputType) {
    return new Planner(model).convert(outputType);
  }

  /** The same plan with other metadata. */
  public QuantizationPlan withMetadata(Metadata other) {
    long bytes = problems.isEmpty() ? GgufLayout.of(other, infos()).fileBytes() : fileBytes;
    return new QuantizationPlan(source, other, tensors, importance, bytes, problems);
  }

  /** The same for one tensor alone, which is no file. */
  public QuantizationPlan only(String tensor) {
    List<TensorPlan> one = tensors
      .stream()
      .filter(step -> step.name().equals(tensor))
      .toList();
    return new QuantizationPlan(source, metadata, one, importance, 0, problems);
  }

  /** The tensors as they are written. */
  public List<TensorInfo> infos() {
    return tensors.stream().map(TensorPlan::info).toList();
  }

  /** Number of values. */
  public long elements() {
    return tensors
      .stream()
      .mapToLong(t -> t.source().elements())
      .sum();
  }

  /** Bytes of the tensors in the source, without padding. */
  public long bytesBefore() {
    return tensors.stream().mapToLong(TensorPlan::bytesBefore).sum();
  }

  /** Bytes of the tensors as written, without padding. */
  public long bytesAfter() {
    return tensors.stream().mapToLong(TensorPlan::bytesAfter).sum();
  }

  /** Mean number of bits that a value takes as written; 0 if there are none. */
  public double bitsPerWeight() {
    long elements = elements();
    return elements == 0 ? 0 : (8.0 * bytesAfter()) / elements;
  }

  /** The types that only llama.cpp's library writes, without which this plan cannot be carried out. */
  public Set<TensorType> libraryTypes() {
    Set<TensorType> types = EnumSet.noneOf(TensorType.class);
    tensors
      .stream()
      .filter(t -> !t.copies())
      .map(TensorPlan::target)
      .filter(type -> !Encoders.inJava(type))
      .forEach(types::add);
    return types;
  }

  /**
   * Throws if there are {@link #problems}.
   *
   * @throws QuantizationException with the first problem and the number of the others
   */
  public void requireNoProblems() throws QuantizationException {
    if (!problems.isEmpty()) {
      int others = problems.size() - 1;
      throw new QuantizationException(
        source + ": " + problems.getFirst() + (others == 0 ? "" : " (and " + others + " more problems)")
      );
    }
  }
}
