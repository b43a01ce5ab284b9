package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.ResourceLock;

/**
 * The emulated CUDA sees what it is there to see: for each check a kernel or a sequence of calls that violates it, and a correct one.
 * The kernels are in {@code src/test/cpp/kernels}.
 */
@ResourceLock(CudaUnderTest.LOCK)
class EmulatedCudaTest extends EmulatedCudaCalls {

  // ---- Kernels.

  @Test
  void addsWithBlocksAndThreadsLeftOver() {
    float[] a = random(1000, 1);
    float[] b = random(1000, 2);
    long c = allocate(4000);
    assertEquals(0, run("test_add", 8, 128, upload(a), upload(b), c, 1000));
    float[] expected = new float[1000];
    for (int i = 0; i < 1000; i++) {
      expected[i] = a[i] + b[i];
    }
    assertArrayEquals(expected, download(c, 1000));
    assertEquals("", error());
  }

  @Test
  void passesParametersOfAllKinds() {
    long to = allocate(48);
    assertEquals(0, run("test_parameters", 1, 1, to, -3, 1L << 40, 0.5f, 1e300, (byte) 200, (short) -7));
    MemorySegment got = arena.allocate(48);
    ok("cuMemcpyDtoH_v2", got, to, 48L);
    double[] expected = { -3, 1L << 40, 0.5, 1e300, 200, -7 };
    assertArrayEquals(expected, got.toArray(ValueLayout.JAVA_DOUBLE));
  }

  @Test
  void seesAWriteOnePastTheEnd() {
    long one = upload(new float[1]);
    assertEquals(0, run("test_out_of_bounds", 1, 128, one, allocate(404), 100));
    fails(ILLEGAL_ADDRESS, "test_out_of_bounds", 1, 128, one, allocate(400), 100);
    expectError("out of bounds in test_out_of_bounds, block (0, 0, 0), thread (100, 0, 0): write of 4 bytes");
    expectError("0 bytes past the end of an allocation of 400 bytes");
  }

  @Test
  void seesAReadOfHalfANumber() {
    long c = allocate(402);
    ok("cuMemsetD8_v2", c, (byte) 0, 402L);
    fails(ILLEGAL_ADDRESS, "test_peek", 1, 1, c + 400, allocate(4));
    expectError("0 bytes past the end of an allocation of 402 bytes");
  }

  @Test
  void seesUseAfterFree() {
    long a = upload(new float[8]);
    ok("cuMemFree_v2", a);
    // New memory does not take the place.
    long to = allocate(32);
    assertNotEquals(a, to);
    fails(ILLEGAL_ADDRESS, "test_peek", 1, 1, a + 4, to);
    expectError("byte 4 of a freed allocation of 32 bytes");
  }

  @Test
  void seesHostMemoryAndNull() {
    fails(ILLEGAL_ADDRESS, "test_peek", 1, 1, arena.allocate(64).address(), allocate(4));
    expectError("no device memory (host memory");
    begin();
    fails(ILLEGAL_ADDRESS, "test_poke", 1, 1, 0L);
    expectError("write of 4 bytes at 0: null");
  }

  @Test
  void seesReadsOfWhatNothingWrote() {
    long a = allocate(400);
    ok("cuMemcpyHtoD_v2", a, arena.allocate(396), 396L);
    fails(LAUNCH_FAILED, "test_add", 1, 128, a, upload(new float[100]), allocate(400), 100);
    expectError("read of what nothing wrote in test_add, block (0, 0, 0), thread (99, 0, 0)");
  }

  @Test
  void seesMisalignedAccess() {
    long a = upload(new float[8]);
    assertEquals(0, run("test_misaligned", 1, 1, a, allocate(4), 2));
    fails(MISALIGNED_ADDRESS, "test_misaligned", 1, 1, a, allocate(4), 1);
    expectError("misaligned in test_misaligned");
  }

  @Test
  void seesMissingBarriers() {
    float[] a = random(128, 3);
    long from = upload(a);
    long to = allocate(512);
    assertEquals(0, run("test_reverse", 2, 64, from, to));
    float[] expected = new float[128];
    for (int i = 0; i < 128; i++) {
      expected[i] = a[(i / 64) * 64 + 63 - (i % 64)];
    }
    assertArrayEquals(expected, download(to, 128));
    fails(LAUNCH_FAILED, "test_missing_barrier", 2, 64, from, to);
    // Which of the two comes first depends on the order.
    assertTrue(
      error().matches("(race|read of what nothing wrote) in test_missing_barrier.*of the shared variable tile.*"),
      error()
    );
    begin();
    fails(LAUNCH_FAILED, "test_missing_second_barrier", 1, 64, upload(a), allocate(512));
    expectError("race in test_missing_second_barrier");
  }

  @Test
  void seesBarriersThatSomeLeaveOut() {
    fails(LAUNCH_FAILED, "test_divergent_barrier", 1, 64, allocate(256));
    expectError("a thread ended without a barrier that others wait at in test_divergent_barrier");
    begin();
    fails(LAUNCH_FAILED, "test_different_barriers", 1, 64, allocate(256));
    expectError("threads wait at different barriers in test_different_barriers");
    begin();
    assertEquals(0, run("test_different_barriers", 1, 32, allocate(128)));
  }

  @Test
  void sharedVariablesAreUnwrittenInEachBlock() {
    assertEquals(0, run("test_shared_unwritten", 1, 32, allocate(128)));
    fails(LAUNCH_FAILED, "test_shared_unwritten", 2, 32, allocate(256));
    expectError("read of what nothing wrote in test_shared_unwritten");
    expectError("thread (5, 0, 0)");
  }

  @Test
  void seesTheEndOfSharedVariables() {
    long to = allocate(128);
    assertEquals(0, run("test_shared_out_of_bounds", 1, 32, to, 33));
    fails(ILLEGAL_ADDRESS, "test_shared_out_of_bounds", 1, 32, to, 34);
    expectError("0 bytes past the end of the shared variable tile of 132 bytes");
  }

  @Test
  void constantsMayBeRead() {
    long to = allocate(16);
    assertEquals(0, run("test_constants", 1, 4, to));
    assertArrayEquals(new float[] { 2.5f, 3.5f, 5.5f, 7.5f }, download(to, 4));
  }

  @Test
  void seesRacesInDeviceMemory() {
    fails(LAUNCH_FAILED, "test_race", 1, 32, allocate(8));
    expectError("race in test_race");
    expectError("of the same block");
    begin();
    fails(LAUNCH_FAILED, "test_race_between_blocks", 8, 1, upload(new float[9]));
    expectError("by another block");
  }

  @Test
  void keepsNeighbouringBytesApart() {
    long bytes = allocate(256);
    long halves = allocate(512);
    assertEquals(0, run("test_bytes", 4, 64, bytes, halves));
    MemorySegment got = arena.allocate(512);
    ok("cuMemcpyDtoH_v2", got, bytes, 256L);
    for (int i = 0; i < 256; i++) {
      assertEquals((byte) i, got.get(ValueLayout.JAVA_BYTE, i));
    }
    ok("cuMemcpyDtoH_v2", got, halves, 512L);
    for (int i = 0; i < 256; i++) {
      assertEquals((short) (3 * i), got.getAtIndex(ValueLayout.JAVA_SHORT, i));
    }
    fails(LAUNCH_FAILED, "test_byte_race", 1, 64, bytes);
    expectError("race in test_byte_race");
  }

  @Test
  void seesSumsThatDependOnTheOrder() {
    float[] a = random(512, 4);
    long count = allocate(4);
    ok("cuMemsetD32_v2", count, 0, 1L);
    assertEquals(0, run("test_count", 4, 128, upload(a), count));
    int expected = 0;
    for (float value : a) {
      expected += value > 0 ? 1 : 0;
    }
    assertEquals(expected, Float.floatToRawIntBits(download(count, 1)[0]));
    long sum = allocate(4);
    ok("cuMemsetD32_v2", sum, 0, 1L);
    fails(LAUNCH_FAILED, "test_float_sum", 4, 128, upload(a), sum);
    expectError("the result of test_float_sum depends on the order of its blocks and threads");
    begin();
    cuda.run("emulated_cuda_checks", 0);
    sum = upload(new float[1]);
    assertEquals(0, run("test_float_sum", 4, 128, upload(a), sum), "the check can be turned off");
  }

  @Test
  void shufflesAndVotes() {
    float[] a = new float[128];
    for (int i = 0; i < 128; i++) {
      a[i] = i;
    }
    long sums = allocate(8);
    assertEquals(0, run("test_warp_sum", 2, 64, upload(a), sums));
    assertArrayEquals(new float[] { 2016, 6112 }, download(sums, 2));
    long votes = allocate(12);
    assertEquals(0, run("test_votes", 1, 32, votes, 5));
    MemorySegment got = arena.allocate(12, 4);
    ok("cuMemcpyDtoH_v2", got, votes, 12L);
    assertArrayEquals(new int[] { 31, 1, 0 }, got.toArray(ValueLayout.JAVA_INT));
    assertEquals(0, run("test_votes", 1, 32, votes, 32));
    ok("cuMemcpyDtoH_v2", got, votes, 12L);
    assertArrayEquals(new int[] { -1, 1, 1 }, got.toArray(ValueLayout.JAVA_INT));
  }

  @Test
  void orderWithinAWarpNeedsItsBarrier() {
    float[] a = { 0, 1, 2, 3, 4, 5, 6, 7 };
    long values = upload(a);
    assertEquals(0, run("test_warp_exchange", 1, 8, values, 1));
    assertArrayEquals(new float[] { 1, 0, 3, 2, 5, 4, 7, 6 }, download(values, 8));
    fails(LAUNCH_FAILED, "test_warp_exchange", 1, 8, values, 0);
    expectError("race in test_warp_exchange");
    begin();
    fails(LAUNCH_FAILED, "test_partial_shuffle", 1, 32, upload(new float[32]));
    expectError("a warp function waits for a thread that has ended");
  }

  @Test
  void halvesAreThoseOfJava() {
    int n = 1 << 18;
    float[] values = new float[n];
    Random random = new Random(5);
    for (int i = 0; i < 65536; i++) {
      float half = Float.float16ToFloat((short) i);
      float next = Float.float16ToFloat((short) (i + 1));
      values[3 * i] = half;
      values[3 * i + 1] = (half + next) / 2;
      values[3 * i + 2] = Math.nextUp((half + next) / 2);
    }
    for (int i = 3 * 65536; i < n; i++) {
      values[i] = Float.intBitsToFloat(random.nextInt());
    }
    long bits = allocate(2L * n);
    long back = allocate(4L * n);
    assertEquals(0, run("test_halves", n / 256, 256, upload(values), bits, back, n));
    MemorySegment got = arena.allocate(2L * n, 2);
    ok("cuMemcpyDtoH_v2", got, bits, 2L * n);
    float[] backs = download(back, n);
    for (int i = 0; i < n; i++) {
      if (Float.isNaN(values[i])) {
        assertTrue(Float.isNaN(backs[i]));
        continue;
      }
      short expected = Float.floatToFloat16(values[i]);
      assertEquals(expected, got.getAtIndex(ValueLayout.JAVA_SHORT, i), Float.toHexString(values[i]));
      assertEquals(Float.float16ToFloat(expected), backs[i]);
    }
  }

  // ---- Launches and modules.

  @Test
  void refusesImpossibleLaunches() {
    long a = allocate(8192);
    assertEquals(INVALID_VALUE, launch("test_poke", 1, 1025, NULL, a));
    assertEquals(INVALID_VALUE, launch("test_poke", 0, 32, NULL, a));
    assertEquals(0, run("test_bounded", 1, 128, a));
    assertEquals(INVALID_VALUE, launch("test_bounded", 1, 129, NULL, a));
    expectError("at most the 128 threads of its launch bounds");
    ok("cuCtxSynchronize");
  }

  @Test
  void modulesHaveWhatTheirPtxHas() {
    MemorySegment module = arena.allocate(ValueLayout.ADDRESS);
    MemorySegment function = arena.allocate(ValueLayout.ADDRESS);
    ok("cuModuleLoadData", module, arena.allocateFrom(PTX.formatted("test_add")));
    MemorySegment handle = module.get(ValueLayout.ADDRESS, 0);
    ok("cuModuleGetFunction", function, handle, arena.allocateFrom("test_add"));
    assertEquals(500, cuda.call("cuModuleGetFunction", function, handle, arena.allocateFrom("test_peek")));
    ok("cuModuleLoadData", module, arena.allocateFrom(PTX.formatted("in_no_source")));
    MemorySegment other = module.get(ValueLayout.ADDRESS, 0);
    assertEquals(500, cuda.call("cuModuleGetFunction", function, other, arena.allocateFrom("in_no_source")));
    String newer = PTX.formatted("test_add").replace("8.0", "8.1");
    assertEquals(222, cuda.call("cuModuleLoadData", module, arena.allocateFrom(newer)));
    assertEquals(218, cuda.call("cuModuleLoadData", module, arena.allocateFrom("something else")));
  }

  @Test
  void buildsFromAnotherFolder(@TempDir Path folder) throws IOException {
    Files.copy(
      EmulatedCuda.module().resolve("src/main/resources/dev/attar/compute/cuda/common.cuh"),
      folder.resolve("common.cuh")
    );
    String kernel = "extern \"C\" __global__ void only_there(float *to) { to[0] = halfValue(1); }\n";
    Files.writeString(folder.resolve("only.cu"), "#include \"common.cuh\"\n" + kernel);
    assertEquals(500, find(cuda, "only_there"));
    NativeCalls other = NativeCalls.of(EmulatedCuda.libraries(folder).resolve("libcuda.so.1"));
    assertEquals(0, find(other, "only_there"));
    assertEquals(0, find(other, "test_add"));
    other.run("emulated_cuda_reset");
  }

  /** Asks a library of its own state for a kernel. */
  private int find(NativeCalls library, String kernel) {
    MemorySegment handle = arena.allocate(ValueLayout.ADDRESS);
    assertEquals(0, library.call("cuInit", 0));
    assertEquals(0, library.call("cuDevicePrimaryCtxRetain", handle, 0));
    assertEquals(0, library.call("cuCtxSetCurrent", handle.get(ValueLayout.ADDRESS, 0)));
    assertEquals(0, library.call("cuModuleLoadData", handle, arena.allocateFrom(PTX.formatted(kernel))));
    return library.call("cuModuleGetFunction", handle, handle.get(ValueLayout.ADDRESS, 0), arena.allocateFrom(kernel));
  }

  @Test
  void callsNeedACurrentContextOnTheirThread() throws InterruptedException {
    MemorySegment address = arena.allocate(ValueLayout.JAVA_LONG);
    AtomicInteger status = new AtomicInteger();
    Thread thread = new Thread(() -> status.set(cuda.call("cuMemAlloc_v2", address, 4L)));
    thread.start();
    thread.join();
    assertEquals(201, status.get());
    ok("cuDevicePrimaryCtxRelease_v2", 0);
    assertEquals(709, cuda.call("cuMemAlloc_v2", address, 4L));
  }

  // ---- Memory and streams.

  @Test
  void countsMemory() {
    cuda.run("emulated_cuda_memory", 1L << 20);
    long a = allocate(1000 << 10);
    assertEquals(OUT_OF_MEMORY, cuda.call("cuMemAlloc_v2", arena.allocate(8), 100L << 10));
    assertEquals(1, cuda.callLong("emulated_cuda_live_allocations"));
    assertEquals(1000 << 10, cuda.callLong("emulated_cuda_live_bytes"));
    ok("cuMemFree_v2", a);
    assertEquals(0, cuda.callLong("emulated_cuda_live_allocations"));
    assertEquals(INVALID_VALUE, cuda.call("cuMemFree_v2", a), "freed twice");
    allocate(1000 << 10);
  }

  @Test
  void copiesCheckTheirRanges() {
    long a = allocate(100);
    MemorySegment host = arena.allocate(104);
    assertEquals(INVALID_VALUE, cuda.call("cuMemcpyHtoD_v2", a, host, 101L));
    ok("cuMemcpyHtoD_v2", a, host, 96L);
    assertEquals(ILLEGAL_ADDRESS, cuda.call("cuMemcpyDtoH_v2", host, a, 97L), "a byte that nothing wrote");
  }

  @Test
  void workOnAStreamIsDoneWhenSomethingWaits() {
    MemorySegment stream = stream(1);
    long a = allocate(4);
    MemorySegment host = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1.0f);
    ok("cuMemcpyHtoDAsync_v2", a, host, 4L, stream);
    // Overwritten before it was sent.
    host.set(ValueLayout.JAVA_FLOAT, 0, 2.0f);
    MemorySegment back = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 0.0f);
    ok("cuMemcpyDtoHAsync_v2", back, a, 4L, stream);
    assertEquals(0.0f, back.get(ValueLayout.JAVA_FLOAT, 0), "not there yet");
    ok("cuStreamSynchronize", stream);
    assertEquals(2.0f, back.get(ValueLayout.JAVA_FLOAT, 0));
  }

  @Test
  void eventsOrderStreams() {
    MemorySegment first = stream(1);
    MemorySegment second = stream(1);
    MemorySegment event = arena.allocate(ValueLayout.ADDRESS);
    ok("cuEventCreate", event, 0);
    event = event.get(ValueLayout.ADDRESS, 0);
    long a = allocate(4);
    long to = allocate(4);
    ok("cuMemsetD32Async", a, Float.floatToIntBits(3.0f), 1L, first);
    ok("cuEventRecord", event, first);
    assertEquals(600, cuda.call("cuEventQuery", event), "not yet");
    ok("cuStreamWaitEvent", second, event, 0);
    assertEquals(0, launch("test_peek", 1, 1, second, a, to));
    ok("cuStreamSynchronize", second);
    assertEquals(3.0f, download(to, 1)[0]);

    // Without the event the work comes too early.
    long b = allocate(4);
    ok("cuMemsetD32Async", b, 0, 1L, first);
    assertEquals(0, launch("test_peek", 1, 1, second, b, to));
    assertEquals(LAUNCH_FAILED, cuda.call("cuStreamSynchronize", second));
    expectError("read of what nothing wrote in test_peek");
  }

  @Test
  void theDefaultStreamWaitsForThoseThatBlock() {
    MemorySegment blocking = stream(0);
    long a = allocate(4);
    ok("cuMemsetD32Async", a, Float.floatToIntBits(3.0f), 1L, blocking);
    assertEquals(3.0f, download(a, 1)[0]);
    // And they for it.
    ok("cuMemsetD32_v2", a, Float.floatToIntBits(3.5f), 1L);
    MemorySegment back = arena.allocate(4, 4);
    ok("cuMemcpyDtoHAsync_v2", back, a, 4L, blocking);
    ok("cuStreamSynchronize", blocking);
    assertEquals(3.5f, back.get(ValueLayout.JAVA_FLOAT, 0));
    MemorySegment other = stream(1);
    ok("cuMemsetD32Async", a, Float.floatToIntBits(4.0f), 1L, other);
    assertEquals(3.5f, download(a, 1)[0], "of a stream that does not block it sees nothing");
    ok("cuCtxSynchronize");
    assertEquals(4.0f, download(a, 1)[0]);
  }
}
