package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.GramPlan;
import dev.attar.compute.Device;
import dev.attar.quant.QuantizationException;
import java.lang.reflect.Proxy;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class MemoryLimitTest {

  private static final MemoryLimit HOST = new MemoryLimit(
    3L << 30,
    2L << 30,
    false,
    512,
    GramPlan.TILE,
    Optional.empty()
  );

  private static Device device(long free) {
    return (Device) Proxy.newProxyInstance(
      Device.class.getClassLoader(),
      new Class<?>[] { Device.class },
      (_, method, _) ->
        switch (method.getName()) {
          case "freeMemory" -> free;
          case "hasOwnMemory" -> free < Long.MAX_VALUE;
          default -> "cuda (Card)";
        }
    );
  }

  @Test
  void theSmallerOfTwoMemoriesIsTheLimit() {
    assertEquals(HOST, HOST.within(device(Long.MAX_VALUE)));
    MemoryLimit large = HOST.within(device(80L << 30));
    assertEquals(HOST.forMatrices(), large.forMatrices());
    assertEquals(Optional.empty(), large.device());
    MemoryLimit limit = HOST.within(device(1L << 30));
    assertEquals(7L << 27, limit.forMatrices());
    assertEquals(HOST.most(), limit.most());
  }

  /** A matrix of larger tiles holds more below its diagonal. */
  @Test
  void tilesAreCountedAsTheDeviceHasThem() {
    int tile = HOST.within(device(80L << 30)).tile();
    assertTrue(tile > HOST.tile());
    assertEquals(tile, HOST.within(device(1L << 30)).tile());
    assertTrue(GramPlan.leastBytes(4096, tile) > GramPlan.leastBytes(4096, HOST.tile()));
  }

  @Test
  void anErrorNamesTheMemoryThatIsTooSmall() {
    MemoryLimit limit = HOST.within(device(256L << 20));
    assertDoesNotThrow(() -> limit.requireForGptq(4096, 0));
    String error = assertThrows(QuantizationException.class, () -> limit.requireForGptq(8192, 0)).getMessage();
    String expected =
      "GPTQ of rows of 8192 needs 576 MiB of memory, cuda (Card) has 224 MiB free for that: use --device cpu";
    assertEquals(expected, error);
    error = assertThrows(QuantizationException.class, () -> HOST.requireForGptq(32768, 0)).getMessage();
    assertEquals("GPTQ of rows of 32768 needs 9216 MiB of memory, --max-memory allows 3072 MiB", error);
  }
}
