package dev.attar.quant;

import dev.attar.formats.TensorType;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.util.List;

/**
 * How a model is to be quantized. Made by {@link #of} and changed by the {@code with} methods.
 *
 * @param fileType the file type, which says what type each tensor gets
 * @param pure give every tensor the file type's {@link FileType#defaultType} instead of a mixture
 * @param tensorTypes types by name, the first match counts; they need a quantized default type to take effect, as in llama-quantize
 * @param outputTensorType the type of {@code output.weight}, or {@code null}
 * @param tokenEmbeddingType the type of {@code token_embd.weight}, or {@code null}
 * @param leaveOutputTensor leave {@code output.weight} as it is
 * @param allowRequantize allow tensors that are quantized already to be quantized again
 * @param importance how much each column of each tensor matters, or {@code null}
 * @param importanceFile the file of the matrix as the user named it, for the metadata; {@code null} without one
 * @param chosen types given tensor by tensor, which come before all the rules above; {@code null} for none
 */
public record QuantizeOptions(
  FileType fileType,
  boolean pure,
  List<TensorTypeRule> tensorTypes,
  TensorType outputTensorType,
  TensorType tokenEmbeddingType,
  boolean leaveOutputTensor,
  boolean allowRequantize,
  ImportanceMatrix importance,
  String importanceFile,
  ChosenTypes chosen
) {
  public QuantizeOptions {
    tensorTypes = List.copyOf(tensorTypes);
    if ((importance == null) != (importanceFile == null)) {
      throw new IllegalArgumentException("an importance matrix and its file go together");
    }
  }

  /** A file type with its mixture, no importance and no wishes. */
  public static QuantizeOptions of(FileType fileType) {
    return new QuantizeOptions(fileType, false, List.of(), null, null, false, false, null, null, null);
  }

  /** With {@link #pure}. */
  public QuantizeOptions withPure(boolean value) {
    return new QuantizeOptions(
      fileType,
      value,
      tensorTypes,
      outputTensorType,
      tokenEmbeddingType,
      leaveOutputTensor,
      allowRequantize,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #tensorTypes}. */
  public QuantizeOptions withTensorTypes(List<TensorTypeRule> value) {
    return new QuantizeOptions(
      fileType,
      pure,
      value,
      outputTensorType,
      tokenEmbeddingType,
      leaveOutputTensor,
      allowRequantize,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #outputTensorType}, which may be {@code null}. */
  public QuantizeOptions withOutputTensorType(TensorType value) {
    return new QuantizeOptions(
      fileType,
      pure,
      tensorTypes,
      value,
      tokenEmbeddingType,
      leaveOutputTensor,
      allowRequantize,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #tokenEmbeddingType}, which may be {@code null}. */
  public QuantizeOptions withTokenEmbeddingType(TensorType value) {
    return new QuantizeOptions(
      fileType,
      pure,
      tensorTypes,
      outputTensorType,
      value,
      leaveOutputTensor,
      allowRequantize,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #leaveOutputTensor}. */
  public QuantizeOptions withLeaveOutputTensor(boolean value) {
    return new QuantizeOptions(
      fileType,
      pure,
      tensorTypes,
      outputTensorType,
      tokenEmbeddingType,
      value,
      allowRequantize,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #allowRequantize}. */
  public QuantizeOptions withAllowRequantize(boolean value) {
    return new QuantizeOptions(
      fileType,
      pure,
      tensorTypes,
      outputTensorType,
      tokenEmbeddingType,
      leaveOutputTensor,
      value,
      importance,
      importanceFile,
      chosen
    );
  }

  /** With {@link #importance} from {@link #importanceFile}; a matrix without entries counts as none, as in llama-quantize. */
  public QuantizeOptions withImportance(ImportanceMatrix matrix, String file) {
    boolean none = matrix == null || matrix.tensors().isEmpty();
    return new QuantizeOptions(
      fileType,
      pure,
      tensorTypes,
      outputTensorType,
      tokenEmbeddingType,
      leaveOutputTensor,
      allowRequantize,
      none ? null : matrix,
      none ? null : file,
      chosen
    );
  }

  /** With a {@link #fileType} and the types of single tensors, {@link #chosen}. */
  public QuantizeOptions withChosen(FileType type, ChosenTypes types) {
    return new QuantizeOptions(
      type,
      pure,
      tensorTypes,
      outputTensorType,
      tokenEmbeddingType,
      leaveOutputTensor,
      allowRequantize,
      importance,
      importanceFile,
      types
    );
  }
}
