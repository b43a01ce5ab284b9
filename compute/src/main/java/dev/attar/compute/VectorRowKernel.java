package dev.attar.compute;

import static jdk.incubator.vector.VectorOperators.EQ;
import static jdk.incubator.vector.VectorOperators.F2D;
import static jdk.incubator.vector.VectorOperators.GE;
import static jdk.incubator.vector.VectorOperators.GT;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LT;

import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorShuffle;
import jdk.incubator.vector.VectorSpecies;

/** With the JDK's Vector API. What is left of a row after whole vectors is the scalar kernel's. */
final class VectorRowKernel implements RowKernel {

  private static final VectorSpecies<Float> S = FloatVector.SPECIES_PREFERRED.length() > WIDTH
    ? FloatVector.SPECIES_512
    : FloatVector.SPECIES_PREFERRED;
  private static final int V = S.length();
  private static final int BYTES = S.vectorByteSize();

  /** As many numbers in single precision as {@link #D} has in double. */
  private static final VectorSpecies<Float> HALF = VectorSpecies.of(
    float.class,
    VectorShape.forBitSize(S.vectorBitSize() / 2)
  );
  private static final VectorSpecies<Double> D = VectorSpecies.of(double.class, S.vectorShape());

  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  /** Vectors whose sum is computed in single precision, before it is added in double. */
  private static final int BLOCK = 32 * V;

  private static final VectorShuffle<Float> SWAP = VectorShuffle.fromOp(S, i -> i ^ 1);
  private static final VectorShuffle<Float> LOWER_TWICE = VectorShuffle.fromOp(S, i -> i / 2);
  private static final VectorShuffle<Float> UPPER_TWICE = VectorShuffle.fromOp(S, i -> V / 2 + i / 2);
  private static final FloatVector PLACES = FloatVector.zero(S).addIndex(1);
  private static final FloatVector SIGNS = FloatVector.fromArray(S, signs(), 0);

  // Of the exponential, in all lanes.
  private static final FloatVector LOG2_ES = FloatVector.broadcast(S, LOG2_E);
  private static final FloatVector MAGICS = FloatVector.broadcast(S, MAGIC);
  private static final FloatVector MINUS_LN2_HIGHS = FloatVector.broadcast(S, -LN2_HIGH);
  private static final FloatVector MINUS_LN2_LOWS = FloatVector.broadcast(S, -LN2_LOW);
  private static final FloatVector E0S = FloatVector.broadcast(S, E0);
  private static final FloatVector E1S = FloatVector.broadcast(S, E1);
  private static final FloatVector E2S = FloatVector.broadcast(S, E2);
  private static final FloatVector E3S = FloatVector.broadcast(S, E3);
  private static final FloatVector E4S = FloatVector.broadcast(S, E4);
  private static final FloatVector ONES = FloatVector.broadcast(S, 1);

  private static final VectorShuffle<Float> BY_8 = turned(S, 8);
  private static final VectorShuffle<Float> BY_4 = turned(S, 4);
  private static final VectorShuffle<Float> BY_2 = turned(S, 2);
  private static final VectorShuffle<Float> BY_1 = turned(S, 1);
  private static final VectorShuffle<Double> DOUBLES_BY_4 = turned(D, 4);
  private static final VectorShuffle<Double> DOUBLES_BY_2 = turned(D, 2);
  private static final VectorShuffle<Double> DOUBLES_BY_1 = turned(D, 1);

  private final ScalarRowKernel scalar = new ScalarRowKernel();

  private static float[] signs() {
    float[] signs = new float[V];
    for (int i = 0; i < V; i++) {
      signs[i] = i % 2 == 0 ? -1 : 1;
    }
    return signs;
  }

  /** Has each lane find the one so many further on, around the end. */
  private static <E> VectorShuffle<E> turned(VectorSpecies<E> species, int by) {
    return VectorShuffle.fromOp(species, i -> (i + by) % species.length());
  }

  /** The sum of lanes, in an order that is always the same: that of reduceLanes is another one before it is compiled. */
  private static float total(FloatVector lanes) {
    FloatVector sum = lanes;
    if (V > 8) {
      sum = sum.add(sum.rearrange(BY_8));
    }
    if (V > 4) {
      sum = sum.add(sum.rearrange(BY_4));
    }
    if (V > 2) {
      sum = sum.add(sum.rearrange(BY_2));
    }
    return sum.add(sum.rearrange(BY_1)).lane(0);
  }

  private static double total(DoubleVector lanes) {
    DoubleVector sum = lanes;
    if (D.length() > 4) {
      sum = sum.add(sum.rearrange(DOUBLES_BY_4));
    }
    if (D.length() > 2) {
      sum = sum.add(sum.rearrange(DOUBLES_BY_2));
    }
    return sum.add(sum.rearrange(DOUBLES_BY_1)).lane(0);
  }

  private static FloatVector load(MemorySegment x, long at) {
    return FloatVector.fromMemorySegment(S, x, at, ORDER);
  }

  private static DoubleVector loadDoubles(MemorySegment x, long at) {
    return (DoubleVector) FloatVector.fromMemorySegment(HALF, x, at, ORDER).convertShape(F2D, D, 0);
  }

  private static FloatVector exp(FloatVector x) {
    FloatVector shifted = x.fma(LOG2_ES, MAGICS);
    FloatVector whole = shifted.sub(MAGICS);
    FloatVector r = whole.fma(MINUS_LN2_LOWS, whole.fma(MINUS_LN2_HIGHS, x));
    FloatVector tail = E4S.fma(r, E3S).fma(r, E2S).fma(r, E1S).fma(r, E0S);
    FloatVector power = r.mul(r).fma(tail, r).add(ONES);
    FloatVector result = power
      .reinterpretAsInts()
      .add(shifted.reinterpretAsInts().lanewise(LSHL, 23))
      .reinterpretAsFloats();
    return result.blend(0, x.compare(LT, LEAST_EXPONENT));
  }

  private static FloatVector log1p(FloatVector e) {
    FloatVector s = e.div(e.add(2));
    FloatVector y = s.mul(s);
    FloatVector tail = FloatVector.broadcast(S, L3);
    tail = tail.fma(y, FloatVector.broadcast(S, L2));
    tail = tail.fma(y, FloatVector.broadcast(S, L1));
    tail = tail.fma(y, FloatVector.broadcast(S, L0));
    return s.mul(y).fma(tail, s).mul(2);
  }

  private static FloatVector sigmoid(FloatVector x) {
    FloatVector e = exp(x.abs().neg());
    return e.blend(1, x.compare(GE, 0)).div(e.add(1));
  }

  @Override
  public double dot(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    DoubleVector sum = DoubleVector.zero(D);
    DoubleVector sum2 = sum;
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      long at = 4L * i;
      sum = loadDoubles(x, xAt + at).fma(loadDoubles(y, yAt + at), sum);
      at += BYTES / 2;
      sum2 = loadDoubles(x, xAt + at).fma(loadDoubles(y, yAt + at), sum2);
    }
    double result = total(sum.add(sum2));
    return i == n ? result : result + scalar.dot(x, xAt + 4L * i, y, yAt + 4L * i, n - i);
  }

  @Override
  public float dot(MemorySegment x, long xAt, MemorySegment y, long yAt, MemorySegment z, long zAt, int n) {
    FloatVector sum = FloatVector.zero(S);
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      long at = 4L * i;
      sum = load(x, xAt + at).mul(load(y, yAt + at)).fma(load(z, zAt + at), sum);
    }
    float result = total(sum);
    return i == n ? result : result + scalar.dot(x, xAt + 4L * i, y, yAt + 4L * i, z, zAt + 4L * i, n - i);
  }

  @Override
  public void scale(float factor, MemorySegment from, long fromAt, MemorySegment to, long toAt, int n) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      load(from, fromAt + 4L * i).mul(factor).intoMemorySegment(to, toAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.scale(factor, from, fromAt + 4L * i, to, toAt + 4L * i, n - i);
    }
  }

  @Override
  public void add(MemorySegment from, long fromAt, MemorySegment to, long toAt, int n) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      load(to, toAt + 4L * i).add(load(from, fromAt + 4L * i)).intoMemorySegment(to, toAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.add(from, fromAt + 4L * i, to, toAt + 4L * i, n - i);
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
    if (n % V != 0) {
      scalar.norm(x, xAt, weight, factor, out, outAt, n);
      return;
    }
    for (int i = 0; i < n; i += V) {
      long at = 4L * i;
      load(x, xAt + at).mul(factor).mul(load(weight, at)).intoMemorySegment(out, outAt + at, ORDER);
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
    if (n % V != 0) {
      scalar.normGradient(
        x,
        outGradient,
        xGradient,
        at,
        weight,
        factor,
        back,
        add,
        weightGradient,
        weightGradientAt,
        n
      );
      return;
    }
    for (int i = 0; i < n; i += V) {
      long from = 4L * i;
      FloatVector in = load(x, at + from);
      FloatVector given = load(outGradient, at + from).mul(factor);
      FloatVector result = given.fma(load(weight, from), in.mul(-back));
      if (add) {
        result = load(xGradient, at + from).add(result);
      }
      result.intoMemorySegment(xGradient, at + from, ORDER);
      given
        .fma(in, load(weightGradient, weightGradientAt + from))
        .intoMemorySegment(weightGradient, weightGradientAt + from, ORDER);
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
    if (n % V != 0) {
      scalar.rotateHalves(x, at, cosines, sines, angleAt, sign, n);
      return;
    }
    long half = 4L * n;
    for (int i = 0; i < n; i += V) {
      long from = at + 4L * i;
      FloatVector cosine = load(cosines, angleAt + 4L * i);
      FloatVector sine = load(sines, angleAt + 4L * i).mul(sign);
      FloatVector a = load(x, from);
      FloatVector b = load(x, from + half);
      a.mul(cosine).sub(b.mul(sine)).intoMemorySegment(x, from, ORDER);
      a.mul(sine).add(b.mul(cosine)).intoMemorySegment(x, from + half, ORDER);
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
    if (n % V != 0) {
      scalar.rotatePairs(x, at, cosines, sines, angleAt, sign, n);
      return;
    }
    FloatVector signs = SIGNS.mul(sign);
    for (int i = 0; i < n; i += V) {
      long from = at + 8L * i;
      FloatVector cosine = load(cosines, angleAt + 4L * i);
      FloatVector sine = load(sines, angleAt + 4L * i);
      rotatePairs(x, from, cosine.rearrange(LOWER_TWICE), sine.rearrange(LOWER_TWICE).mul(signs));
      rotatePairs(x, from + BYTES, cosine.rearrange(UPPER_TWICE), sine.rearrange(UPPER_TWICE).mul(signs));
    }
  }

  private static void rotatePairs(MemorySegment x, long at, FloatVector cosine, FloatVector sine) {
    FloatVector value = load(x, at);
    value.mul(cosine).add(value.rearrange(SWAP).mul(sine)).intoMemorySegment(x, at, ORDER);
  }

  @Override
  public void swiGlu(MemorySegment gate, MemorySegment up, MemorySegment out, long at, int n) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      long from = at + 4L * i;
      FloatVector g = load(gate, from);
      g.mul(sigmoid(g)).mul(load(up, from)).intoMemorySegment(out, from, ORDER);
    }
    if (i < n) {
      scalar.swiGlu(gate, up, out, at + 4L * i, n - i);
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
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      long from = at + 4L * i;
      FloatVector g = load(gate, from);
      FloatVector given = load(outGradient, from);
      FloatVector s = sigmoid(g);
      FloatVector one = FloatVector.broadcast(S, 1);
      FloatVector byGate = given.mul(load(up, from)).mul(s).mul(g.fma(one.sub(s), one));
      given.mul(g).mul(s).intoMemorySegment(upGradient, from, ORDER);
      byGate.intoMemorySegment(gateGradient, from, ORDER);
    }
    if (i < n) {
      scalar.swiGluGradient(gate, up, outGradient, gateGradient, upGradient, at + 4L * i, n - i);
    }
  }

  @Override
  public float max(MemorySegment x, long at, int n) {
    // Comparing is faster than max, which asks for NaN and the sign of 0.
    FloatVector most = FloatVector.broadcast(S, Float.NEGATIVE_INFINITY);
    FloatVector most2 = most;
    int i = 0;
    for (; i <= n - 2 * V; i += 2 * V) {
      FloatVector value = load(x, at + 4L * i);
      FloatVector value2 = load(x, at + 4L * i + BYTES);
      most = most.blend(value, value.compare(GT, most));
      most2 = most2.blend(value2, value2.compare(GT, most2));
    }
    if (i <= n - V) {
      FloatVector value = load(x, at + 4L * i);
      most = most.blend(value, value.compare(GT, most));
      i += V;
    }
    float result = most.max(most2).reduceLanes(VectorOperators.MAX);
    return i == n ? result : Math.max(result, scalar.max(x, at + 4L * i, n - i));
  }

  @Override
  public double sumExp(MemorySegment x, long at, int n, float shift, float factor) {
    double total = 0;
    int i = 0;
    while (i < S.loopBound(n)) {
      int end = Math.min(S.loopBound(n), i + BLOCK);
      FloatVector sum = FloatVector.zero(S);
      for (; i < end; i += V) {
        sum = sum.add(exp(load(x, at + 4L * i).sub(shift).mul(factor)));
      }
      total += total(sum);
    }
    return i == n ? total : total + scalar.sumExp(x, at + 4L * i, n - i, shift, factor);
  }

  /** Of a vector, the numbers before place n; what is no number does not get through. */
  private static FloatVector before(int n, FloatVector x, float otherwise) {
    return FloatVector.broadcast(S, otherwise).blend(x, PLACES.compare(LT, n));
  }

  @Override
  public void softmax(MemorySegment x, long at, int n, int width, float[] mostAndSum) {
    int whole = S.loopBound(n);
    FloatVector most = FloatVector.broadcast(S, Float.NEGATIVE_INFINITY);
    FloatVector most2 = most;
    int i = 0;
    for (; i < whole - V; i += 2 * V) {
      FloatVector value = load(x, at + 4L * i);
      FloatVector value2 = load(x, at + 4L * i + BYTES);
      most = most.blend(value, value.compare(GT, most));
      most2 = most2.blend(value2, value2.compare(GT, most2));
    }
    for (; i < n; i += V) {
      FloatVector value = before(n - i, load(x, at + 4L * i), Float.NEGATIVE_INFINITY);
      most2 = most2.blend(value, value.compare(GT, most2));
    }
    most = most.blend(most2, most2.compare(GT, most));
    float shift = most.reduceLanes(VectorOperators.MAX);
    FloatVector sum = FloatVector.zero(S);
    for (i = 0; i < whole; i += V) {
      FloatVector e = exp(load(x, at + 4L * i).sub(shift));
      e.intoMemorySegment(x, at + 4L * i, ORDER);
      sum = sum.add(e);
    }
    if (i < n) {
      FloatVector e = before(n - i, exp(load(x, at + 4L * i).sub(shift)), 0);
      e.intoMemorySegment(x, at + 4L * i, ORDER);
      sum = sum.add(e);
      i += V;
    }
    zero(x, at, i, width);
    mostAndSum[0] = shift;
    mostAndSum[1] = total(sum);
  }

  private static void zero(MemorySegment x, long at, int from, int to) {
    for (int i = from; i < to; i += V) {
      FloatVector.zero(S).intoMemorySegment(x, at + 4L * i, ORDER);
    }
  }

  @Override
  public void softmaxGradient(MemorySegment p, MemorySegment d, long at, int n, int width, float logSum, float delta) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      FloatVector e = exp(load(p, at + 4L * i).sub(logSum));
      e.intoMemorySegment(p, at + 4L * i, ORDER);
      e.mul(load(d, at + 4L * i).sub(delta)).intoMemorySegment(d, at + 4L * i, ORDER);
    }
    if (i < n) {
      FloatVector e = exp(load(p, at + 4L * i).sub(logSum));
      before(n - i, e, 0).intoMemorySegment(p, at + 4L * i, ORDER);
      before(n - i, e.mul(load(d, at + 4L * i).sub(delta)), 0).intoMemorySegment(d, at + 4L * i, ORDER);
      i += V;
    }
    zero(p, at, i, width);
    zero(d, at, i, width);
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
    scalar.transpose(from, fromAt, fromStride, rows, columns, to, toAt, toStride);
  }

  private static FloatVector logs(Logs logs, int i) {
    return load(logs.values(), logs.at() + 4L * i).sub(logs.shift()).mul(logs.factor()).sub(logs.logSum());
  }

  /** The part from a number on. */
  private static Logs from(Logs logs, int i) {
    return new Logs(logs.values(), logs.at() + 4L * i, logs.shift(), logs.factor(), logs.logSum());
  }

  @Override
  public void exp(float factor, Logs log, int n, MemorySegment out, long outAt) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      exp(logs(log, i)).mul(factor).intoMemorySegment(out, outAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.exp(factor, from(log, i), n - i, out, outAt + 4L * i);
    }
  }

  @Override
  public void addExp(float factor, Logs log, int n, MemorySegment out, long outAt) {
    FloatVector factors = FloatVector.broadcast(S, factor);
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      exp(logs(log, i)).fma(factors, load(out, outAt + 4L * i)).intoMemorySegment(out, outAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.addExp(factor, from(log, i), n - i, out, outAt + 4L * i);
    }
  }

  /** The product of a probability, with its logarithm, and a number; 0 without a probability. */
  private static FloatVector expected(FloatVector log, FloatVector value) {
    FloatVector p = exp(log);
    return p.mul(value).blend(0, p.compare(EQ, 0));
  }

  @Override
  public double relativeEntropy(Logs p, Logs q, float least, int n) {
    int whole = S.loopBound(n);
    double total = 0;
    for (int from = 0; from < whole; from += BLOCK) {
      int end = Math.min(whole, from + BLOCK);
      FloatVector sum = FloatVector.zero(S);
      for (int i = from; i < end; i += V) {
        FloatVector log = logs(p, i);
        sum = sum.add(expected(log, log.sub(logs(q, i).max(least))));
      }
      total += total(sum);
    }
    return whole == n ? total : total + scalar.relativeEntropy(from(p, whole), from(q, whole), least, n - whole);
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
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      FloatVector log = logs(q, i);
      expected(log, log.sub(logs(p, i).max(least)).sub(mean)).mul(factor).intoMemorySegment(out, outAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.relativeEntropyGradient(from(q, i), from(p, i), least, mean, factor, n - i, out, outAt + 4L * i);
    }
  }

  @Override
  public void logMixture(float beta, Logs p, Logs q, int n, MemorySegment out, long outAt) {
    float logBeta = (float) Math.log(beta);
    float logRest = (float) Math.log1p(-beta);
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      FloatVector a = logs(p, i).add(logBeta);
      FloatVector b = logs(q, i).add(logRest);
      FloatVector more = log1p(exp(a.sub(b).abs().neg()));
      a.max(b).add(more).intoMemorySegment(out, outAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.logMixture(beta, from(p, i), from(q, i), n - i, out, outAt + 4L * i);
    }
  }

  @Override
  public double squaredDistance(MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    DoubleVector sum = DoubleVector.zero(D);
    int i = 0;
    for (; i < HALF.loopBound(n); i += HALF.length()) {
      DoubleVector difference = loadDoubles(x, xAt + 4L * i).sub(loadDoubles(y, yAt + 4L * i));
      sum = difference.fma(difference, sum);
    }
    double result = total(sum);
    return i == n ? result : result + scalar.squaredDistance(x, xAt + 4L * i, y, yAt + 4L * i, n - i);
  }

  @Override
  public void difference(float factor, MemorySegment x, long xAt, MemorySegment y, long yAt, int n) {
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      load(x, xAt + 4L * i).sub(load(y, yAt + 4L * i)).mul(factor).intoMemorySegment(x, xAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.difference(factor, x, xAt + 4L * i, y, yAt + 4L * i, n - i);
    }
  }

  @Override
  public void combine(float a, MemorySegment x, long xAt, float b, MemorySegment y, long yAt, int n) {
    int i = 0;
    FloatVector factor = FloatVector.broadcast(S, a);
    for (; i < S.loopBound(n); i += V) {
      load(x, xAt + 4L * i).fma(factor, load(y, yAt + 4L * i).mul(b)).intoMemorySegment(x, xAt + 4L * i, ORDER);
    }
    if (i < n) {
      scalar.combine(a, x, xAt + 4L * i, b, y, yAt + 4L * i, n - i);
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
    FloatVector beta1 = FloatVector.broadcast(S, step.beta1());
    FloatVector beta2 = FloatVector.broadcast(S, step.beta2());
    int i = 0;
    for (; i < S.loopBound(n); i += V) {
      long from = at + 4L * i;
      FloatVector g = load(gradient, from).mul(step.gradientScale());
      FloatVector m = load(first, from).fma(beta1, g.mul(1 - step.beta1()));
      FloatVector v = load(second, from).fma(beta2, g.mul(g).mul(1 - step.beta2()));
      m.intoMemorySegment(first, from, ORDER);
      v.intoMemorySegment(second, from, ORDER);
      FloatVector w = load(weights, from);
      FloatVector change = m.mul(byFirst).div(v.mul(bySecond).sqrt().add(step.epsilon()));
      w
        .sub(w.fma(FloatVector.broadcast(S, step.decay()), change).mul(step.rate()))
        .intoMemorySegment(weights, from, ORDER);
    }
    if (i < n) {
      scalar.adamW(weights, gradient, first, second, at + 4L * i, n - i, step);
    }
  }
}
