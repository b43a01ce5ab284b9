package dev.attar.compute;

import java.lang.foreign.MemorySegment;

/**
 * Loops over consecutive numbers of a row. Numbers are float32 in the machine's byte order; where they begin is said in bytes. What is
 * written may be what is read, at the same place, but not overlap it otherwise.
 */
public interface RowKernel {
  // Coefficients of the exponential and the logarithm: fitted with the least largest error.

  float LOG2_E = 0x1.715476p0f;
  float LN2_HIGH = 0x1.62e4p-1f;
  float LN2_LOW = 0x1.7f7d1cp-20f;

  /** Adding it rounds a number below 2^22 to a whole one, which is in the sum's last bits. */
  float MAGIC = 0x1.8p23f;

  /** Below it, the exponential is 0: the result would be no normal number. */
  float LEAST_EXPONENT = -87.3f;

  /** {@code exp(r) = 1 + r + r² (E0 + E1 r + ...)} for r up to half the logarithm of 2, within 3e-9. */
  float E0 = 0x1.fffffcp-2f;
  float E1 = 0x1.555492p-3f;
  float E2 = 0x1.5558f2p-5f;
  float E3 = 0x1.1239e2p-7f;
  float E4 = 0x1.6a2438p-10f;

  /** {@code log(1 + e) = 2 s (1 + y (L0 + L1 y + ...))} with {@code s = e / (2 + e)} and {@code y = s²}, for e up to 1, within 5e-9. */
  float L0 = 0x1.5555p-2f;
  float L1 = 0x1.99d2aap-3f;
  float L2 = 0x1.1eb2bep-3f;
  float L3 = 0x1.1f0a34p-3f;

  /** The implementation for this process. */
  static RowKernel get() {
    return ModuleLayer.boot().findModule("jdk.incubator.vector").isPresent()
      ? VectorHolder.KERNEL
      : new ScalarRowKernel();
  }

  /** Apart, so that it is loaded only where the Vector API is there. */
  final class VectorHolder {

    private static final RowKernel KERNEL = new VectorRowKernel();

    private VectorHolder() {}
  }

  /**
   * Logarithms of probabilities: of number x in the row, {@code (x - shift) * factor - logSum}.
   *
   * @param at where the row begins, in bytes
   */
  record Logs(MemorySegment values, long at, float shift, float factor, float logSum) {
    /** Of logits, with the sum of their exponentials. */
    static Logs of(RowKernel kernel, MemorySegment logits, long at, int n, float factor) {
      float most = kernel.max(logits, at, n);
      double sum = kernel.sumExp(logits, at, n, most, factor);
      return new Logs(logits, at, most, factor, (float) Math.log(sum));
    }

    /** Of one number. */
    float of(float x) {
      return (x - shift) * factor - logSum;
    }
  }

  /** The sum of products, in double precision. */
  double dot(MemorySegment x, long xAt, MemorySegment y, long yAt, int n);

  /** The sum of {@code x y z}. */
  float dot(MemorySegment x, long xAt, MemorySegment y, long yAt, MemorySegment z, long zAt, int n);

  /** {@code to = factor * from}. */
  void scale(float factor, MemorySegment from, long fromAt, MemorySegment to, long toAt, int n);

  /** {@code to += from}. */
  void add(MemorySegment from, long fromAt, MemorySegment to, long toAt, int n);

  /** {@code out = x * factor * weight}. */
  void norm(MemorySegment x, long xAt, MemorySegment weight, float factor, MemorySegment out, long outAt, int n);

  /**
   * {@code xGradient = factor * outGradient * weight - back * x}, plus what it was if add; and {@code weightGradient += outGradient * x *
   * factor}.
   */
  void normGradient(
    MemorySegment x,
    MemorySegment outGradient,
    MemorySegment xGradient,
    long at,
    MemorySegment weight,
    float factor,
    float back,
    boolean add,
    MemorySegment weightGradient,
    long weightGradientAt,
    int n
  );

  /** Rotates numbers i and i + n by angle i. The sines are multiplied with {@code sign}. */
  void rotateHalves(
    MemorySegment x,
    long at,
    MemorySegment cosines,
    MemorySegment sines,
    long angleAt,
    float sign,
    int n
  );

  /** Rotates numbers 2 i and 2 i + 1 by angle i. The sines are multiplied with {@code sign}. */
  void rotatePairs(
    MemorySegment x,
    long at,
    MemorySegment cosines,
    MemorySegment sines,
    long angleAt,
    float sign,
    int n
  );

  /** {@code out = gate / (1 + exp(-gate)) * up}, all from the same place on. */
  void swiGlu(MemorySegment gate, MemorySegment up, MemorySegment out, long at, int n);

  /** The derivative of {@link #swiGlu}. */
  void swiGluGradient(
    MemorySegment gate,
    MemorySegment up,
    MemorySegment outGradient,
    MemorySegment gateGradient,
    MemorySegment upGradient,
    long at,
    int n
  );

  /** The largest number; what is no number does not count, negative infinity if there is none. */
  float max(MemorySegment x, long at, int n);

  /** The sum of {@code exp((x - shift) * factor)}. */
  double sumExp(MemorySegment x, long at, int n, float shift, float factor);

  /** Numbers from one place that is a multiple of whole vectors to the next. */
  int WIDTH = 16;

  /**
   * Replaces n numbers with {@code exp(x - most)}, and what follows with zeros.
   *
   * @param n at least 1
   * @param width up to where there are zeros: at least n, a multiple of {@link #WIDTH}
   * @param mostAndSum gets the largest number, and the sum of the exponentials
   */
  void softmax(MemorySegment x, long at, int n, int width, float[] mostAndSum);

  /** {@code p = exp(p - logSum)}, then {@code d = p * (d - delta)}, for n numbers; what follows becomes 0 as with {@link #softmax}. */
  void softmaxGradient(MemorySegment p, MemorySegment d, long at, int n, int width, float logSum, float delta);

  /** {@code to = from'}: rows of so many numbers become columns; strides in numbers. */
  void transpose(
    MemorySegment from,
    long fromAt,
    int fromStride,
    int rows,
    int columns,
    MemorySegment to,
    long toAt,
    int toStride
  );

  // Loops with one exponential each: with more, a compiler that counts what it puts in line gives up and keeps vectors in memory.

  /** {@code out = factor * exp(log)}. */
  void exp(float factor, Logs log, int n, MemorySegment out, long outAt);

  /** {@code out += factor * exp(log)}. */
  void addExp(float factor, Logs log, int n, MemorySegment out, long outAt);

  /**
   * The sum of {@code p * (log(p) - max(log(q), least))}, where 0 times what is not finite is 0.
   *
   * @param p logarithms, as q
   */
  double relativeEntropy(Logs p, Logs q, float least, int n);

  /** {@code out = factor * q * (log(q) - max(log(p), least) - mean)}, where 0 times what is not finite is 0. */
  void relativeEntropyGradient(
    Logs q,
    Logs p,
    float least,
    float mean,
    float factor,
    int n,
    MemorySegment out,
    long outAt
  );

  /** The logarithms of {@code beta p + (1 - beta) q}. */
  void logMixture(float beta, Logs p, Logs q, int n, MemorySegment out, long outAt);

  /** {@code sum (x - y)²}; in double precision. */
  double squaredDistance(MemorySegment x, long xAt, MemorySegment y, long yAt, int n);

  /** {@code x = factor * (x - y)}. */
  void difference(float factor, MemorySegment x, long xAt, MemorySegment y, long yAt, int n);

  /** {@code x = a x + b y}. */
  void combine(float a, MemorySegment x, long xAt, float b, MemorySegment y, long yAt, int n);

  /** See {@link TransformerOperations#adamW}: all from the same place on. */
  void adamW(
    MemorySegment weights,
    MemorySegment gradient,
    MemorySegment first,
    MemorySegment second,
    long at,
    int n,
    AdamStep step
  );
}
