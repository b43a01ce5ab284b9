package dev.attar.compute.cuda;

import static jcuda.driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
import static jcuda.driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
import static jcuda.driver.JCudaDriver.cuCtxSetCurrent;
import static jcuda.driver.JCudaDriver.cuDeviceGet;
import static jcuda.driver.JCudaDriver.cuDeviceGetAttribute;
import static jcuda.driver.JCudaDriver.cuDeviceGetName;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRelease;
import static jcuda.driver.JCudaDriver.cuDevicePrimaryCtxRetain;
import static jcuda.driver.JCudaDriver.cuMemGetInfo;
import static jcuda.driver.JCudaDriver.cuStreamCreate;
import static jcuda.driver.JCudaDriver.cuStreamDestroy;
import static jcuda.driver.JCudaDriver.cuStreamSynchronize;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Supplier;
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
  private final CUstream stream = new CUstream();
  private final String name;
  private final int computeCapability;
  private boolean closed;

  /** @param ordinal the GPU's number, from 0 */
  CudaContext(int ordinal) {
    CudaStatus.driver(cuDeviceGet(device, ordinal), "cuDeviceGet(%d)", ordinal);
    byte[] text = new byte[256];
    CudaStatus.driver(cuDeviceGetName(text, text.length, device), "cuDeviceGetName");
    String whole = new String(text, StandardCharsets.UTF_8);
    name = whole.substring(0, whole.indexOf('\0'));
    computeCapability =
      10 * attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
      attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    CudaStatus.driver(cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain(%s)", name);
    run(() ->
      CudaStatus.driver(cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate(%s)", name)
    );
  }

  private int attribute(int number) {
    int[] value = new int[1];
    CudaStatus.driver(cuDeviceGetAttribute(value, number, device), "cuDeviceGetAttribute(%d)", number);
    return value[0];
  }

  /** The card's name. */
  String name() {
    return name;
  }

  /** Ten times the major number and the minor one: 90 for Hopper. */
  int computeCapability() {
    return computeCapability;
  }

  /** The stream of operations. */
  CUstream stream() {
    return stream;
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
      try {
        return operation.get();
      } finally {
        if (lock.getHoldCount() == 1) {
          synchronize();
        }
      }
    } finally {
      lock.unlock();
    }
  }

  /** Waits for what was put on the stream. */
  void synchronize() {
    CudaStatus.driver(cuStreamSynchronize(stream), "cuStreamSynchronize");
  }

  /** How much memory there is, for messages: {@code 12.3 of 79.6 GiB are free}. */
  String freeMemory() {
    return call(() -> {
      long[] free = new long[1];
      long[] total = new long[1];
      CudaStatus.driver(cuMemGetInfo(free, total), "cuMemGetInfo");
      return "%.1f of %.1f GiB are free".formatted(
        Math.scalb((double) free[0], -30),
        Math.scalb((double) total[0], -30)
      );
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
