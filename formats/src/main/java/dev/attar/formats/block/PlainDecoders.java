package dev.attar.formats.block;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/** Decoders of values one by one. Each method has the parameters of {@link BlockDecoder#decode}. */
final class PlainDecoders {

  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  private PlainDecoders() {}

  static void f32(byte[] in, int at, float[] out, int to, int count) {
    ByteBuffer.wrap(in, at, 4 * count).order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer().get(out, to, count);
  }

  /** Rounded to single precision. */
  static void f64(byte[] in, int at, float[] out, int to, int count) {
    for (int i = 0; i < count; i++) {
      out[to + i] = (float) Double.longBitsToDouble(Bits.getLong(in, at + 8 * i));
    }
  }

  static void f16(byte[] in, int at, float[] out, int to, int count) {
    for (int i = 0; i < count; i++) {
      out[to + i] = Bits.getHalf(in, at + 2 * i);
    }
  }

  static void bf16(byte[] in, int at, float[] out, int to, int count) {
    // Written as integers, in a form that the compiler turns into vectors.
    MemorySegment source = MemorySegment.ofArray(in);
    MemorySegment target = MemorySegment.ofArray(out);
    for (int i = 0; i < count; i++) {
      target.set(INT, 4L * to + 4L * i, source.get(SHORT, at + 2L * i) << 16);
    }
  }
}
