package dev.attar.bench.accuracy;

import dev.attar.formats.block.Simd;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorShape;
import jdk.incubator.vector.VectorSpecies;

/**
 * The kernel with SIMD. Exponentials are float32, right to 1.1 units in the last place. Each lane sums in float32 with Kahan's
 * compensation, so that sums over a vocabulary are as good as in float64 and only the rounding of single terms remains. Loaded only
 * where the Vector API is present.
 */
final class VectorLogitKernel extends RowKernel {

  private static final VectorSpecies<Float> FLOATS = FloatVector.SPECIES_PREFERRED.withShape(
    VectorShape.forBitSize(Simd.bits())
  );
  private static final VectorSpecies<Integer> INTS = IntVector.SPECIES_PREFERRED.withShape(FLOATS.vectorShape());
  private static final int LANES = FLOATS.length();
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private static final float LOG2_E = 1.442695f;

  /** ln 2 in two parts, the first of so few bits that its product with an exponent is exact (Cody and Waite). */
  private static final float LN2_HIGH = 0x1.62p-1f;

  private static final float LN2_LOW = 0x1.c85fep-10f;

  /** 1.5 × 2^23: adding it rounds a small float to an integer, and leaves that in the low bits. */
  private static final float ROUND = 0x1.8p23f;

  /** The bits of 1, and of 2^n when n is added to the exponent. */
  private static final int ONE_BITS = 0x3f800000;

  // The polynomial q that makes the relative error of 1 + r + r² q(r) to exp(r) for |r| up to ln 2 / 2 least, 4.2e-9.
  private static final float Q0 = 0x1.fffffcp-2f;
  private static final float Q1 = 0x1.55549p-3f;
  private static final float Q2 = 0x1.5558f8p-5f;
  private static final float Q3 = 0x1.123b02p-7f;
  private static final float Q4 = 0x1.6a2256p-10f;

  @Override
  void findTop(Row row, int vocabulary) {
    MemorySegment logits = row.logits;
    long offset = row.offset;
    int limit = FLOATS.loopBound(vocabulary);
    FloatVector max = FloatVector.broadcast(FLOATS, Float.NEGATIVE_INFINITY);
    IntVector top = IntVector.zero(INTS);
    IntVector index = IntVector.zero(INTS).addIndex(1);
    for (int i = 0; i < limit; i += LANES) {
      FloatVector x = load(logits, offset, i);
      VectorMask<Float> greater = x.compare(VectorOperators.GT, max);
      max = max.blend(x, greater);
      top = top.blend(index, greater.cast(INTS));
      index = index.add(LANES);
    }
    float[] maxima = max.toArray();
    int[] tops = top.toArray();
    for (int lane = 0; lane < LANES; lane++) {
      if (maxima[lane] > row.max || (maxima[lane] == row.max && tops[lane] < row.top)) {
        row.max = maxima[lane];
        row.top = tops[lane];
      }
    }
    ScalarLogitKernel.findTop(row, limit, vocabulary);
  }

  @Override
  void findSum(Row row, int vocabulary) {
    MemorySegment logits = row.logits;
    long offset = row.offset;
    float max = row.max;
    int limit = FLOATS.loopBound(vocabulary);
    FloatVector sum = FloatVector.zero(FLOATS);
    FloatVector excess = sum;
    for (int i = 0; i < limit; i += LANES) {
      FloatVector term = exp(load(logits, offset, i).sub(max)).sub(excess);
      FloatVector next = sum.add(term);
      excess = next.sub(sum).sub(term);
      sum = next;
    }
    row.sum = total(sum.toArray(), excess.toArray()) + ScalarLogitKernel.sum(row, limit, vocabulary);
  }

  @Override
  double findSums(Row base, Row model, int vocabulary) {
    MemorySegment baseLogits = base.logits;
    MemorySegment modelLogits = model.logits;
    long baseOffset = base.offset;
    long modelOffset = model.offset;
    float baseMax = base.max;
    float modelMax = model.max;
    int limit = FLOATS.loopBound(vocabulary);
    FloatVector baseSum = FloatVector.zero(FLOATS);
    FloatVector baseExcess = baseSum;
    FloatVector modelSum = baseSum;
    FloatVector modelExcess = baseSum;
    FloatVector cross = baseSum;
    FloatVector crossExcess = baseSum;
    for (int i = 0; i < limit; i += LANES) {
      FloatVector b = load(baseLogits, baseOffset, i).sub(baseMax);
      FloatVector m = load(modelLogits, modelOffset, i).sub(modelMax);
      FloatVector e = exp(b);

      FloatVector term = e.sub(baseExcess);
      FloatVector next = baseSum.add(term);
      baseExcess = next.sub(baseSum).sub(term);
      baseSum = next;

      term = exp(m).sub(modelExcess);
      next = modelSum.add(term);
      modelExcess = next.sub(modelSum).sub(term);
      modelSum = next;

      term = e.mul(b.sub(m)).sub(crossExcess);
      next = cross.add(term);
      crossExcess = next.sub(cross).sub(term);
      cross = next;
    }
    base.sum = total(baseSum.toArray(), baseExcess.toArray()) + ScalarLogitKernel.sum(base, limit, vocabulary);
    model.sum = total(modelSum.toArray(), modelExcess.toArray()) + ScalarLogitKernel.sum(model, limit, vocabulary);
    double total =
      total(cross.toArray(), crossExcess.toArray()) + ScalarLogitKernel.cross(base, model, limit, vocabulary);
    // NaN is rare: a logit is NaN, or minus infinity, which has no product with 0 and no compensated sum.
    return Double.isNaN(total) ? ScalarLogitKernel.cross(base, model, 0, vocabulary) : total;
  }

  private static FloatVector load(MemorySegment logits, long offset, int i) {
    return FloatVector.fromMemorySegment(FLOATS, logits, offset + 4L * i, ORDER);
  }

  /** e to the x, for x up to 0; 0 below {@link #LOWEST}. */
  private static FloatVector exp(FloatVector x) {
    FloatVector rounded = x.mul(LOG2_E).add(ROUND);
    FloatVector exponent = rounded.sub(ROUND);
    FloatVector r = x.sub(exponent.mul(LN2_HIGH)).sub(exponent.mul(LN2_LOW));
    FloatVector q = r.mul(Q4).add(Q3).mul(r).add(Q2).mul(r).add(Q1).mul(r).add(Q0);
    FloatVector p = r.mul(r).mul(q).add(r).add(1);
    // A product, as adding to the bits of p could turn a NaN into a number.
    IntVector scale = rounded.viewAsIntegralLanes().lanewise(VectorOperators.LSHL, 23).add(ONE_BITS);
    return p.mul(scale.viewAsFloatingLanes()).blend(0, x.compare(VectorOperators.LT, LOWEST));
  }

  /**
   * The sum over all lanes, in float64. Takes arrays, as vectors given to a method that the compiler does not inline, and this one is
   * called too rarely for that, live on the heap throughout the loop that makes them.
   */
  private static double total(float[] sum, float[] excess) {
    double total = 0;
    for (int lane = 0; lane < LANES; lane++) {
      total += (double) sum[lane] - excess[lane];
    }
    return total;
  }

  @Override
  public String toString() {
    return Simd.description();
  }
}
