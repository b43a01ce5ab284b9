package dev.attar.formats.block;

import dev.attar.formats.TensorType;
import java.util.Random;
import java.util.concurrent.atomic.AtomicIntegerArray;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Encodes with the scalar encoder until the one with vectors has become faster, then with that one. Both give the same bytes.
 *
 * <p>The Vector API is a hundred times slower than scalar code until the compiler has seen a kernel often, which would take the
 * callers seconds. So once there is enough to encode, a thread runs the vector encoder on small made-up rows until it is faster than
 * the scalar one, or gives up: where the compiler cannot use vectors, scalar code goes on. With and without importance are warmed
 * apart, since other code runs.
 */
final class WarmingEncoder implements BlockEncoder {

  /** Values to encode before warming up is worth a thread. */
  private static final long ENOUGH = 1 << 16;

  private static final long LIMIT_NANOS = 30_000_000_000L;
  private static final int ROW_LENGTH = 256;
  private static final int ROWS = 3;

  /** How many times in a row the vectors must be clearly faster. */
  private static final int PROOFS = 8;

  private static final int COLD = 0;
  private static final int WARMING = 1;
  private static final int WARM = 2;

  private final BlockEncoder scalar;
  private final BlockEncoder vector;
  private final long enough;
  private final long limitNanos;
  private final AtomicLong encoded = new AtomicLong();

  /** Without importance, with importance. */
  private final AtomicIntegerArray states = new AtomicIntegerArray(2);

  WarmingEncoder(BlockEncoder scalar, BlockEncoder vector) {
    this(scalar, vector, ENOUGH, LIMIT_NANOS);
  }

  WarmingEncoder(BlockEncoder scalar, BlockEncoder vector, long enough, long limitNanos) {
    this.scalar = scalar;
    this.vector = vector;
    this.enough = enough;
    this.limitNanos = limitNanos;
  }

  @Override
  public TensorType type() {
    return scalar.type();
  }

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
    int mode = importance == null ? 0 : 1;
    if (states.get(mode) == WARM) {
      vector.encode(x, xOffset, rowLength, rows, importance, importanceOffset, out, outOffset);
      return;
    }
    if (states.get(mode) == COLD && encoded.addAndGet((long) rowLength * rows) >= enough) {
      if (states.compareAndSet(mode, COLD, WARMING)) {
        Thread.ofPlatform()
          .daemon()
          .name("attar-warm-up-" + type())
          .start(() -> warmUp(mode));
      }
    }
    scalar.encode(x, xOffset, rowLength, rows, importance, importanceOffset, out, outOffset);
  }

  private void warmUp(int mode) {
    Random random = new Random(0);
    float[] x = new float[ROW_LENGTH * ROWS];
    float[] importance = mode == 0 ? null : new float[ROW_LENGTH];
    for (int i = 0; i < x.length; i++) {
      x[i] = 0.02f * (float) random.nextGaussian();
    }
    for (int i = 0; mode != 0 && i < ROW_LENGTH; i++) {
      importance[i] = random.nextFloat();
    }
    byte[] out = new byte[Math.toIntExact(type().rowBytes(ROW_LENGTH)) * ROWS];
    long start = System.nanoTime();
    int proofs = 0;
    while (proofs < PROOFS && System.nanoTime() - start < limitNanos) {
      long slow = time(scalar, x, importance, out);
      long fast = time(vector, x, importance, out);
      proofs = fast < slow - slow / 4 ? proofs + 1 : 0;
    }
    if (proofs == PROOFS) {
      states.set(mode, WARM);
    }
  }

  private static long time(BlockEncoder encoder, float[] x, float[] importance, byte[] out) {
    long start = System.nanoTime();
    encoder.encode(x, 0, ROW_LENGTH, ROWS, importance, 0, out, 0);
    return System.nanoTime() - start;
  }
}
