package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.util.EnumMap;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;

/**
 * The encoders written in Java: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL, IQ4_XS and the
 * k-quants. Each has a scalar version, the reference, and one with SIMD that gives the same bytes.
 */
public final class BlockEncoders {

  private BlockEncoders() {}

  /**
   * The fastest encoder of a type that this machine can run, as {@link Simd} chose; empty for types that are not encoded in Java.
   *
   * @throws IllegalStateException if {@link Simd} was forced to what cannot be had
   */
  public static Optional<BlockEncoder> of(TensorType type) {
    return Simd.isVector() ? Optional.ofNullable(Shared.ENCODERS.get(type)) : scalar(type);
  }

  /** One encoder with vectors for each type, as those that warm up must be shared to do so once. */
  private static final class Shared {

    static final Map<TensorType, BlockEncoder> ENCODERS = new EnumMap<>(TensorType.class);

    static {
      for (TensorType type : TensorType.values()) {
        BlockEncoder scalar = scalar(type).orElse(null);
        BlockEncoder vector = vector(type).orElse(null);
        if (scalar != null) {
          ENCODERS.put(type, vector == null ? scalar : Simd.isForced() ? vector : new WarmingEncoder(scalar, vector));
        }
      }
    }
  }

  /** The scalar encoder of a type; empty for types that are not encoded in Java. */
  public static Optional<BlockEncoder> scalar(TensorType type) {
    return switch (type) {
      case F32 -> encoder(type, ScalarEncoders::f32);
      case F16 -> encoder(type, ScalarEncoders::f16);
      case BF16 -> encoder(type, ScalarEncoders::bf16);
      case Q8_0 -> encoder(type, ScalarEncoders::q80);
      case Q4_0 -> encoder(type, ScalarEncoders::q40);
      case Q4_1 -> encoder(type, ScalarEncoders::q41);
      case Q5_0 -> encoder(type, ScalarEncoders::q50);
      case Q5_1 -> encoder(type, ScalarEncoders::q51);
      case IQ4_NL -> encoder(type, ScalarEncoders::iq4nl);
      case IQ4_XS -> encoder(type, ScalarEncoders::iq4xs);
      case Q2_K, Q3_K, Q4_K, Q5_K, Q6_K -> Optional.of(KQuants.scalar(type));
      default -> Optional.empty();
    };
  }

  /** The encoder to {@link BlockGrid#withExactZero}; empty for types without that, or that are not encoded in Java. */
  public static Optional<BlockEncoder> withExactZero(TensorType type) {
    return BlockGrid.withExactZero(type).flatMap(grid ->
      grid instanceof CenteredGrid centered ? encoder(type, new CenteredEncoder(centered)) : of(type)
    );
  }

  /** The encoder with vectors; empty where there is none and the scalar one serves. */
  private static Optional<BlockEncoder> vector(TensorType type) {
    return switch (type) {
      case F16 -> encoder(type, PlainVectors::f16);
      case BF16 -> encoder(type, PlainVectors::bf16);
      case Q8_0 -> encoder(type, LegacyVectors::q80);
      case Q4_0 -> encoder(type, LegacyVectors::q40);
      case Q4_1 -> encoder(type, LegacyVectors::q41);
      case Q5_0 -> encoder(type, LegacyVectors::q50);
      case Q5_1 -> encoder(type, LegacyVectors::q51);
      case IQ4_NL -> encoder(type, Iq4Vectors::iq4nl);
      case IQ4_XS -> encoder(type, Iq4Vectors::iq4xs);
      case Q2_K, Q3_K, Q4_K, Q5_K, Q6_K -> Optional.of(KQuants.vector(type));
      default -> Optional.empty();
    };
  }

  private static Optional<BlockEncoder> encoder(TensorType type, Kernel kernel) {
    return Optional.of(new KernelEncoder(type, kernel));
  }

  /** What an encoder does after its arguments were checked; the parameters are those of {@link BlockEncoder#encode}. */
  @FunctionalInterface
  interface Kernel {
    void encode(
      float[] x,
      int xOffset,
      int rowLength,
      int rows,
      float[] importance,
      int importanceOffset,
      byte[] out,
      int outOffset
    );
  }

  /** An encoder from a kernel. */
  record KernelEncoder(TensorType type, Kernel kernel) implements BlockEncoder {
    @Override
    public void encode(
      float[] x,
      int xOffset,
      int rowLength,
      int rows,
      float[] importance,
      int importanceOffset,
      byte[] out,
      int outOffset
    ) {
      int values = Math.multiplyExact(rowLength, rows);
      int bytes = Math.toIntExact(Math.multiplyExact(type.rowBytes(rowLength), (long) rows));
      Objects.checkFromIndexSize(xOffset, values, x.length);
      Objects.checkFromIndexSize(outOffset, bytes, out.length);
      if (importance != null) {
        Objects.checkFromIndexSize(importanceOffset, rowLength, importance.length);
      }
      kernel.encode(x, xOffset, rowLength, rows, importance, importanceOffset, out, outOffset);
    }
  }
}
