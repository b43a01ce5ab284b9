package dev.attar.distill.teacher;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.attar.compute.RowKernel;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteOrder;
import java.util.Arrays;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.VectorMask;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;

/**
 * Finds the likeliest tokens of rows of logits and the logarithms of their probabilities, with SIMD. For one thread.
 *
 * <p>One walk over a row finds the k + 1 largest, in a heap that few logits enter; a second one sums the exponentials of all but the k,
 * relative to the largest of those, so that the rest's mass is right however small it is.
 */
final class TopTokens {

  private static final VectorSpecies<Float> FLOATS = FloatVector.SPECIES_PREFERRED;
  private static final int LANES = FLOATS.length();
  private static final ByteOrder ORDER = ByteOrder.nativeOrder();

  private static final RowKernel KERNEL = RowKernel.get();

  private final int vocabulary;
  private final int k;
  private final float temperature;
  private final long[] heap; // the least at 0
  private final MemorySegment others; // a row without the k

  /**
   * @param vocabulary logits of a row that count
   * @param k how many, at least 1 and less than the vocabulary
   * @param temperature what logits are divided by
   */
  TopTokens(int vocabulary, int k, float temperature) {
    this.vocabulary = vocabulary;
    this.k = k;
    this.temperature = temperature;
    heap = new long[k + 1];
    others = Arena.ofAuto().allocate(4L * vocabulary, 64);
  }

  /** Whether all of n float32 are finite. */
  static boolean areFinite(MemorySegment values, long offset, int n) {
    // 0 times a number is 0, unless that is none or has no end.
    FloatVector zeros = FloatVector.zero(FLOATS);
    int limit = FLOATS.loopBound(n);
    for (int i = 0; i < limit; i += LANES) {
      zeros = zeros.add(load(values, offset, i).mul(0));
    }
    float sum = zeros.reduceLanes(VectorOperators.ADD);
    for (int i = limit; i < n; i++) {
      sum += values.get(JAVA_FLOAT, offset + 4L * i) * 0;
    }
    return sum == 0;
  }

  private static FloatVector load(MemorySegment values, long offset, int i) {
    return FloatVector.fromMemorySegment(FLOATS, values, offset + 4L * i, ORDER);
  }

  /**
   * Finds those of a row.
   *
   * @param logits float32, finite
   * @param row where they begin, in bytes
   * @param tokens for k int32, the likeliest first; of those that are as likely the lower one
   * @param tokensAt where they go
   * @param logProbabilities for k + 1 float32, the rest's last
   * @param logProbabilitiesAt where they go
   */
  void find(
    MemorySegment logits,
    long row,
    MemorySegment tokens,
    long tokensAt,
    MemorySegment logProbabilities,
    long logProbabilitiesAt
  ) {
    select(logits, row);
    Arrays.sort(heap);
    double largest = value(heap[k]);
    double rest = sum(logits, row, value(heap[0]));
    double top = 0;
    for (int i = 1; i <= k; i++) {
      top += Math.exp((value(heap[i]) - largest) / temperature);
    }
    double restLog = (value(heap[0]) - largest) / temperature + Math.log(rest);
    double all = Math.log(top + Math.exp(restLog));
    for (int i = 0; i < k; i++) {
      long entry = heap[k - i];
      tokens.set(JAVA_INT, tokensAt + 4L * i, token(entry));
      double log = (value(entry) - largest) / temperature - all;
      logProbabilities.set(JAVA_FLOAT, logProbabilitiesAt + 4L * i, (float) log);
    }
    logProbabilities.set(JAVA_FLOAT, logProbabilitiesAt + 4L * k, (float) (restLog - all));
  }

  // An entry of the heap: the logit's bits, in an order as of whole numbers, and below them the token, the lower the greater.

  private static long entry(float logit, int token) {
    int bits = Float.floatToRawIntBits(logit + 0f); // -0 is 0
    int ordered = bits ^ ((bits >> 31) & Integer.MAX_VALUE);
    return ((long) ordered << 32) | (Integer.MAX_VALUE - token);
  }

  private static float value(long entry) {
    int ordered = (int) (entry >> 32);
    return Float.intBitsToFloat(ordered ^ ((ordered >> 31) & Integer.MAX_VALUE));
  }

  private static int token(long entry) {
    return Integer.MAX_VALUE - (int) entry;
  }

  /** Puts the k + 1 greatest into the heap. */
  private void select(MemorySegment logits, long row) {
    int n = heap.length;
    for (int i = 0; i < n; i++) {
      heap[i] = entry(logits.get(JAVA_FLOAT, row + 4L * i), i);
    }
    Arrays.sort(heap);
    float least = value(heap[0]);
    int i = n;
    for (; i <= vocabulary - LANES; i += LANES) {
      // As tokens come in their order, one as likely as the least does not enter.
      VectorMask<Float> greater = load(logits, row, i).compare(VectorOperators.GT, least);
      if (greater.anyTrue()) {
        least = enter(logits, row, i, i + LANES);
      }
    }
    enter(logits, row, i, vocabulary);
  }

  private float enter(MemorySegment logits, long row, int from, int to) {
    for (int i = from; i < to; i++) {
      long entry = entry(logits.get(JAVA_FLOAT, row + 4L * i), i);
      if (entry > heap[0]) {
        replaceLeast(entry);
      }
    }
    return value(heap[0]);
  }

  private void replaceLeast(long entry) {
    int place = 0;
    int child = 1;
    while (child < heap.length) {
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) {
        child++;
      }
      if (heap[child] >= entry) {
        break;
      }
      heap[place] = heap[child];
      place = child;
      child = 2 * place + 1;
    }
    heap[place] = entry;
  }

  /**
   * The sum of exp((x - greatest) / temperature) over all logits x but the k.
   *
   * @param greatest of these logits
   */
  private double sum(MemorySegment logits, long row, float greatest) {
    MemorySegment.copy(logits, row, others, 0, others.byteSize());
    for (int i = 1; i <= k; i++) {
      others.setAtIndex(JAVA_FLOAT, token(heap[i]), Float.NEGATIVE_INFINITY);
    }
    return KERNEL.sumExp(others, 0, vocabulary, greatest, 1 / temperature);
  }
}
