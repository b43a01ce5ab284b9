package dev.attar.compute.cuda;

import static jcuda.driver.JCudaDriver.cuCtxSetCurrent;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;
import static jcuda.driver.JCudaDriver.cuMemcpyDtoHAsync;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
import jcuda.Pointer;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;

/**
 * A GPU that is in use: its context, the stream on which operations run, and what memory is taken. One operation runs at a time; it
 * has the stream for itself and is complete when {@link #run} returns.
 */
final class CudaContext implements AutoCloseable {

  private final ReentrantLock lock = new ReentrantLock();
  private final Set<CudaMemory> memories = ConcurrentHashMap.newKeySet();
  private final CUdevice device = new CUdevice();
  private final CUcontext context = new CUcontext();
  private final Stream stream = new Stream();
  private final String name;
  private String last = "no kernel";
  private boolean closed;

  /** A stream that tells its address. */
  private static final class Stream extends CUstream {

    long address() {
      return getNativePointer();
    }
  }

  /** @param ordinal the GPU's number, from 0 */
  CudaContext(int ordinal) {
    CudaStatus.driver(cuDeviceGet(device, ordinal), "cuDeviceGet(%d)", ordinal);
    name = Cuda.name(device);
    CudaStatus.driver(cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain(%s)", name);
    try {
      run(() ->
        CudaStatus.driver(cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate(%s)", name)
      );
    } catch (RuntimeException | Error e) {
      int _ = cuDevicePrimaryCtxRelease(device);
      throw e;
    }
  }

  /** The card's name. */
  String name() {
    return name;
  }

  /** The stream of operations. */
  CUstream stream() {
    return stream;
  }

  /** Its address, for what is not called through JCuda. */
  long streamAddress() {
    return stream.address();
  }

  /** Has the calling thread talk to this GPU: calls in a thread go to the GPU that was made current there. */
  void makeCurrent() {
    CudaStatus.driver(cuCtxSetCurrent(context), "cuCtxSetCurrent");
  }

  /** Runs an operation: alone on the stream, and complete when this returns. Operations may be parts of others. */
  void run(Runnable operation) {
    call(() -> {
      operation.run();
      return null;
    });
  }

  /** The same with a result. */
  <T> T call(Supplier<T> operation) {
    lock.lock();
    try {
      if (closed) {
        throw new IllegalStateException("the device is closed");
      }
      makeCurrent();
      T result;
      try {
        result = operation.get();
      } catch (RuntimeException | Error e) {
        try {
          complete();
        } catch (CudaException later) {
          e.addSuppressed(later);
        }
        throw e;
      }
      complete();
      return result;
    } finally {
      lock.unlock();
    }
  }

  /** Waits for the whole operation, if it is no part of another. */
  private void complete() {
    if (lock.getHoldCount() == 1 && !closed) {
      synchronize();
    }
  }

  /** Waits for what was put on the stream. */
  void synchronize() {
    CudaStatus.driver(cuStreamSynchronize(stream), "cuStreamSynchronize after %s", last);
  }

  /** Says what was put on the stream: a fault in it shows only when the stream is waited for. */
  void launched(String kernel) {
    last = kernel;
  }

  /**
   * Within an operation: copies a few numbers that it has left on the GPU, after all that was put on the stream.
   *
   * @param to native memory, which is filled
   */
  void read(long address, MemorySegment to) {
    int status = cuMemcpyDtoHAsync(Pointer.to(to.asByteBuffer()), new DevicePointer(address), to.byteSize(), stream);
    CudaStatus.driver(status, "cuMemcpyDtoHAsync(%d)", to.byteSize());
    synchronize();
  }

  /** Bytes of memory that are free now, whoever uses the others. */
  long freeBytes() {
    return memory()[0];
  }

  /** How much memory there is, for messages: {@code 12.3 of the 79.6 GiB of NVIDIA H100 80GB HBM3 are free}. */
  String freeMemory() {
    long[] memory = memory();
    return "%.1f of the %.1f GiB of %s are free".formatted(
      Math.scalb((double) memory[0], -30),
      Math.scalb((double) memory[1], -30),
      name
    );
  }

  /** Free bytes and all. */
  private long[] memory() {
    return call(() -> {
      long[] free = new long[1];
      long[] total = new long[1];
      CudaStatus.driver(cuMemGetInfo(free, total), "cuMemGetInfo");
      return new long[] { free[0], total[0] };
    });
  }

  void add(CudaMemory memory) {
    memories.add(memory);
  }

  /** Whether the memory was taken until now. */
  boolean remove(CudaMemory memory) {
    return memories.remove(memory);
  }

  @Override
  public void close() {
    lock.lock();
    try {
      if (!closed) {
        makeCurrent();
        synchronize();
        new ArrayList<>(memories).forEach(CudaMemory::close);
        closed = true;
        CudaStatus.driver(cuStreamDestroy(stream), "cuStreamDestroy");
        CudaStatus.driver(cuDevicePrimaryCtxRelease(device), "cuDevicePrimaryCtxRelease");
      }
    } finally {
      lock.unlock();
    }
  }
}
