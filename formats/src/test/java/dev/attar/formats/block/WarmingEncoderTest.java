package dev.attar.formats.block;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.TensorType;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Vectors take over when they are faster, and only then. */
class WarmingEncoderTest {

  private static final int SCALAR = 1;
  private static final int VECTOR = 2;

  /** An encoder that writes who it is, and takes a while if told so. */
  private static BlockEncoder marker(int mark, int millis, AtomicBoolean ran) {
    return new BlockEncoders.KernelEncoder(TensorType.F32, (_, _, _, _, _, _, out, outOffset) -> {
      ran.set(true);
      out[outOffset] = (byte) mark;
      if (millis > 0) {
        try {
          TimeUnit.MILLISECONDS.sleep(millis);
        } catch (InterruptedException e) {
          throw new AssertionError(e);
        }
      }
    });
  }

  private static int encode(BlockEncoder encoder, float[] importance) {
    byte[] out = new byte[64];
    encoder.encode(new float[16], 0, 16, 1, importance, 0, out, 0);
    return out[0];
  }

  @Test
  @Timeout(60)
  void fasterVectorsTakeOver() throws InterruptedException {
    AtomicBoolean ran = new AtomicBoolean();
    BlockEncoder encoder = new WarmingEncoder(marker(SCALAR, 2, ran), marker(VECTOR, 0, ran), 32, Long.MAX_VALUE);
    assertEquals(SCALAR, encode(encoder, null));
    while (encode(encoder, null) != VECTOR) {
      Thread.onSpinWait();
    }
    // With importance other code runs, which is not warm yet.
    assertEquals(SCALAR, encode(encoder, new float[16]));
    while (encode(encoder, new float[16]) != VECTOR) {
      Thread.onSpinWait();
    }
  }

  @Test
  @Timeout(60)
  void slowerVectorsNeverDo() throws InterruptedException {
    AtomicBoolean warmed = new AtomicBoolean();
    BlockEncoder scalar = marker(SCALAR, 0, new AtomicBoolean());
    BlockEncoder encoder = new WarmingEncoder(scalar, marker(VECTOR, 2, warmed), 16, 50_000_000L);
    assertEquals(SCALAR, encode(encoder, null));
    while (!warmed.get()) {
      TimeUnit.MILLISECONDS.sleep(1);
    }
    for (int i = 0; i < 100; i++) {
      assertEquals(SCALAR, encode(encoder, null));
      TimeUnit.MILLISECONDS.sleep(1);
    }
  }

  @Test
  void littleToEncodeStaysScalar() throws InterruptedException {
    AtomicBoolean warmed = new AtomicBoolean();
    BlockEncoder scalar = marker(SCALAR, 0, new AtomicBoolean());
    BlockEncoder encoder = new WarmingEncoder(scalar, marker(VECTOR, 0, warmed), 1000, Long.MAX_VALUE);
    for (int i = 0; i < 1000 / 16; i++) {
      assertEquals(SCALAR, encode(encoder, null));
    }
    TimeUnit.MILLISECONDS.sleep(20);
    assertTrue(!warmed.get(), "a thread was started");
  }
}
