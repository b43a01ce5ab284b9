package dev.attar.formats.architecture;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** What a conversion writes matrices as: {@code --outtype} of llama.cpp's converter. */
public enum OutputType {
  /** The first matrix's type if it has 16 bits, F16 otherwise; see {@link #resolve}. */
  AUTO(1024, null),
  F32(0, TensorType.F32),
  F16(1, TensorType.F16),
  BF16(32, TensorType.BF16),
  Q8_0(7, TensorType.Q8_0);

  private final int fileType;
  private final TensorType matrixType;

  OutputType(int fileType, TensorType matrixType) {
    this.fileType = fileType;
    this.matrixType = matrixType;
  }

  /** {@code general.file_type} of the result. */
  public int fileType() {
    return fileType;
  }

  /** The type with this name, in any case. */
  public static Optional<OutputType> byName(String name) {
    try {
      return Optional.of(valueOf(name.toUpperCase(Locale.ROOT)));
    } catch (IllegalArgumentException _) {
      return Optional.empty();
    }
  }

  /** This type, or for {@link #AUTO} that of the model's first matrix in BF16 or F16, and F16 if there is none. */
  public OutputType resolve(Model model) {
    return resolve(model.tensors().stream().map(Tensor::info).toList());
  }

  /** As {@link #resolve(Model)}, from the model's tensors. */
  OutputType resolve(List<TensorInfo> tensors) {
    if (this != AUTO) {
      return this;
    }
    return tensors
      .stream()
      .filter(info -> info.shape().length >= 2)
      .map(TensorInfo::type)
      .filter(type -> type == TensorType.BF16 || type == TensorType.F16)
      .findFirst()
      .map(type -> type == TensorType.BF16 ? BF16 : F16)
      .orElse(F16);
  }

  /**
   * The type that a tensor is written as: vectors, norms, routers and whatever is not a weight in single precision, the rest in
   * this type, or F16 where a row is not a whole number of blocks.
   *
   * @throws IllegalStateException for {@link #AUTO}, which must be resolved first
   */
  public TensorType typeOf(TensorInfo tensor) {
    if (this == AUTO) {
      throw new IllegalStateException("not resolved for a model");
    }
    if (tensor.shape().length == 1 || isAlwaysF32(tensor.name())) {
      return TensorType.F32;
    }
    return tensor.rowLength() % matrixType.blockLength() == 0 ? matrixType : TensorType.F16;
  }

  static boolean isAlwaysF32(String name) {
    return name.endsWith("_norm.weight") || name.endsWith(".ffn_gate_inp.weight") || !name.endsWith(".weight");
  }
}
