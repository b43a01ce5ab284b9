package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.util.Objects;

/** The decoder of each tensor type that holds real numbers. Values are those of ggml's {@code to_float}, bit for bit. */
public final class BlockDecoders {

  private BlockDecoders() {}

  /**
   * The decoder of a type.
   *
   * @throws IllegalArgumentException if the type holds integers
   */
  public static BlockDecoder of(TensorType type) {
    Kernel kernel = switch (type) {
      case F32 -> PlainDecoders::f32;
      case F64 -> PlainDecoders::f64;
      case F16 -> PlainDecoders::f16;
      case BF16 -> PlainDecoders::bf16;
      case Q4_0 -> LegacyDecoders::q40;
      case Q4_1 -> LegacyDecoders::q41;
      case Q5_0 -> LegacyDecoders::q50;
      case Q5_1 -> LegacyDecoders::q51;
      case Q8_0 -> LegacyDecoders::q80;
      case Q8_1 -> LegacyDecoders::q81;
      case Q1_0 -> LegacyDecoders::q10;
      case Q2_0 -> LegacyDecoders::q20;
      case MXFP4 -> LegacyDecoders::mxfp4;
      case NVFP4 -> LegacyDecoders::nvfp4;
      case IQ4_NL -> LegacyDecoders::iq4nl;
      case IQ4_XS -> LegacyDecoders::iq4xs;
      case Q2_K -> KDecoders::q2;
      case Q3_K -> KDecoders::q3;
      case Q4_K -> KDecoders::q4;
      case Q5_K -> KDecoders::q5;
      case Q6_K -> KDecoders::q6;
      case Q8_K -> KDecoders::q8;
      case TQ1_0 -> KDecoders::tq1;
      case TQ2_0 -> KDecoders::tq2;
      case IQ1_S -> CodebookDecoders::iq1s;
      case IQ1_M -> CodebookDecoders::iq1m;
      case IQ2_XXS -> CodebookDecoders::iq2xxs;
      case IQ2_XS -> CodebookDecoders::iq2xs;
      case IQ2_S -> CodebookDecoders::iq2s;
      case IQ3_XXS -> CodebookDecoders::iq3xxs;
      case IQ3_S -> CodebookDecoders::iq3s;
      case I8, I16, I32, I64 -> throw new IllegalArgumentException("cannot decode " + type + " to real numbers");
    };
    return new KernelDecoder(type, kernel);
  }

  /** What a decoder does after its arguments were checked; the parameters are those of {@link BlockDecoder#decode}. */
  @FunctionalInterface
  private interface Kernel {
    void decode(byte[] in, int inOffset, float[] out, int outOffset, int count);
  }

  private record KernelDecoder(TensorType type, Kernel kernel) implements BlockDecoder {
    @Override
    public void decode(byte[] in, int inOffset, float[] out, int outOffset, int count) {
      Objects.checkFromIndexSize(inOffset, Math.toIntExact(type.rowBytes(count)), in.length);
      Objects.checkFromIndexSize(outOffset, count, out.length);
      kernel.decode(in, inOffset, out, outOffset, count);
    }
  }
}
