package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import java.lang.foreign.MemorySegment;

/** The reference, and what runs without the Vector API. */
final class ScalarRowKernel implements RowKernel {

  private static float get(MemorySegment x, long at, int i) {
    return x.get(JAVA_FLOAT, at + 4L * i);
  }

  private static void set(MemorySegment x, long at, int i, float value) {
    x.set(JAVA_FLOAT, at + 4L * i, value);
  }

  /** The exponential of a number up to 88, within 2 units in the last place; 0 where it would be no normal number. */
  static float exp(float x) {
    if (x < LEAST_EXPONENT) {
      return 0;
    }
    float shifted = Math.fma(x, LOG2_E, MAGIC);
    float whole = shifted - MAGIC;
    float r = Math.fma(whole, -LN2_LOW, Math.fma(whole, -LN2_HIGH, x));
    float tail = Math.fma(Math.fma(Math.fma(Math.fma(E4, r, E3), r, E2), r, E1), r, E0);
    float power = Math.fma(r * r, tail, r) + 1;
    return Float.intBitsToFloat(Float.floatToRawIntBits(power) + (Float.floatToRawIntBits(shifted) << 23));
  }

  /** The logarithm of 1 + e, for e from 0 to 1. */
  static float log1p(float e) {
    float s = e / (e + 2);
    float y = s * s;
    float tail = Math.fma(Math.fma(Math.fma(L3, y, L2), y, L1), y, L0);
    return 2 * Math.fma(s * y, tail, s);
  }

  private static float sigmoid(float x) {
    float e = exp(-Math.abs(x));
    return (x >= 0 ? 1 : e) / (1 + e);
  }

  @Override
  public double dot(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum = Math.fma((double) get(x, xAt, i), (double) get(y, yAt, i), sum);
    }
    return sum;
  }

  @Override
  public float dot(MemorySegment x, long xAt, MemorySegment y, long yAt, MemorySegment z, long zAt, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum += get(x, xAt, i) * get(y, yAt, i) * get(z, zAt, i);
    }
    return (float) sum;
  }

  @Override
  public void scale(float factor, MemorySegment from, long fromAt, MemorySegment to, long toAt, int n) {
    for (int i = 0; i < n; i++) {
      set(to, toAt, i, get(from, fromAt, i) * factor);
    }
  }

  @Override
  public void add(MemorySegment from, long fromAt, MemorySegment to, long toAt, int n) {
    for (int i = 0; i < n; i++) {
      set(to, toAt, i, get(to, toAt, i) + get(from, fromAt, i));
    }
  }

  @Override
  public void norm(
    MemorySegment x,
    long xAt,
    MemorySegment weight,
    float factor,
    MemorySegment out,
    long outAt,
    int n
  ) {
    for (int i = 0; i < n; i++) {
      set(out, outAt, i, get(x, xAt, i) * factor * get(weight, 0, i));
    }
  }

  @Override
  public void normGradient(
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
  ) {
    for (int i = 0; i < n; i++) {
      float in = get(x, at, i);
      float given = get(outGradient, at, i) * factor;
      float result = Math.fma(given, get(weight, 0, i), -back * in);
      set(xGradient, at, i, add ? get(xGradient, at, i) + result : result);
      set(weightGradient, weightGradientAt, i, Math.fma(given, in, get(weightGradient, weightGradientAt, i)));
    }
  }

  @Override
  public void rotateHalves(
    MemorySegment x,
    long at,
    MemorySegment cosines,
    MemorySegment sines,
    long angleAt,
    float sign,
    int n
  ) {
    for (int i = 0; i < n; i++) {
      rotate(x, at, i, i + n, get(cosines, angleAt, i), sign * get(sines, angleAt, i));
    }
  }

  @Override
  public void rotatePairs(
    MemorySegment x,
    long at,
    MemorySegment cosines,
    MemorySegment sines,
    long angleAt,
    float sign,
    int n
  ) {
    for (int i = 0; i < n; i++) {
      rotate(x, at, 2 * i, 2 * i + 1, get(cosines, angleAt, i), sign * get(sines, angleAt, i));
    }
  }

  private static void rotate(MemorySegment x, long at, int i, int j, float cosine, float sine) {
    float a = get(x, at, i);
    float b = get(x, at, j);
    set(x, at, i, a * cosine - b * sine);
    set(x, at, j, a * sine + b * cosine);
  }

  @Override
  public void swiGlu(MemorySegment gate, MemorySegment up, MemorySegment out, long at, int n) {
    for (int i = 0; i < n; i++) {
      float g = get(gate, at, i);
      set(out, at, i, g * sigmoid(g) * get(up, at, i));
    }
  }

  @Override
  public void swiGluGradient(
    MemorySegment gate,
    MemorySegment up,
    MemorySegment outGradient,
    MemorySegment gateGradient,
    MemorySegment upGradient,
    long at,
    int n
  ) {
    for (int i = 0; i < n; i++) {
      float g = get(gate, at, i);
      float given = get(outGradient, at, i);
      float s = sigmoid(g);
      float byGate = given * get(up, at, i) * s * Math.fma(g, 1 - s, 1);
      set(upGradient, at, i, given * g * s);
      set(gateGradient, at, i, byGate);
    }
  }

  @Override
  public float max(MemorySegment x, long at, int n) {
    float most = Float.NEGATIVE_INFINITY;
    for (int i = 0; i < n; i++) {
      float value = get(x, at, i);
      most = value > most ? value : most;
    }
    return most;
  }

  @Override
  public double sumExp(MemorySegment x, long at, int n, float shift, float factor) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum += exp((get(x, at, i) - shift) * factor);
    }
    return sum;
  }

  @Override
  public void softmax(MemorySegment x, long at, int n, int width, float[] mostAndSum) {
    float most = max(x, at, n);
    double sum = 0;
    for (int i = 0; i < n; i++) {
      float e = exp(get(x, at, i) - most);
      set(x, at, i, e);
      sum += e;
    }
    zero(x, at, n, width);
    mostAndSum[0] = most;
    mostAndSum[1] = (float) sum;
  }

  private static void zero(MemorySegment x, long at, int from, int to) {
    for (int i = from; i < to; i++) {
      set(x, at, i, 0);
    }
  }

  @Override
  public void softmaxGradient(MemorySegment p, MemorySegment d, long at, int n, int width, float logSum, float delta) {
    for (int i = 0; i < n; i++) {
      float e = exp(get(p, at, i) - logSum);
      set(p, at, i, e);
      set(d, at, i, e * (get(d, at, i) - delta));
    }
    zero(p, at, n, width);
    zero(d, at, n, width);
  }

  @Override
  public void transpose(
    MemorySegment from,
    long fromAt,
    int fromStride,
    int rows,
    int columns,
    MemorySegment to,
    long toAt,
    int toStride
  ) {
    for (int first = 0; first < rows; first += WIDTH) {
      int end = Math.min(rows, first + WIDTH);
      for (int column = 0; column < columns; column++) {
        for (int row = first; row < end; row++) {
          float value = from.get(JAVA_FLOAT, fromAt + 4 * ((long) row * fromStride + column));
          to.set(JAVA_FLOAT, toAt + 4 * ((long) column * toStride + row), value);
        }
      }
    }
  }

  private static float log(Logs log, int i) {
    return log.of(get(log.values(), log.at(), i));
  }

  @Override
  public void exp(float factor, Logs log, int n, MemorySegment out, long outAt) {
    for (int i = 0; i < n; i++) {
      set(out, outAt, i, factor * exp(log(log, i)));
    }
  }

  @Override
  public void addExp(float factor, Logs log, int n, MemorySegment out, long outAt) {
    for (int i = 0; i < n; i++) {
      set(out, outAt, i, Math.fma(factor, exp(log(log, i)), get(out, outAt, i)));
    }
  }

  /** The product of a probability, with its logarithm, and a number; 0 without a probability. */
  private static float expected(float log, float value) {
    float p = exp(log);
    return p == 0 ? 0 : p * value;
  }

  @Override
  public double relativeEntropy(Logs p, Logs q, float least, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      float log = log(p, i);
      sum += expected(log, log - Math.max(log(q, i), least));
    }
    return sum;
  }

  @Override
  public void relativeEntropyGradient(
    Logs q,
    Logs p,
    float least,
    float mean,
    float factor,
    int n,
    MemorySegment out,
    long outAt
  ) {
    for (int i = 0; i < n; i++) {
      float log = log(q, i);
      set(out, outAt, i, factor * expected(log, log - Math.max(log(p, i), least) - mean));
    }
  }

  @Override
  public void logMixture(float beta, Logs p, Logs q, int n, MemorySegment out, long outAt) {
    float logBeta = (float) Math.log(beta);
    float logRest = (float) Math.log1p(-beta);
    for (int i = 0; i < n; i++) {
      float a = log(p, i) + logBeta;
      float b = log(q, i) + logRest;
      set(out, outAt, i, Math.max(a, b) + log1p(exp(-Math.abs(a - b))));
    }
  }

  @Override
  public double squaredDistance(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
      double difference = (double) get(x, xAt, i) - get(y, yAt, i);
      sum = Math.fma(difference, difference, sum);
    }
    return sum;
  }

  @Override
  public void difference(float factor, MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    for (int i = 0; i < n; i++) {
      set(x, xAt, i, (get(x, xAt, i) - get(y, yAt, i)) * factor);
    }
  }

  @Override
  public void combine(float a, MemorySegment x, long xAt, float b, MemorySegment y, long yAt, int n) {
    for (int i = 0; i < n; i++) {
      set(x, xAt, i, Math.fma(a, get(x, xAt, i), b * get(y, yAt, i)));
    }
  }

  @Override
  public void adamW(
    MemorySegment weights,
    MemorySegment gradient,
    MemorySegment first,
    MemorySegment second,
    long at,
    int n,
    AdamStep step
  ) {
    float byFirst = (float) (1 / step.firstCorrection());
    float bySecond = (float) (1 / step.secondCorrection());
    for (int i = 0; i < n; i++) {
      float g = get(gradient, at, i) * step.gradientScale();
      float m = Math.fma(get(first, at, i), step.beta1(), g * (1 - step.beta1()));
      float v = Math.fma(get(second, at, i), step.beta2(), g * g * (1 - step.beta2()));
      set(first, at, i, m);
      set(second, at, i, v);
      float w = get(weights, at, i);
      float change = (m * byFirst) / ((float) Math.sqrt(v * bySecond) + step.epsilon());
      set(weights, at, i, w - step.rate() * Math.fma(step.decay(), w, change));
    }
  }
}
