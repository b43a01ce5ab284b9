package dev.attar.formats.block;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** Little-endian access to bytes and conversions of single numbers, as ggml does them on x86-64. */
final class Bits {

  private static final VarHandle SHORT = MethodHandles.byteArrayViewVarHandle(short[].class, ByteOrder.LITTLE_ENDIAN);
  private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
  private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

  private static final int QUIET_NAN = 0x7E00;

  private Bits() {}

  static int getUnsignedShort(byte[] in, int at) {
    return (short) SHORT.get(in, at) & 0xFFFF;
  }

  static int getInt(byte[] in, int at) {
    return (int) INT.get(in, at);
  }

  static long getLong(byte[] in, int at) {
    return (long) LONG.get(in, at);
  }

  static void putShort(byte[] out, int at, int value) {
    SHORT.set(out, at, (short) value);
  }

  static void putInt(byte[] out, int at, int value) {
    INT.set(out, at, value);
  }

  static void putLong(byte[] out, int at, long value) {
    LONG.set(out, at, value);
  }

  /** The half at this place. */
  static float getHalf(byte[] in, int at) {
    return Float.float16ToFloat((short) SHORT.get(in, at));
  }

  /**
   * Writes a scale as a half, rounded to nearest even. A scale that is not a number came out of arithmetic on infinities, whose
   * result has its sign bit set on x86-64; other machines and the JVM's own constants differ, so the sign is fixed here.
   */
  static void putScale(byte[] out, int at, float scale) {
    putShort(out, at, Float.isNaN(scale) ? 0x8000 | QUIET_NAN : Float.floatToFloat16(scale));
  }

  /** The half nearest to a value, ties to even; for what is not a number, the quiet one with the same sign. */
  static short half(float x) {
    return Float.isNaN(x)
      ? (short) (((Float.floatToRawIntBits(x) >>> 16) & 0x8000) | QUIET_NAN)
      : Float.floatToFloat16(x);
  }

  /** The bfloat16 nearest to a value, ties to even; what is not a number becomes quiet. */
  static short brain(float x) {
    int bits = Float.floatToRawIntBits(x);
    return Float.isNaN(x) ? (short) ((bits >>> 16) | 0x40) : (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16);
  }

  /**
   * The low byte of the conversion to an integer by truncation. What does not fit an int becomes 0x80000000 on x86-64, of which the
   * low byte is 0; Java saturates instead.
   */
  static int truncateToByte(float x) {
    int i = (int) x;
    return i == Integer.MAX_VALUE ? 0 : i & 0xFF;
  }
}
