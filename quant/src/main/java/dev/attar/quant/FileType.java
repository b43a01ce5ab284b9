package dev.attar.quant;

import dev.attar.formats.TensorType;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * The file types that llama-quantize of llama.cpp v0.5.0 writes: a name, the number that {@code general.file_type} holds, and the
 * type that most tensors get. Which tensors get another one is said by {@link Mixture}.
 */
public enum FileType {
  F32(0, TensorType.F32, false, "single precision"),
  F16(1, TensorType.F16, false, "half precision"),
  BF16(32, TensorType.BF16, false, "bfloat16"),
  Q8_0(7, TensorType.Q8_0, false, "8 bits, one scale per 32 values; nearly lossless"),
  Q6_K(18, TensorType.Q6_K, false, "6 bits"),
  Q5_K_M(17, TensorType.Q5_K, false, "5 bits, 6 for the sensitive half of values and down projections"),
  Q5_K_S(16, TensorType.Q5_K, false, "5 bits"),
  Q5_1(9, TensorType.Q5_1, false, "5 bits, scale and minimum per 32 values; older form"),
  Q5_0(8, TensorType.Q5_0, false, "5 bits, one scale per 32 values; older form"),
  Q4_K_M(15, TensorType.Q4_K, false, "4 bits, 6 for the sensitive half of values and down projections; a good default"),
  Q4_K_S(14, TensorType.Q4_K, false, "4 bits, 5 for the first layers' values and down projections"),
  IQ4_NL(25, TensorType.IQ4_NL, false, "4 bits on a non-linear grid, one scale per 32 values"),
  IQ4_XS(30, TensorType.IQ4_XS, false, "4 bits on a non-linear grid, smaller scales"),
  Q4_1(3, TensorType.Q4_1, false, "4 bits, scale and minimum per 32 values; older form"),
  Q4_0(2, TensorType.Q4_0, false, "4 bits, one scale per 32 values; older form"),
  MXFP4_MOE(38, TensorType.MXFP4, false, "4-bit floats for experts, 8 bits for the rest"),
  Q3_K_L(13, TensorType.Q3_K, false, "3 bits, 5 for values, outputs and down projections"),
  Q3_K_M(12, TensorType.Q3_K, false, "3 bits, 4 to 5 for values, outputs and down projections"),
  Q3_K_S(11, TensorType.Q3_K, false, "3 bits"),
  IQ3_M(27, TensorType.IQ3_S, false, "3 bits from a codebook, 4 for values, outputs and the first down projections"),
  IQ3_S(26, TensorType.IQ3_S, false, "3.4 bits from a codebook"),
  IQ3_XS(22, TensorType.IQ3_S, true, "3.3 bits from codebooks"),
  IQ3_XXS(23, TensorType.IQ3_XXS, true, "3.1 bits from codebooks"),
  Q2_K(10, TensorType.Q2_K, false, "2 bits, 3 to 4 for values, outputs and down projections"),
  Q2_K_S(21, TensorType.Q2_K, true, "2 bits"),
  Q2_0(41, TensorType.Q2_0, false, "2 bits, one scale per 64 values"),
  IQ2_M(29, TensorType.IQ2_S, true, "2.7 bits from codebooks"),
  IQ2_S(28, TensorType.IQ2_XS, true, "2.5 bits from codebooks"),
  IQ2_XS(20, TensorType.IQ2_XS, true, "2.3 bits from a codebook"),
  IQ2_XXS(19, TensorType.IQ2_XXS, true, "2.1 bits from a codebook"),
  IQ1_M(31, TensorType.IQ1_M, true, "1.75 bits from a codebook"),
  IQ1_S(24, TensorType.IQ1_S, true, "1.6 bits from a codebook"),
  TQ2_0(37, TensorType.TQ2_0, false, "ternary weights at 2.06 bits"),
  TQ1_0(36, TensorType.TQ1_0, false, "ternary weights at 1.69 bits"),
  Q1_0(40, TensorType.Q1_0, false, "1 bit, one scale per 128 values"),
  /** Tensors as they are; {@code general.file_type} stays what it was. */
  COPY(0, TensorType.F32, false, "every tensor as it is");

  private static final Map<String, FileType> ALIASES = Map.of(
    "Q3_K",
    Q3_K_M,
    "Q4_K",
    Q4_K_M,
    "Q5_K",
    Q5_K_M,
    "INT8",
    Q8_0
  );

  private final int id;
  private final TensorType defaultType;
  private final boolean importanceRequired;
  private final String description;

  FileType(int id, TensorType defaultType, boolean importanceRequired, String description) {
    this.id = id;
    this.defaultType = defaultType;
    this.importanceRequired = importanceRequired;
    this.description = description;
  }

  /** The number of this type in {@code general.file_type} ({@code llama_ftype}); of no use for {@link #COPY}. */
  public int id() {
    return id;
  }

  /** The type that a tensor gets when no rule names another one. */
  public TensorType defaultType() {
    return defaultType;
  }

  /**
   * Whether the mixture, on a usual model, holds a tensor type so small that llama-quantize refuses it without an importance matrix.
   * What counts in the end is each tensor's type ({@link QuantizationPlan#problems()}).
   */
  public boolean importanceRequired() {
    return importanceRequired;
  }

  /** What the type is, in a few words. */
  public String description() {
    return description;
  }

  /** Other names of this type. */
  public List<String> aliases() {
    return ALIASES.entrySet()
      .stream()
      .filter(e -> e.getValue() == this)
      .map(Map.Entry::getKey)
      .sorted()
      .toList();
  }

  /** The type with this name or alias ({@code Q4_K} is Q4_K_M, {@code int8} is Q8_0), in any case. */
  public static Optional<FileType> byName(String name) {
    String upper = name.toUpperCase(Locale.ROOT);
    FileType alias = ALIASES.get(upper);
    return alias != null
      ? Optional.of(alias)
      : Arrays.stream(values())
          .filter(t -> t.name().equals(upper))
          .findFirst();
  }

  /**
   * The file type that is the usual one for a model whose tensors have mostly this type; empty if there is none.
   *
   * @param mostFrequent a tensor type
   */
  public static Optional<FileType> usual(TensorType mostFrequent) {
    return switch (mostFrequent) {
      case Q3_K -> Optional.of(Q3_K_M);
      case Q4_K -> Optional.of(Q4_K_M);
      case Q5_K -> Optional.of(Q5_K_M);
      default -> Arrays.stream(values())
        .filter(t -> t.name().equals(mostFrequent.name()))
        .findFirst();
    };
  }

  /**
   * The number that llama.cpp takes for {@code general.file_type} of a file that has none: the usual mixture of the tensor type that
   * most tensors have, plus 1024 to say that it is a guess.
   */
  static int guess(TensorType mostFrequent) {
    int id = mostFrequent == TensorType.NVFP4 ? 39 : usual(mostFrequent).orElse(F32).id;
    return id | 1024;
  }
}
