package dev.attar.compute.cuda;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.attar.compute.Device;
import dev.attar.compute.DeviceContract;
import dev.attar.compute.Matrix;
import dev.attar.compute.OutOfDeviceMemoryException;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.parallel.ResourceLock;

/** On a GPU, or without one on the emulated CUDA, which says so. */
@ResourceLock(CudaUnderTest.LOCK)
class CudaDeviceTest extends DeviceContract {

  private CudaUnderTest cuda;
  private CudaDevice device;

  @BeforeAll
  void open() throws IOException {
    cuda = CudaUnderTest.load();
    device = cuda.open();
  }

  @AfterAll
  void close() {
    device.close();
  }

  @Override
  protected Device device() {
    return device;
  }

  /** What the emulated CUDA counts. */
  private long count(String name) {
    assumeTrue(cuda.emulated().isPresent(), "a GPU does not tell what is allocated");
    return cuda.emulated().get().callLong("emulated_cuda_" + name);
  }

  @Test
  void tellsWhatItIs() {
    String name = device.name();
    assertTrue(
      cuda.emulated().isPresent() ? name.equals("cuda (emulated)") : name.matches("cuda \\(NVIDIA .+\\)"),
      name
    );
    assertTrue(device.hasOwnMemory());
  }

  @Test
  void refusesMatricesOfAnotherCudaDevice() {
    try (Device other = cuda.open(); Scope scope = other.scope()) {
      refusesInEveryOperation(scope.matrix(2, 2));
    }
  }

  @Test
  void refusesToComputeOnceClosed() {
    Device other = cuda.open();
    Scope scope = other.scope();
    Matrix matrix = scope.matrix(2, 2);
    other.close();
    other.close();
    List<Executable> calls = List.of(
      other::scope,
      () -> scope.matrix(1, 1),
      () -> other.upload(MemorySegment.ofArray(new float[4]), matrix),
      () -> other.download(matrix, MemorySegment.ofArray(new float[4])),
      () -> other.syrk(1, matrix, 0, matrix.rows(0, 2)),
      () -> other.triangularInverse(matrix)
    );
    for (Executable call : calls) {
      assertEquals("the device is closed", assertThrows(IllegalStateException.class, call).getMessage());
    }
    scope.close();
  }

  @Test
  void freesWhatItTook() {
    long before = count("live_allocations");
    long pinned = count("live_pinned");
    try (Device other = cuda.open()) {
      Scope open = other.scope();
      open.matrix(30, 40);
      long opened = count("live_allocations");
      try (Scope scope = other.scope()) {
        Matrix a = scope.matrix(50, 50);
        other.upload(MemorySegment.ofArray(positiveDefinite(50)), a);
        Matrix b = scope.matrix(50, 50);
        float[] values = new float[50];
        assertEquals(0, other.cholesky(a, b));
        other.triangularInverse(b);
        other.symmetricEigen(a, values, b);
        other.svd(a, b, values, scope.matrix(50, 50));
        assertEquals(opened + 3, count("live_allocations"));
      }
      assertEquals(opened, count("live_allocations"));
    }
    assertEquals(before, count("live_allocations"));
    assertEquals(pinned, count("live_pinned"));
  }

  @Test
  void tellsWhatThereIsNoRoomFor() {
    try (Scope scope = device.scope()) {
      String message = assertThrows(OutOfDeviceMemoryException.class, () ->
        scope.matrix(2_000_000, 500_000)
      ).getMessage();
      assertTrue(
        message.matches(
          "cuda: no room for a matrix of 2000000 x 500000, 4000000000000 bytes; \\d+\\.\\d of the \\d+\\.\\d GiB of .+ are free"
        ),
        message
      );
      assertArrayEquals(new float[6], get(scope.matrix(2, 3)));
    }
  }

  @Test
  void leavesNothingBehindWhereThereIsNoRoomForAFactorization() {
    int n = 100;
    float[] values = new float[n];
    Matrix a = put(positiveDefinite(n), n, n);
    Matrix b = put(random(n, n), n, n);
    float[] before = get(b);
    long allocations = count("live_allocations");
    // Less than the copy in double precision, then some more, until it is enough.
    int failures = 0;
    for (long room = 0; ; room += 20_000) {
      cuda.emulated().get().run("emulated_cuda_memory", count("live_bytes") + room);
      try {
        device.symmetricEigen(a, values, b);
        break;
      } catch (OutOfDeviceMemoryException e) {
        assertTrue(e.getMessage().matches("cuda: no room for .*eigenv.* 100.*"), e.getMessage());
        assertEquals(allocations, count("live_allocations"));
        assertArrayEquals(before, get(b));
        failures++;
      } finally {
        cuda.emulated().get().run("emulated_cuda_memory", 0L);
      }
    }
    assertTrue(failures > 3, "" + failures);
    assertFalse(Arrays.equals(before, get(b)));
  }

  /** Copies go in pieces of some MB: lengths of several, with and without a rest. */
  @Test
  void copiesLargeMatricesBitForBit() {
    for (int columns : new int[] { 1 << 20, 3 << 20, (3 << 20) + 1, 5_000_003 }) {
      try (Scope scope = device.scope(); Arena arena = Arena.ofConfined()) {
        MemorySegment values = arena.allocate(4L * columns);
        for (int i = 0; i < columns; i++) {
          values.setAtIndex(ValueLayout.JAVA_INT, i, i * 0x9e3779b9);
        }
        Matrix matrix = scope.matrix(1, columns);
        device.upload(values, matrix);
        MemorySegment found = arena.allocate(4L * columns);
        device.download(matrix, found);
        assertEquals(-1, values.mismatch(found), columns + " columns");
      }
    }
  }

  /** An operation that ends only once a copy is done, which it has another thread make. */
  @Test
  void copiesWhileAnOperationRuns() {
    CudaContext context = new CudaContext(0);
    CudaTransfers transfers = new CudaTransfers(context);
    try (CudaMemory memory = new CudaMemory(context); Arena arena = Arena.ofShared()) {
      float[] values = random(1, 5_000_000);
      long bytes = 4L * values.length;
      long address = memory.allocate(values.length, Float.BYTES, "numbers");
      MemorySegment found = arena.allocate(bytes);
      context.run(() -> {
        CompletableFuture<Void> copy = CompletableFuture.runAsync(() -> {
          transfers.upload(MemorySegment.ofArray(values), address, bytes);
          transfers.download(address, found, bytes);
        });
        copy.orTimeout(60, TimeUnit.SECONDS).join();
      });
      assertEquals(-1, MemorySegment.ofArray(values).mismatch(found));
    } finally {
      transfers.close();
      context.close();
    }
  }

  /** Closing waits for the operations that run, and refuses what comes later. */
  @Test
  void mayBeClosedWhileOthersCompute() {
    float[] a = positiveDefinite(120);
    CudaDevice other = cuda.open();
    AtomicBoolean refused = new AtomicBoolean();
    CompletableFuture<Void> first = new CompletableFuture<>();
    CompletableFuture<Void> work = CompletableFuture.runAsync(() -> {
      try {
        Scope scope = other.scope();
        Matrix matrix = scope.matrix(120, 120);
        while (true) {
          other.upload(MemorySegment.ofArray(a), matrix);
          assertEquals(0, other.cholesky(matrix, matrix));
          first.complete(null);
        }
      } catch (IllegalStateException e) {
        refused.set(true);
      } finally {
        first.complete(null);
      }
    });
    first.join();
    other.close();
    work.orTimeout(60, TimeUnit.SECONDS).join();
    assertTrue(refused.get());
  }
}
